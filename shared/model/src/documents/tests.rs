#![allow(clippy::unwrap_used)]

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;

use super::*;
use crate::{Kind, Metadata, Object, Options, Treat, check};

#[test]
fn yaml_documents_json_values_and_lists() {
    assert_eq!(
        documents("---\na: 1\n---\n---\nb: x\n").unwrap(),
        [json!({"a": 1}), json!({"b": "x"})]
    );
    assert_eq!(
        documents("{\"a\": 1}\n{\"b\": 2}").unwrap(),
        [json!({"a": 1}), json!({"b": 2})]
    );
    let flow = "{a: 1}\n---\nb: 2\n";
    assert_eq!(documents(flow).unwrap(), [json!({"a": 1}), json!({"b": 2})]);
    let list = "kind: List\nitems:\n- a: 1\n- b: 2\n";
    assert_eq!(documents(list).unwrap(), [json!({"a": 1}), json!({"b": 2})]);
    assert_eq!(documents("").unwrap(), Vec::<Value>::new());
}

#[test]
fn what_is_no_document_is_an_error_with_a_place() {
    assert!(
        documents("- a\n- b\n")
            .unwrap_err()
            .to_string()
            .contains("must be an object")
    );
    assert!(
        documents("a: b: c\n")
            .unwrap_err()
            .to_string()
            .contains("line")
    );
    assert!(
        documents("{\"a\": }")
            .unwrap_err()
            .to_string()
            .contains("line 1 column")
    );
    assert!(
        documents("a: 1\na: 2\n").is_err(),
        "a field cannot stand twice"
    );
}

#[test]
fn bombs_are_refused_by_their_budget() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let item = format!("*a{}", i - 1);
        bomb += &format!("a{i}: &a{i} [{}]\n", vec![item; 9].join(", "));
    }
    assert!(documents(&bomb).is_err());
    assert!(
        documents(&format!(
            "a: {}{}",
            "[".repeat(100_000),
            "]".repeat(100_000)
        ))
        .is_err()
    );
    assert!(
        documents(&format!(
            "{{\"a\": {}{}}}",
            "[".repeat(100_000),
            "]".repeat(100_000)
        ))
        .is_err()
    );
}

fn spec() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop::sample::select(vec!["5s", "*", "a.b", "HTTP", "STATIC", "v1", "127.0.0.1"])
            .prop_map(Value::from),
    ];
    let name = prop::sample::select(vec![
        "hosts",
        "http",
        "match",
        "route",
        "destination",
        "host",
        "uri",
        "exact",
        "regex",
        "weight",
        "ports",
        "number",
        "name",
        "protocol",
        "servers",
        "selector",
        "trafficPolicy",
        "subsets",
        "labels",
        "endpoints",
        "address",
        "egress",
        "ingress",
        "port",
        "tls",
        "layer",
        "probe",
        "template",
        "timeout",
        "fault",
    ]);
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..6)
                .prop_map(|fields| fields
                    .into_iter()
                    .map(|(k, v)| (k.to_owned(), v))
                    .collect::<serde_json::Map<_, _>>())
                .prop_map(Value::Object),
        ]
    })
}

/// Documents that are right: the policies that the compiler is tested on.
static CORPUS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let cases = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../compile/testdata"));
    let mut files: Vec<_> = cases
        .unwrap()
        .map(|it| it.unwrap().path().join("in.yaml"))
        .collect();
    files.sort();
    let corpus: Vec<String> = files
        .iter()
        .filter_map(|it| std::fs::read_to_string(it).ok())
        .collect();
    assert!(corpus.len() > 10, "the compiler's cases have moved");
    corpus
});

/// What documents say, as far as they are resources.
fn objects(documents: Vec<Value>) -> impl Iterator<Item = Object> {
    let object = |document: Value| {
        let metadata = Metadata {
            name: "x".into(),
            namespace: "ns".into(),
            ..Metadata::default()
        };
        let (group, version) = document["apiVersion"].as_str()?.split_once('/')?;
        let kind = Kind::from_gvk(group, version, document["kind"].as_str()?)?;
        Some(Object {
            kind,
            metadata,
            spec: document["spec"].clone(),
        })
    };
    documents.into_iter().filter_map(object)
}

