//! What people read when a document has the wrong shape.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::check::samples;
use crate::{Kind, Metadata, Object, Options, check, documents};

/// The words of the libraries that read documents, which nobody should be shown.
const JARGON: [&str; 16] = [
    "invalid type",
    "invalid value",
    "invalid length",
    "unknown variant",
    "missing field",
    "duplicate field",
    "did not match any variant",
    "expected",
    "u16",
    "u32",
    "u64",
    "struct ",
    "enum",
    "sequence",
    "a map",
    "is not a value that this field takes",
];

fn errors(kind: Kind, spec: Value) -> Vec<String> {
    let metadata = Metadata {
        name: "x".into(),
        namespace: "default".into(),
        ..Metadata::default()
    };
    let object = Object {
        kind,
        metadata,
        spec,
    };
    match check(object, Options::default()) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

/// Each row: a kind, its spec in YAML, and everything that is said.
#[test]
fn every_message_names_field_value_rule_and_way_out() {
    let route = |text: &str| {
        format!("{{hosts: [a], http: [{{route: [{{destination: {{host: a}}}}], {text}}}]}}")
    };
    let to = |text: &str| format!("{{hosts: [a], http: [{{route: [{text}]}}]}}");
    let uri = |text: &str| route(&format!("match: [{{uri: {text}}}]"));
    let se =
        |text: &str| format!("{{hosts: [a.com], ports: [{{number: 80, name: http}}], {text}}}");
    let one_of = "must be an object with exactly one of exact, prefix, regex; choose one";
    let port = "must be a whole number from 0 to 65535";
    let share = "must be a whole number from 0 to 4294967295";
    let duration = "write numbers with units, such as \"5s\", \"1.5s\", \"10ms\" or \"1h30m\"";
    let resolution = "must be one of NONE, STATIC, DNS, DNS_ROUND_ROBIN, DYNAMIC_DNS";
    let quotes = "put it in quotes (YAML reads a bare y, yes, n, no, on or off like that)";
    let (vs, sv, dr, gw) = (
        Kind::VirtualService,
        Kind::ServiceEntry,
        Kind::DestinationRule,
        Kind::Gateway,
    );
    #[rustfmt::skip]
    let rows: Vec<(Kind, String, Vec<String>)> = vec![
        (vs, uri("{prefix: /a, exact: /b}"), vec![format!(r#"spec.http[0].match[0].uri: {{"prefix":"/a","exact":"/b"}}: {one_of}"#)]),
        (vs, uri("{}"), vec![format!("spec.http[0].match[0].uri: {{}}: {one_of}")]),
        (vs, uri("/a"), vec![format!(r#"spec.http[0].match[0].uri: "/a": {one_of}"#)]),
        (vs, uri("{exakt: /a}"), vec!["spec.http[0].match[0].uri.exakt: unknown field; did you mean exact?".into(), format!("spec.http[0].match[0].uri: {{}}: {one_of}")]),
        (vs, uri("{exact: 1}"), vec!["spec.http[0].match[0].uri.exact: 1: is read as a number and must be text; put it in quotes".into()]),
        (vs, route("match: [{ignoreUriCase: maybe}]"), vec![r#"spec.http[0].match[0].ignoreUriCase: "maybe": is read as text and must be true or false"#.into()]),
        (vs, route("match: [{ignoreUriCase: 'y'}]"), vec![r#"spec.http[0].match[0].ignoreUriCase: "y": is read as text and must be true or false; write true"#.into()]),
        (vs, route("match: [{ignoreUriCase: 'off'}]"), vec![r#"spec.http[0].match[0].ignoreUriCase: "off": is read as text and must be true or false; write false"#.into()]),
        (vs, route("match: [{ignoreUriCase: y}]"), vec![]),
        (vs, route("match: [{sourceLabels: {version: y}}]"), vec![format!("spec.http[0].match[0].sourceLabels.version: true: is read as true or false and must be text; {quotes}")]),
        (vs, route("match: [{sourceLabels: {country: no}}]"), vec![format!("spec.http[0].match[0].sourceLabels.country: false: is read as true or false and must be text; {quotes}")]),
        (vs, route("timeout: 5"), vec!["spec.http[0].timeout: 5: is read as a number and must be a duration: numbers with units, such as \"5s\", \"1.5s\", \"10ms\" or \"1h30m\"; put it in quotes".into()]),
        (vs, route("timeout: '5'"), vec![format!(r#"spec.http[0].timeout: "5": "5" is not a duration; {duration}"#)]),
        (vs, route("retries: []"), vec!["spec.http[0].retries: []: must be an object, with fields of its own".into()]),
        (vs, route("match: {uri: {exact: /}}"), vec![r#"spec.http[0].match: {"uri":{"exact":"/"}}: must be a list; put a dash before it (YAML) or brackets around it"#.into()]),
        (vs, to("{destination: {host: a}, weight: '50'}"), vec![format!(r#"spec.http[0].route[0].weight: "50": is read as text and {share}; remove the quotes"#)]),
        (vs, to("{destination: {host: a}, weight: many}"), vec![format!(r#"spec.http[0].route[0].weight: "many": {share}"#)]),
        (vs, to("{destination: {host: a}, weight: -1}"), vec![format!("spec.http[0].route[0].weight: -1: {share}")]),
        (vs, to("{destination: {host: a}, weight: 1.5}"), vec![format!("spec.http[0].route[0].weight: 1.5: {share}")]),
        (vs, to("{destination: {host: a, port: {number: 65536}}}"), vec![format!("spec.http[0].route[0].destination.port.number: 65536: {port}")]),
        (vs, to("{destination: {host: a, port: 80}}"), vec!["spec.http[0].route[0].destination.port: 80: must be an object, with fields of its own".into()]),
        (vs, to("{destination: {}}"), vec!["spec.http[0].route[0].destination.host: is missing; it must be text".into()]),
        (vs, to("{weight: 1}"), vec!["spec.http[0].route[0].destination: is missing; it must be an object, with fields of its own".into()]),
        (vs, to("{destination: null}"), vec!["spec.http[0].route[0].destination: null: is empty (null) and must be an object, with fields of its own; give it a value, or remove the field".into()]),
        (vs, "{hosts: null}".into(), vec!["spec.hosts: null: is empty (null) and must be a list; give it a value, or remove the field".into()]),
        (vs, "{hosts: a, htp: []}".into(), vec![r#"spec.hosts: "a": must be a list; put a dash before it (YAML) or brackets around it"#.into(), "spec.htp: unknown field; did you mean http?".into()]),
        (vs, "{hosts: [1, true]}".into(), vec!["spec.hosts[0]: 1: is read as a number and must be text; put it in quotes".into(), format!("spec.hosts[1]: true: is read as true or false and must be text; {quotes}")]),
        (sv, se("resolution: MAGIC"), vec![format!(r#"spec.resolution: "MAGIC": {resolution}; did you mean STATIC?"#)]),
        (sv, se("resolution: dns"), vec![format!(r#"spec.resolution: "dns": {resolution}; did you mean DNS?"#)]),
        (sv, se("resolution: 1"), vec![format!("spec.resolution: 1: is read as a number and {resolution}; put it in quotes")]),
        (sv, "{ports: []}".into(), vec!["spec.hosts: is missing; it must be a list".into()]),
        (sv, se("location: {a: b}"), vec![r#"spec.location: {"a":"b"}: must be one of MESH_EXTERNAL, MESH_INTERNAL"#.into()]),
        (dr, "{host: a, subsets: [{name: v1, labels: {version: 1}}]}".into(), vec!["spec.subsets[0].labels.version: 1: is read as a number and must be text; put it in quotes".into()]),
        (dr, "{host: a, workloadSelector: {labels: {a: b}, matchLabels: {a: b}}}".into(), vec![r#"spec.workloadSelector.matchLabels: {"a":"b"}: is another name of labels, which is there too; keep one of them"#.into()]),
        (dr, "{host: a, trafficPolicy: {loadBalancer: {simple: ROUNDROBIN}}}".into(), vec![r#"spec.trafficPolicy.loadBalancer.simple: "ROUNDROBIN": must be one of UNSPECIFIED, RANDOM, PASSTHROUGH, ROUND_ROBIN, LEAST_REQUEST, LEAST_CONN; did you mean ROUND_ROBIN?"#.into()]),
        (gw, "{servers: [{hosts: ['*'], port: {number: 80, name: http, protocol: HTTP, nodePort: 3}}]}".into(), vec!["spec.servers[0].port.nodePort: unknown field; the fields here are number, protocol, name, targetPort".into()]),
        (gw, "[]".into(), vec!["spec: []: must be an object, with fields of its own".into()]),
    ];
    for (kind, spec, said) in rows {
        let read = crate::yaml(&spec).unwrap();
        assert_eq!(errors(kind, read), said, "{spec}");
    }
}

/// Where text is no document: field and place.
#[test]
fn text_that_cannot_be_read_is_told_its_place() {
    let rows = [
        (
            "a: 1\na: 2\n",
            "YAML: line 2 column 1: the field \"a\" stands twice in one object; keep one",
        ),
        (
            "{\"a\": 1, \"b\": {\"c\": 1, \"c\": 2}}",
            "JSON: line 1 column 26: the field \"c\" stands twice in one object; keep one",
        ),
        (
            "{\"a\": 1",
            "JSON: line 1 column 7: the text ends before the value does",
        ),
        (
            "{a: 1}",
            "JSON: line 1 column 2: the name of a field must be in double quotes",
        ),
        (
            "kind: List\nitems: 3\n",
            "YAML: the items of a List must be a list, not 3",
        ),
        (
            "kind: List\nitems: [3]\n",
            "YAML: a document must be an object with apiVersion and kind, not 3",
        ),
        (
            "- a\n",
            "YAML: a document must be an object with apiVersion and kind, not [\"a\"]",
        ),
    ];
    for (text, said) in rows {
        assert_eq!(documents(text).unwrap_err().to_string(), said);
    }
    assert_eq!(
        crate::json("{} {}").unwrap_err().reason,
        "there is more text after the value"
    );
    assert_eq!(
        crate::json("[1,2.5,-3,null,true,\"a\",{}]").unwrap(),
        json!([1, 2.5, -3, null, true, "a", {}])
    );
}

/// The paths of all values in a document.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                pointers(item, &format!("{at}/{i}"), found);
            }
        }
        Value::Object(map) => {
            for (name, item) in map {
                let name = name.replace('~', "~0").replace('/', "~1");
                pointers(item, &format!("{at}/{name}"), found);
            }
        }
        _ => {}
    }
}

fn wrong() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        Value::Null,
        json!(true),
        json!(-1),
        json!(1.5),
        json!(99_999_999_999_u64),
        json!(""),
        json!("y"),
        json!("NOBODY"),
        json!([]),
        json!([[]]),
        json!([null]),
        json!({}),
        json!({"nobody": 1}),
        json!({"exact": "a", "prefix": "b"}),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// A value of the wrong type, anywhere in a valid document: nobody is shown the words of a parser, and every message
    /// begins with the path of a field.
    #[test]
    fn no_message_speaks_of_parsers(
        sample in prop::sample::select(samples::all()),
        at in any::<prop::sample::Index>(),
        wrong in wrong(),
    ) {
        let (kind, mut spec) = sample;
        let mut found = Vec::new();
        pointers(&spec, "", &mut found);
        let at = at.get(&found);
        *spec.pointer_mut(at).unwrap() = wrong.clone();
        let errors = errors(kind, spec);
        for error in errors {
            // What people wrote themselves is quoted and may be anything.
            let ours = error.rsplit(": ").next().unwrap();
            prop_assert!(error.starts_with("spec"), "{error}");
            for word in JARGON {
                prop_assert!(!ours.contains(word), "{kind} {at} = {wrong}: {error}");
            }
        }
    }
}
