//! What is stored is read back, and nothing that is stored can do harm.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn at(key: &str, value: impl Into<Vec<u8>>) -> KeyValue {
    KeyValue {
        key: format!("/weft/v1/{key}"),
        value: value.into(),
        created: 7,
        modified: 9,
    }
}

const KEY: &str = "config/networking.istio.io/VirtualService/default/a";

fn decoded(value: impl Into<Vec<u8>>) -> Result<Object, String> {
    decode(&Layout::new("/weft/v1"), &at(KEY, value)).map_err(|undecodable| undecodable.error)
}

#[test]
fn every_served_version_is_read() {
    for version in ["v1", "v1beta1", "v1alpha3"] {
        let value = json!({
            "apiVersion": format!("networking.istio.io/{version}"),
            "kind": "VirtualService",
            "metadata": { "name": "a", "namespace": "default" },
            "spec": { "hosts": ["a"] },
        });
        let object = decoded(value.to_string()).unwrap();
        assert_eq!(
            (object.kind, object.revision()),
            (Kind::VirtualService, Some(Revision(9)))
        );
        assert_eq!(object.spec, json!({ "hosts": ["a"] }));
    }
}

#[test]
fn what_is_wrong_is_said() {
    let value = |api: &str, kind: &str, name: &str| {
        json!({ "apiVersion": api, "kind": kind, "metadata": { "name": name, "namespace": "default" } }).to_string()
    };
    let networking = "networking.istio.io/v1";
    let cases = [
        (String::new(), "EOF"),
        ("[]".into(), "invalid"),
        ("{}".into(), "apiVersion"),
        (
            value("v1", "VirtualService", "a"),
            "no kind VirtualService in v1",
        ),
        (
            value(networking, "Nothing", "a"),
            "no kind Nothing in networking.istio.io/v1",
        ),
        (
            value(networking, "Gateway", "a"),
            "it holds Gateway default/a, but the key says VirtualService default/a",
        ),
        (
            value(networking, "VirtualService", "b"),
            "it holds VirtualService default/b",
        ),
        (
            format!("{{\"spec\":{}", "[".repeat(100_000)),
            "recursion limit",
        ),
    ];
    for (value, error) in cases {
        let found = decoded(value.clone()).unwrap_err();
        assert!(found.contains(error), "{found} for {:.80}", value);
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((".{0,8}", inner), 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_resource_survives(spec in json_value(), label in ".{0,20}", annotation in ".{0,20}", uid in "[a-f0-9-]{0,36}") {
        let metadata = Metadata {
            name: "a".into(),
            namespace: "default".into(),
            uid,
            resource_version: Some("ignored".into()),
            generation: Some(3),
            labels: [(label.clone(), annotation.clone())].into(),
            annotations: [(annotation, label)].into(),
            ..Metadata::default()
        };
        let object = Object { kind: Kind::VirtualService, metadata, spec };
        let mut expected = object.clone();
        expected.metadata.resource_version = Some("9".into());
        prop_assert_eq!(decoded(encode(&object)), Ok(expected.clone()));

        let record = ChangeRecord {
            id: Uuid::now_v7(),
            revision: Revision(7),
            time: "2026-01-02T03:04:05Z".into(),
            author: Author { who: "w".into(), verb: "v".into(), ..Author::default() },
            edits: vec![Edit { key: object.key(), before: Some(expected.clone()), after: Some(expected) }],
            liveness: vec![Turn { namespace: "n".into(), name: "w".into(), up: false }],
            deeds: vec![Deed {
                kind: "Credential".into(),
                namespace: "shop".into(),
                name: "orders/abc".into(),
                before: Some(Revision(3)),
                after: false,
            }],
        };
        let stored = at("changes/x", encode_record(&record));
        let mut expected = record.clone();
        // What it left behind has the revision that the record was written at.
        expected.edits[0].after.as_mut().unwrap().metadata.resource_version = Some("7".into());
        prop_assert_eq!(decode_author(&stored), Some(record.author));
        prop_assert_eq!(decode_record(record.id, &stored), Ok(expected));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), spec in json_value()) {
        for value in [bytes, spec.to_string().into_bytes()] {
            let _ = decoded(value.clone());
            let _ = decode_record(Uuid::nil(), &at("changes/x", value.clone()));
            let _ = decode_author(&at("changes/x", value));
        }
    }
}
