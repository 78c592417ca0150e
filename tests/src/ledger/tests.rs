#![allow(clippy::unwrap_used)]
use super::*;

/// A history without a flaw; tests plant one.
struct Told3 {
    calls: Vec<Call>,
    records: Vec<Record>,
    last: State,
}

fn call(client: usize, [begun, ended]: [u64; 2], act: Act) -> Call {
    Call {
        client,
        begun,
        ended,
        act,
    }
}

fn edits(edits: &[(&str, u64)]) -> Edits {
    let edits = edits.iter();
    edits
        .map(|(key, value)| ((*key).to_owned(), Some(*value)))
        .collect()
}

fn state(state: &[(&str, u64, i64)]) -> State {
    let state = state.iter();
    state
        .map(|(key, value, at)| ((*key).to_owned(), (*value, *at)))
        .collect()
}

fn write(of: &[(&str, u64)], told: Told) -> Act {
    Act::Write {
        edits: edits(of),
        told,
    }
}

fn read(key: &str, seen: Option<(u64, i64)>) -> Act {
    let key = key.to_owned();
    Act::Read { key, seen }
}

fn record(revision: i64, of: &[(&str, u64)], before: &[(&str, u64, i64)]) -> Record {
    Record {
        revision,
        edits: edits(of),
        before: state(before),
    }
}

/// Two clients: a batch of 1 under `a` and `b`, 2 under `a` by somebody who was not answered, a deletion of `b`.
fn flawless() -> Told3 {
    let deletion = Edits::from([("b".to_owned(), None)]);
    let calls = vec![
        call(0, [0, 2], write(&[("a", 1), ("b", 1)], Told::Done(5))),
        call(1, [1, 3], read("a", None)),
        call(1, [4, 5], read("a", Some((1, 5)))),
        call(0, [6, 9], write(&[("a", 2)], Told::Unknown)),
        call(1, [7, 8], write(&[("a", 3)], Told::Refused)),
        call(1, [10, 11], read("a", Some((2, 7)))),
        call(
            0,
            [12, 13],
            Act::List {
                revision: 8,
                seen: state(&[("a", 2, 7), ("b", 1, 5)]),
            },
        ),
        call(
            0,
            [14, 15],
            Act::Write {
                edits: deletion.clone(),
                told: Told::Done(9),
            },
        ),
        call(1, [16, 17], read("b", None)),
    ];
    let records = vec![
        record(5, &[("a", 1), ("b", 1)], &[]),
        record(7, &[("a", 2)], &[("a", 1, 5)]),
        Record {
            revision: 9,
            edits: deletion,
            before: state(&[("b", 1, 5)]),
        },
    ];
    Told3 {
        calls,
        records,
        last: state(&[("a", 2, 7)]),
    }
}

fn violations(plant: impl FnOnce(&mut Told3)) -> Vec<Violation> {
    let mut told = flawless();
    plant(&mut told);
    check(&told.calls, &told.records, &told.last)
}

#[test]
fn what_can_be_true_is_accepted() {
    assert_eq!(violations(|_| ()), []);
    // A write that nobody was told of need not have happened.
    let unwritten = violations(|told| {
        told.records.remove(1);
        told.calls.drain(5..7);
        told.last = state(&[("a", 1, 5)]);
    });
    assert_eq!(unwritten, []);
}

#[test]
fn an_acknowledged_write_that_is_not_there_is_lost() {
    let found = violations(|told| {
        told.records.clear();
        told.last.clear();
        told.calls.truncate(1);
    });
    assert!(
        matches!(found[..], [Violation::Lost { revision: 5, .. }]),
        "{found:?}"
    );
    // In the records, and not in the state.
    let found = violations(|told| told.last.clear());
    assert!(
        matches!(found[..], [Violation::Lost { revision: 9, .. }]),
        "{found:?}"
    );
    // Overwritten by one who did not know of it.
    let found = violations(|told| told.records[1].before.clear());
    assert!(
        matches!(found[..], [Violation::Lost { revision: 7, .. }]),
        "{found:?}"
    );
    // Acknowledged at a revision at which something else happened.
    let found = violations(|told| told.calls[7].act = write(&[("b", 9)], Told::Done(9)));
    assert!(
        matches!(
            found[..],
            [
                Violation::Nowhere { revision: 9, .. },
                Violation::Lost { revision: 9, .. }
            ]
        ),
        "{found:?}"
    );
}

