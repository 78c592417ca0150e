use model::Kind;

use super::*;

fn rollout(revision: i64, written: i64, phase: Phase) -> Arc<Rollout> {
    Arc::new(Rollout {
        id: Uuid::from_u128(revision.unsigned_abs().into()),
        revision: Revision(revision),
        written: Revision(written),
        who: "me".into(),
        started: String::new(),
        plan: Plan {
            first: 1,
            rollback: false,
            deadline_seconds: 60,
        },
        priors: vec![Prior {
            key: Key::new(Kind::VirtualService, "shop", "a"),
            before: None,
        }],
        phase,
        proxies: Vec::new(),
        reason: String::new(),
        since: String::new(),
    })
}

#[test]
fn what_was_held_back_is_had_by_all_when_its_rollout_ended() {
    let over = [
        rollout(10, 20, Phase::Done),
        rollout(30, 35, Phase::RolledBack),
    ];
    let at = |revision| effective(&over, Revision(revision));
    assert_eq!(at(9), Some(Revision(9)), "it was before");
    assert_eq!(at(10), Some(Revision(20)));
    assert_eq!(at(15), Some(Revision(20)), "it holds what 10 changed");
    assert_eq!(at(25), Some(Revision(25)));
    assert_eq!(at(31), Some(Revision(35)));
    let active = [rollout(10, 12, Phase::First), rollout(11, 20, Phase::Done)];
    assert_eq!(effective(&active, Revision(9)), Some(Revision(9)));
    assert_eq!(
        effective(&active, Revision(40)),
        None,
        "others do not have it"
    );
}
