//! Who counts, and what is said.

#![allow(clippy::unwrap_used)]

use jiff::Timestamp;
use ring::rand::SystemRandom;

use super::*;
use crate::authority::Policy;
use crate::authority::rotation::Step;

fn member(instance: &str, said: Option<u64>) -> Member {
    Member {
        instance: instance.into(),
        addresses: with(said, BTreeMap::new()),
        since: model::Revision(1),
    }
}

#[test]
fn everybody_has_acknowledged_what_the_slowest_has() {
    use Acknowledged::{Nobody, Sequence, Unknown};
    let me = member("me", Some(1));
    let five = member("five", Some(5));
    let four = member("four", Some(4));
    let new = member("new", None);
    for (own, replicas, all) in [
        (Sequence(5), vec![], Sequence(5)),
        (Sequence(5), vec![&me], Sequence(5)),
        (Nobody, vec![&me], Nobody),
        (Nobody, vec![&me, &five], Sequence(5)),
        (Sequence(5), vec![&me, &five], Sequence(5)),
        (Sequence(5), vec![&me, &five, &four], Sequence(4)),
        (Sequence(3), vec![&five, &four], Sequence(3)),
        (Sequence(5), vec![&me, &five, &new], Unknown),
        (Nobody, vec![&new, &five], Unknown),
    ] {
        let replicas: Vec<Member> = replicas.into_iter().cloned().collect();
        assert_eq!(together(own, "me", Some(&replicas)), all, "{replicas:?}");
        assert_eq!(together(own, "me", None), Unknown);
    }
}

#[test]
fn nothing_is_known_until_proxies_had_time_to_come_back() {
    use Acknowledged::{Nobody, Sequence, Unknown};
    let (grace, second) = (Duration::from_secs(60), Duration::from_secs(1));
    for own in [Nobody, Sequence(7)] {
        assert_eq!(settled(own, Duration::ZERO, grace), Unknown);
        assert_eq!(settled(own, grace - second, grace), Unknown);
        assert_eq!(settled(own, grace, grace), own);
    }
    let (a, b) = (member("a", None), member("b", Some(1)));
    let set = |members: &[&Member]| -> Vec<Member> { members.iter().copied().cloned().collect() };
    assert!(left(&set(&[&a, &b]), &set(&[&b])));
    assert!(left(&set(&[&a]), &set(&[&b])));
    assert!(!left(&set(&[&a]), &set(&[&a, &b])));
    assert!(!left(&[], &set(&[&a])));
}

#[test]
fn a_replica_speaks_while_a_root_is_shown() {
    let (random, now) = (SystemRandom::new(), Timestamp::now());
    let policy = Policy::default();
    let quiet = Authority::create(&"td".parse().unwrap(), &policy, now, &random).unwrap();
    let shown = quiet
        .take(&Step::PrepareRoot, &policy, now, &random)
        .unwrap();
    let active = shown
        .take(&Step::ActivateRoot, &policy, now, &random)
        .unwrap();
    for (own, expected) in [
        (Acknowledged::Sequence(1), Some(1)),
        (Acknowledged::Sequence(2), Some(2)),
        (Acknowledged::Nobody, Some(shown.sequence())),
    ] {
        assert_eq!(said(own, &shown), expected);
        assert_eq!(said(own, &quiet), None);
        assert_eq!(said(own, &active), None);
    }
    assert!(shown.sequence() > quiet.sequence());
}