#[test]
fn what_nobody_asked_for_comes_from_nowhere() {
    let stranger = record(11, &[("a", 99)], &[("a", 2, 7)]);
    let found = violations(|told| {
        told.records.push(stranger);
        told.last = state(&[("a", 99, 11)]);
    });
    assert!(
        matches!(found[..], [Violation::Nowhere { revision: 11, .. }]),
        "{found:?}"
    );
    // It was said to be refused.
    let found = violations(|told| {
        told.records.push(record(11, &[("a", 3)], &[("a", 2, 7)]));
        told.last = state(&[("a", 3, 11)]);
    });
    assert!(
        matches!(found[..], [Violation::Nowhere { revision: 11, .. }]),
        "{found:?}"
    );
    // Nobody deleted it a second time.
    let found = violations(|told| {
        let again = Record {
            revision: 11,
            before: State::new(),
            ..told.records[2].clone()
        };
        told.records.push(again);
    });
    assert!(
        matches!(found[..], [Violation::Nowhere { revision: 11, .. }]),
        "{found:?}"
    );
    // Seen, and nowhere in the records.
    let found = violations(|told| told.calls[2].act = read("a", Some((1, 6))));
    assert!(
        matches!(found[..], [Violation::Nowhere { revision: 6, .. }]),
        "{found:?}"
    );
    // Seen before it was asked for.
    let found = violations(|told| told.calls[3].begun = 12);
    assert!(
        found
            .iter()
            .all(|v| matches!(v, Violation::Nowhere { revision: 7, .. }))
            && !found.is_empty(),
        "{found:?}"
    );
}

#[test]
fn what_is_unknown_happens_at_most_once() {
    let found = violations(|told| {
        told.records.push(record(11, &[("a", 2)], &[("a", 2, 7)]));
        told.last = state(&[("a", 2, 11)]);
    });
    assert_eq!(
        found,
        [Violation::Twice {
            value: 2,
            revisions: [7, 11]
        }]
    );
}

#[test]
fn a_read_of_what_was_known_to_be_replaced_is_stale() {
    // Client 2 reads what client 1 has seen replaced.
    let late = || call(2, [18, 19], read("a", Some((1, 5))));
    let found = violations(|told| told.calls.push(late()));
    assert_eq!(
        found,
        [Violation::Stale {
            call: late(),
            known: 9
        }]
    );
    // Nothing, after something was there.
    let none = || call(2, [18, 19], read("a", None));
    let found = violations(|told| told.calls.push(none()));
    assert_eq!(
        found,
        [Violation::Stale {
            call: none(),
            known: 9
        }]
    );
}

#[test]
fn a_client_does_not_go_back() {
    let old = || {
        let seen = state(&[("a", 2, 7), ("b", 1, 5)]);
        call(0, [18, 19], Act::List { revision: 7, seen })
    };
    let found = violations(|told| told.calls.push(old()));
    assert_eq!(
        found,
        [Violation::Back {
            call: old(),
            known: 9
        }]
    );
}

#[test]
fn a_write_comes_after_what_was_known_when_it_began() {
    let early = || call(2, [3, 4], write(&[("c", 4)], Told::Done(3)));
    let found = violations(|told| {
        told.calls.push(early());
        told.records.push(record(3, &[("c", 4)], &[]));
        told.last.insert("c".into(), (4, 3));
        told.calls.remove(6);
    });
    assert_eq!(
        found,
        [Violation::Order {
            call: early(),
            known: 5
        }]
    );
}

#[test]
fn half_a_batch_is_seen() {
    // In the records.
    let found = violations(|told| {
        told.records[0] = record(5, &[("a", 1)], &[]);
        told.records.truncate(1);
        told.calls.truncate(3);
        told.last = state(&[("a", 1, 5)]);
    });
    assert!(
        found
            .iter()
            .any(|v| matches!(v, Violation::Half { revision: 5, .. })),
        "{found:?}"
    );
    // By a list.
    let found = violations(|told| {
        let seen = state(&[("a", 1, 5)]);
        told.calls
            .insert(3, call(1, [5, 6], Act::List { revision: 5, seen }));
    });
    assert!(
        matches!(found[..], [Violation::Half { revision: 5, .. }]),
        "{found:?}"
    );
}
