#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{Kind, Metadata, Object, Options, check};

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

proptest! {
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
        let object = Object { kind, metadata, spec };
        if let Ok(first) = check(object, Options::default()) {
            let again = check(first.object.clone(), Options::default()).unwrap();
            prop_assert_eq!(again.object, first.object);
            prop_assert_eq!(again.resource, first.resource);
        }
    }
}
