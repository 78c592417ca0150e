use std::collections::BTreeMap;

use model::Revision;
use pusher_api::v1::Refusal;
use store::Plan;
use uuid::Uuid;

use super::*;

fn rollout(first: u32, proxies: &[&str]) -> Rollout {
    Rollout {
        id: Uuid::from_u128(7),
        revision: Revision(7),
        written: Revision(8),
        who: "me".into(),
        started: String::new(),
        plan: Plan {
            first,
            rollback: true,
            deadline_seconds: 60,
        },
        priors: Vec::new(),
        phase: Phase::First,
        proxies: proxies.iter().map(|it| (*it).to_owned()).collect(),
        reason: String::new(),
        since: "2026-01-01T00:00:00Z".into(),
    }
}

fn affected(ids: &[&str], refusing: &[&str]) -> Vec<AffectedProxy> {
    let proxy = |id: &&str| AffectedProxy {
        id: (*id).into(),
        refuses: refusing.contains(id),
    };
    ids.iter().map(proxy).collect()
}

fn chosen(verdict: Verdict) -> Vec<String> {
    match verdict {
        Verdict::First(proxies) => proxies,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_few_of_those_it_concerns_get_it_first() {
    let none = BTreeSet::new();
    let all = affected(&["a", "b", "c", "d"], &["b"]);
    let two = chosen(choose(&rollout(2, &[]), &all, &none));
    assert_eq!(two.len(), 2);
    assert!(
        !two.contains(&"b".to_owned()),
        "it refuses something: {two:?}"
    );
    let again = affected(&["d", "c", "b", "a", "a"], &["b"]);
    assert_eq!(two, chosen(choose(&rollout(2, &[]), &again, &none)));
    // Whoever tries other changes tries this one as well.
    for id in ["a", "c", "d"] {
        let first = BTreeSet::from([id, "elsewhere"]);
        assert_eq!(chosen(choose(&rollout(1, &[]), &all, &first)), [id]);
    }
    let nobody = choose(&rollout(1, &[]), &[], &none);
    assert!(matches!(nobody, Verdict::Done(_)), "{nobody:?}");
    let refusing = choose(&rollout(1, &[]), &affected(&["b"], &["b"]), &none);
    assert!(matches!(refusing, Verdict::Stop(_)), "{refusing:?}");
}

fn standing(proxies: &[(&str, Progress)]) -> Standing {
    let refusal = |progress| {
        let refusal = Refusal {
            r#type: "LDS".into(),
            resource: "l".into(),
            error: "no".into(),
            ..Refusal::default()
        };
        (progress == Progress::Refused).then_some(refusal)
    };
    let proxies = proxies.iter().map(|(id, progress)| {
        let refusals = refusal(*progress).into_iter().collect();
        ((*id).to_owned(), (*progress, refusals))
    });
    Standing {
        proxies: proxies.collect::<BTreeMap<_, _>>(),
        lagging: Vec::new(),
        active: None,
        silent: Vec::new(),
        unserved: 0,
        pushers: 1,
        held: None,
    }
}

#[test]
fn it_goes_on_when_the_first_run_it_and_stops_when_one_refuses() {
    use Progress::{Behind, Refused, Settled, Warm};
    let rollout = rollout(2, &["a", "b"]);
    let judged = |a, b, overdue| {
        let others = [("a", a), ("b", b), ("c", Refused)];
        judge(&rollout, &standing(&others), overdue)
    };
    let done = judged(Settled, Settled, false);
    assert!(matches!(done, Verdict::Done(_)), "{done:?}");
    for short in [Behind, Warm] {
        assert_eq!(judged(Settled, short, false), Verdict::Wait, "{short:?}");
    }
    let stop = |verdict| match verdict {
        Verdict::Stop(reason) => reason,
        other => panic!("{other:?}"),
    };
    let reason = stop(judged(Settled, Refused, false));
    assert_eq!(reason, "b refused it: LDS \"l\": no");
    let reason = stop(judged(Behind, Settled, true));
    assert_eq!(reason, "after 60 s a did not acknowledge it");
    let gone = judge(&rollout, &standing(&[("a", Settled)]), true);
    assert!(stop(gone).contains("b is not connected"));
    let mut lagging = standing(&[("a", Settled), ("b", Settled)]);
    lagging.lagging.push(("p".into(), 3));
    assert_eq!(judge(&rollout, &lagging, false), Verdict::Wait);
    assert!(stop(judge(&rollout, &lagging, true)).contains("revision 3 only"));
}

#[test]
fn the_deadline_is_counted_from_the_phase() {
    let rollout = rollout(1, &["a"]);
    let at = |time: &str| left(&rollout, time.parse().unwrap_or_default()).as_secs();
    assert_eq!(at("2026-01-01T00:00:59Z"), 1);
    assert_eq!(at("2025-12-31T00:00:00Z"), 60);
    assert_eq!(at("2026-01-01T00:01:00Z"), 0);
}