#[test]
fn the_corpus_is_right() {
    let all = CORPUS
        .iter()
        .flat_map(|text| objects(documents(text).unwrap()));
    // Some have what has no effect yet.
    let options = Options {
        unsupported: Treat::Warn,
        ..Options::default()
    };
    let all: Vec<_> = all.map(|it| check(it, options).unwrap()).collect();
    assert!(all.len() > 50);
}

/// A text of the corpus with a few places overwritten, left out or doubled by what means something in YAML.
fn damaged() -> impl Strategy<Value = String> {
    let scraps = vec![
        "", " ", "\n", "\n  ", "- ", ": ", "{", "}", "[", "]", ",", "'", "\"", "&a ", "*a", "!",
        "|\n", "#", "~", "0", "-1", "1e9", "null", "true", "\u{0}", "µ", "---\n", "*", "%",
        "spec:", "host: x", "<<: ",
    ];
    let change = (any::<Index>(), 0..12usize, prop::sample::select(scraps));
    (any::<Index>(), prop::collection::vec(change, 1..4)).prop_map(|(of, changes)| {
        let mut text: Vec<char> = CORPUS[of.index(CORPUS.len())].chars().collect();
        for (at, len, scrap) in changes {
            let at = at.index(text.len());
            let end = (at + len).min(text.len());
            text.splice(at..end, scrap.chars());
        }
        text.into_iter().collect()
    })
}

/// A resource of the corpus in which one value, at any depth, is another one.
fn changed() -> impl Strategy<Value = Object> {
    (any::<Index>(), any::<Index>(), any::<Index>(), spec()).prop_map(
        |(of, which, place, value)| {
            let all: Vec<Object> =
                objects(documents(&CORPUS[of.index(CORPUS.len())]).unwrap()).collect();
            let mut object = which.get(all.as_slice()).clone();
            let mut places = Vec::new();
            pointers(&object.spec, String::new(), &mut places);
            *object
                .spec
                .pointer_mut(&places[place.index(places.len())])
                .unwrap() = value;
            object
        },
    )
}

fn pointers(value: &Value, at: String, out: &mut Vec<String>) {
    let below = |step: &str| format!("{at}/{}", step.replace('~', "~0").replace('/', "~1"));
    match value {
        Value::Object(map) => map.iter().for_each(|(k, v)| pointers(v, below(k), out)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(i, v)| pointers(v, below(&i.to_string()), out)),
        _ => {}
    }
    out.push(at);
}

/// An answer, the same for what was accepted once.
fn stable(object: Object) -> Result<(), TestCaseError> {
    if let Ok(first) = check(object, Options::default()) {
        let again = check(first.object.clone(), Options::default()).unwrap();
        prop_assert_eq!(again.object, first.object);
        prop_assert_eq!(again.resource, first.resource);
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_damage_to_a_document_panics(text in damaged()) {
        if let Ok(documents) = documents(&text) {
            for object in objects(documents) {
                stable(object)?;
            }
        }
    }

    #[test]
    fn no_change_to_a_resource_panics(object in changed()) {
        stable(object)?;
    }

    /// What is read as YAML is read as JSON.
    #[test]
    fn yaml_and_json_are_one(of: Index) {
        let read = documents(&CORPUS[of.index(CORPUS.len())]).unwrap();
        let json: Vec<String> = read.iter().map(Value::to_string).collect();
        prop_assert_eq!(documents(&json.join("\n")).unwrap(), read);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
        let _result = documents(&text);
    }

    #[test]
    fn bytes_of_yaml_syntax_never_panic(text in "[-:{}\\[\\]&*!|>'\"#%@`a0 \n]{0,120}") {
        let _result = documents(&text);
    }

    /// Whatever the spec, checking it gives an answer; what is accepted is accepted again, unchanged.
    #[test]
    fn checking_never_panics_and_is_stable(spec in spec(), kind in prop::sample::select(Kind::ALL.to_vec())) {
        let metadata = Metadata { name: "x".into(), namespace: "ns".into(), ..Metadata::default() };
        stable(Object { kind, metadata, spec })?;
    }
}
