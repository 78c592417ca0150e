//! Batches as transactions, and what their refusals mean.

#![allow(clippy::unwrap_used)]

use model::{Kind, Metadata, Object};
use serde_json::json;

use super::*;

fn object(name: &str) -> Object {
    let metadata = Metadata {
        name: name.into(),
        namespace: "default".into(),
        ..Metadata::default()
    };
    Object {
        kind: Kind::Gateway,
        metadata,
        spec: json!({ "a": 1 }),
    }
}

fn sent() -> Sent {
    let layout = Layout::new("/weft/v1");
    let ops = vec![
        Op::Put {
            object: object("a"),
            expect: Expect::Absent,
        },
        Op::Put {
            object: object("b"),
            expect: Expect::At(Revision(5)),
        },
        Op::Liveness {
            namespace: "default".into(),
            name: "w".into(),
            up: false,
        },
    ];
    let batch = Batch::new(&layout, ops).unwrap();
    let stored = KeyValue {
        key: layout.config(&object("b").key()),
        value: codec::encode(&object("b")),
        created: 5,
        modified: 5,
    };
    batch
        .write(&layout, vec![None, Some(stored), None], Author::default())
        .unwrap()
        .unwrap()
}

#[test]
fn every_resource_and_the_record_are_compared_and_written() {
    let Sent { txn, .. } = sent();
    let expected: Vec<_> = txn
        .expect
        .iter()
        .map(|(key, at)| (key.rsplit('/').nth(3).unwrap(), *at))
        .collect();
    assert_eq!(
        expected,
        [
            ("networking.istio.io", 0),
            ("networking.istio.io", 5),
            ("weft", 0)
        ]
    );
    assert_eq!(
        txn.writes.len(),
        4,
        "two resources, one workload, one record"
    );
}

#[test]
fn a_refusal_is_a_conflict_or_an_earlier_success() {
    let sent = sent();
    let conflict = |actual: &[i64]| match sent.refused(actual, false) {
        Err(Error::Conflict { key, actual }) => (key.name.to_string(), actual),
        other => panic!("{other:?}"),
    };
    assert_eq!(conflict(&[8, 5, 0]), ("a".to_owned(), Some(Revision(8))));
    assert_eq!(conflict(&[0, 9, 0]), ("b".to_owned(), Some(Revision(9))));
    assert_eq!(conflict(&[0, 0, 0]), ("b".to_owned(), None));
    // The record is there: an earlier attempt took effect, whatever was written since.
    for lost in [false, true] {
        assert_eq!(sent.refused(&[12, 6, 6], lost).unwrap(), Revision(6));
    }
}

#[test]
fn after_a_lost_attempt_only_what_is_final_is_a_conflict() {
    let sent = sent();
    // What exists and should not may be deleted before the lost attempt arrives.
    let unknown = sent.refused(&[8, 5, 0], true);
    assert!(matches!(unknown, Err(Error::Unavailable(_))), "{unknown:?}");
    // Nothing is ever again at a revision that it has left.
    for actual in [[0, 9, 0], [0, 0, 0], [8, 9, 0]] {
        let conflict = sent.refused(&actual, true);
        assert!(
            matches!(conflict, Err(Error::Conflict { .. })),
            "{conflict:?}"
        );
    }
}

#[test]
fn the_size_is_not_underestimated() {
    let sent = sent();
    let least: usize = sent
        .txn
        .writes
        .iter()
        .map(|write| match write {
            Write::Put { key, value, .. } => key.len() + value.len(),
            Write::Delete { key } => key.len(),
        })
        .sum();
    let keys: usize = sent.txn.expect.iter().map(|(key, _)| 2 * key.len()).sum();
    assert!(
        sent.bytes() > least + keys,
        "{} {least} {keys}",
        sent.bytes()
    );
}
