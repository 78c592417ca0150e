use pusher_api::v1::Replica;
use store::Member;

use super::*;

fn answer(
    instance: &str,
    revision: i64,
    proxies: &[(&str, Progress)],
) -> (Member, GetRolloutResponse) {
    let member = Member {
        instance: instance.into(),
        addresses: BTreeMap::new(),
        since: Revision(1),
    };
    let proxies = proxies.iter().map(|(id, progress)| ProxyProgress {
        id: (*id).into(),
        progress: (*progress).into(),
        refusals: Vec::new(),
    });
    let replica = Replica {
        revision,
        ..Replica::default()
    };
    let answer = GetRolloutResponse {
        replica: Some(replica),
        proxies: proxies.collect(),
        active: Vec::new(),
    };
    (member, answer)
}

fn standing(answered: Vec<(Member, GetRolloutResponse)>, silent: Vec<Silent>) -> Standing {
    Standing::of(Revision(7), Answers { answered, silent }, &|_| true)
}

#[test]
fn only_what_all_run_is_reached() {
    use Progress::{Acked, Behind, Refused, Settled, Warm};
    let one = |progress| {
        standing(
            vec![
                answer("a", 7, &[("x", Settled)]),
                answer("b", 8, &[("y", progress)]),
            ],
            Vec::new(),
        )
    };
    assert!(one(Settled).is_reached());
    for short in [Acked, Behind, Warm, Refused] {
        assert!(!one(short).is_reached(), "{short:?}");
    }
    assert!(one(Refused).is_final() && !one(Warm).is_final());
}

#[test]
fn what_is_not_known_is_not_reached() {
    let settled = |revision| answer("a", revision, &[("x", Progress::Settled)]);
    assert!(standing(vec![settled(7)], Vec::new()).is_reached());
    let lagging = standing(vec![settled(6)], Vec::new());
    assert!(!lagging.is_reached() && !lagging.is_final());
    let mut waiting = answer("b", 7, &[]);
    if let Some(replica) = &mut waiting.1.replica {
        replica.unserved = 1;
    }
    let waiting = standing(vec![settled(7), waiting], Vec::new());
    assert!(!waiting.is_reached() && !waiting.is_final() && waiting.ask_again());
    let silent = Silent {
        instance: "b".into(),
        address: "x".into(),
        reason: "away".into(),
    };
    let silent = standing(vec![settled(7)], vec![silent]);
    assert!(!silent.is_reached() && !silent.is_final());
    assert!(!standing(Vec::new(), Vec::new()).is_reached());
}

#[test]
fn a_proxy_that_moves_is_as_far_as_the_lesser_says() {
    let both = |one, other| {
        let answered = vec![
            answer("a", 7, &[("x", one)]),
            answer("b", 7, &[("x", other)]),
        ];
        standing(answered, Vec::new()).to_json(Revision(7), 1)
    };
    let json = both(Progress::Settled, Progress::Behind);
    assert_eq!(
        (&json["total"], &json["state"]),
        (&json!(1), &json!("behind"))
    );
    let json = both(Progress::Refused, Progress::Settled);
    assert_eq!(json["state"], "refused");
}

#[test]
fn who_has_not_heard_of_a_rollout_does_not_say_what_it_holds_back() {
    let said = |active: &[&[i64]]| {
        let answer = |active: &&[i64]| {
            let (member, mut answer) = answer("a", 7, &[("x", Progress::Settled)]);
            answer.active = active.to_vec();
            (member, answer)
        };
        standing(active.iter().map(answer).collect(), Vec::new())
    };
    let knows = |active: &[&[i64]]| said(active).knows([Revision(5), Revision(6)].into_iter());
    assert!(knows(&[&[5, 6], &[6, 5, 7]]));
    assert!(!knows(&[&[5, 6], &[6]]));
    assert!(!knows(&[&[], &[5, 6]]));
}
