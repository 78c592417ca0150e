#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::*;

fn at(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}

fn node(id: &str) -> Arc<Node> {
    Arc::new(Node {
        id: id.into(),
        ..Node::default()
    })
}

fn name(n: usize) -> String {
    format!("sidecar~shop~{n:04}")
}

/// A push of revision 7 to as many proxies, the even and the odd ones in classes of their own.
fn round(proxies: usize) -> Round {
    let expected = (0..proxies).map(|n| Expected {
        node: name(n).into(),
        class: n as u64 % 2,
        revision: 7,
    });
    Round::new(origin(), at(0), expected.collect())
}

fn origin() -> Origin {
    Origin {
        revision: 7,
        ..Origin::default()
    }
}

fn rounds(proxies: usize) -> Rounds {
    let mut rounds = Rounds::default();
    let due = Instant::now() + Duration::from_secs(3600);
    assert!(rounds.open(round(proxies), due).is_empty());
    rounds
}

fn send(rounds: &mut Rounds, n: usize, revision: i64, millis: u64) {
    rounds.sent(&Sent {
        node: node(&name(n)),
        ty: "CDS",
        revision,
        version: "v".into(),
        resources: 2,
        removed: 1,
        bytes: 100,
        at: at(millis),
    });
}

/// An answer about clusters; `acked` is what the stream runs of everything then.
fn answer(
    rounds: &mut Rounds,
    n: usize,
    revision: i64,
    refusal: Option<&str>,
    acked: Option<i64>,
    millis: u64,
) -> Vec<Report> {
    let refusal = refusal.map(ToOwned::to_owned);
    let answer = Answer {
        stream: n as u64,
        node: node(&name(n)),
        given: Some(("CDS", revision, refusal)),
        at: at(millis),
    };
    rounds.answer(&answer, acked)
}

fn names(report: &Report) -> Vec<(String, End)> {
    let named = report.named.iter();
    named.map(|it| (it.node.to_string(), it.end)).collect()
}

#[test]
fn a_push_ends_with_its_last_answer() {
    let mut rounds = rounds(2);
    for n in 0..2 {
        send(&mut rounds, n, 7, 1);
    }
    assert!(answer(&mut rounds, 0, 7, None, Some(7), 5).is_empty());
    // One type is answered, another is not yet.
    assert!(answer(&mut rounds, 1, 7, None, Some(6), 6).is_empty());
    let reports = answer(&mut rounds, 1, 7, None, Some(7), 9);
    let [report] = &reports[..] else { panic!() };
    assert_eq!((report.began, report.ended), (at(0), at(9)));
    assert_eq!(report.ended(End::Acked), 2);
    let clusters = &report.classes[&1].types["CDS"];
    let sizes = (clusters.resources, clusters.removed, clusters.bytes);
    assert_eq!(sizes, (2, 1, 100));
    assert_eq!((clusters.first, clusters.last), (at(1), at(9)));
    assert_eq!(rounds.due(), None);
}

#[test]
fn what_came_before_is_no_answer() {
    let mut rounds = rounds(1);
    send(&mut rounds, 0, 6, 1);
    assert!(answer(&mut rounds, 0, 6, Some("of before"), Some(6), 2).is_empty());
    let reports = answer(&mut rounds, 0, 8, None, Some(8), 3);
    assert_eq!(names(&reports[0]), [(name(0), End::Acked)]);
    assert!(reports[0].named[0].pushed.is_empty());
}

#[test]
fn one_answer_ends_all_pushes_that_it_covers() {
    let mut rounds = rounds(1);
    let due = Instant::now() + Duration::from_secs(3600);
    drop(rounds.open(round(1), due));
    assert_eq!(answer(&mut rounds, 0, 8, None, Some(8), 3).len(), 2);
}

#[test]
fn who_refused_is_named_with_the_reason_although_the_rest_was_taken() {
    let mut rounds = rounds(1);
    send(&mut rounds, 0, 7, 1);
    assert!(answer(&mut rounds, 0, 7, Some("bad"), Some(6), 2).is_empty());
    send(&mut rounds, 0, 7, 3);
    let reports = answer(&mut rounds, 0, 7, None, Some(7), 4);
    assert_eq!(names(&reports[0]), [(name(0), End::Nacked)]);
    let pushed = &reports[0].named[0].pushed[0];
    assert_eq!(pushed.refusal.as_deref(), Some("bad"));
    assert_eq!((pushed.responses, pushed.bytes), (2, 200));
    assert_eq!(reports[0].classes[&0].types["CDS"].refused, 1);
}

#[test]
fn of_many_the_slowest_the_failed_and_the_missing_are_named() {
    let mut rounds = rounds(1000);
    let gone = Answer {
        stream: 0,
        node: node(&name(0)),
        given: None,
        at: at(1),
    };
    assert!(rounds.answer(&gone, None).is_empty());
    send(&mut rounds, 1, 7, 1);
    drop(answer(&mut rounds, 1, 7, Some("bad"), Some(6), 2));
    for n in (3..1000).rev() {
        let reports = answer(&mut rounds, n, 7, None, Some(7), 2000 - n as u64);
        assert!(reports.is_empty());
    }
    let late = Instant::now() + Duration::from_secs(7200);
    let reports = rounds.expire(late, at(30_000));
    let [report] = &reports[..] else { panic!() };
    let expected = [
        (name(0), End::Gone),
        (name(1), End::Nacked),
        (name(2), End::Missing),
        (name(5), End::Acked),
        (name(4), End::Acked),
        (name(3), End::Acked),
    ];
    assert_eq!(names(report), expected);
    let ended = [End::Acked, End::Nacked, End::Gone, End::Missing].map(|end| report.ended(end));
    assert_eq!(ended, [997, 1, 1, 1]);
    assert_eq!(report.total(), 1000);
    assert_eq!(report.classes.len(), 2);
}

#[test]
fn what_is_kept_is_bounded() {
    let mut rounds = Rounds::default();
    let due = Instant::now() + Duration::from_secs(3600);
    let reports: Vec<Report> = (0..MOST_OPEN + 3)
        .flat_map(|_| rounds.open(round(1), due))
        .collect();
    assert_eq!(reports.len(), 3);
    // Nobody can say yet that it does not answer.
    assert_eq!(reports[0].ended(End::CutShort), 1);

    let mut rounds = Rounds::default();
    drop(rounds.open(round(MOST_FAILED + 5), due));
    let reports = rounds.end(at(1));
    assert_eq!(reports[0].named.len(), MOST_FAILED);
    let others = &reports[0].others[&End::Missing];
    let expected: Vec<Arc<str>> = (MOST_FAILED..MOST_FAILED + 5)
        .map(|n| name(n).into())
        .collect();
    assert_eq!(*others, expected);
    assert_eq!(reports[0].ended(End::Missing), MOST_FAILED + 5);
}

#[test]
fn a_proxy_with_two_streams_answers_on_both() {
    let expected = (0..2).map(|_| Expected {
        node: name(0).into(),
        class: 0,
        revision: 7,
    });
    let round = Round::new(origin(), at(0), expected.collect());
    let mut rounds = Rounds::default();
    drop(rounds.open(round, Instant::now()));
    let on = |stream: u64| Answer {
        stream,
        node: node(&name(0)),
        given: Some(("CDS", 7, None)),
        at: at(1),
    };
    assert!(rounds.answer(&on(1), Some(7)).is_empty());
    assert!(rounds.answer(&on(1), Some(7)).is_empty());
    assert_eq!(rounds.answer(&on(2), Some(7)).len(), 1);
}
