//! Rollouts: written with the change they are about, seen with it, and moved on by one writer at a time.

use uuid::Uuid;

use super::*;
use crate::{Error, Phase, Plan, Prior, Rollout};

fn rollout(before: Option<Object>) -> Rollout {
    Rollout {
        id: Uuid::now_v7(),
        revision: Revision(0),
        written: Revision(0),
        who: "tester".into(),
        started: "2026-01-01T00:00:00Z".into(),
        plan: Plan {
            first: 2,
            rollback: true,
            deadline_seconds: 30,
        },
        priors: vec![Prior {
            key: key("a"),
            before,
        }],
        phase: Phase::Choosing,
        proxies: Vec::new(),
        reason: String::new(),
        since: "2026-01-01T00:00:00Z".into(),
    }
}

fn begin(rollout: &Rollout) -> Op {
    Op::Rollout {
        rollout: rollout.clone(),
        expect: Expect::Absent,
    }
}

/// What an event says of rollouts, and how many other changes there are in it.
fn said(event: Event) -> (Option<Arc<Rollout>>, usize) {
    let Event::Changes { changes, .. } = event else {
        panic!("{event:?}")
    };
    let others = changes.len() - 1;
    let said = changes.into_iter().find_map(|change| match change {
        Change::Rollout { rollout, .. } => Some(rollout),
        _ => None,
    });
    (said.expect("a rollout"), others)
}

pub async fn a_rollout_is_seen_with_its_change(rig: &dyn Rig) {
    let store = rig.store();
    let first = commit(&store, [create(route("a", 1))]).await;
    let (mut watch, _) = watch_all(&rig.other()).await;
    let before = store.get(&key("a")).await.unwrap();
    let begun = rollout(before.clone());
    let second = commit(&store, [replace(route("a", 2), first), begin(&begun)]).await;
    let (seen, others) = said(event(&mut watch).await);
    let seen = seen.unwrap();
    assert_eq!((seen.revision, seen.written, others), (second, second, 1));
    assert_eq!((&seen.plan, seen.phase), (&begun.plan, Phase::Choosing));
    assert_eq!(seen.priors[0].before, before);

    let on = Rollout {
        phase: Phase::First,
        proxies: vec!["sidecar~a~b".into()],
        ..(*seen).clone()
    };
    let op = |expect| Op::Rollout {
        rollout: on.clone(),
        expect: Expect::At(expect),
    };
    let third = commit(&store, [op(second)]).await;
    let (seen, _) = said(event(&mut watch).await);
    let seen = seen.unwrap();
    assert_eq!((seen.revision, seen.written), (second, third));
    assert_eq!(seen.proxies, on.proxies);

    // Who thinks it is where it was moves nothing, and writes nothing beside it.
    let ops = vec![replace(route("a", 3), second), op(second)];
    match store.commit(ops, by("late")).await {
        Err(Error::Moved { id }) => assert_eq!(id, begun.id),
        other => panic!("{other:?}"),
    }
    let (_, snapshot) = watch_all(&store).await;
    assert_eq!(snapshot.rollouts.first(), Some(&seen));
    assert_eq!(snapshot.rollouts.len(), 1);
    assert_eq!(snapshot.objects[0].revision(), Some(second));

    let forget = Op::Forget {
        id: begun.id,
        expect: third,
    };
    commit(&store, [forget]).await;
    assert_eq!(said(event(&mut watch).await), (None, 0));
    assert!(watch_all(&store).await.1.rollouts.is_empty());
}

pub async fn of_two_who_move_a_rollout_one_does(rig: &dyn Rig) {
    let begun = rollout(None);
    let at = commit(&rig.store(), [create(route("a", 1)), begin(&begun)]).await;
    let moved = |store: Arc<dyn Store>, phase| {
        let rollout = Rollout {
            phase,
            ..begun.clone()
        };
        let expect = Expect::At(at);
        async move {
            store
                .commit(vec![Op::Rollout { rollout, expect }], by("x"))
                .await
        }
    };
    let (one, other) = tokio::join!(
        moved(rig.store(), Phase::Done),
        moved(rig.other(), Phase::Stopped)
    );
    assert_eq!(usize::from(one.is_ok()) + usize::from(other.is_ok()), 1);
    let refused = [one, other].into_iter().find_map(Result::err);
    assert!(matches!(refused, Some(Error::Moved { .. })), "{refused:?}");
}
