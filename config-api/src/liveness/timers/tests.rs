use super::*;

const TTL: Duration = Duration::from_secs(10);
const FREEZE: Freeze = Freeze {
    percent: 20,
    least: 3,
};

fn workload(n: usize) -> Workload {
    ("shop".into(), format!("w{n:02}").into())
}

fn timed(count: usize, now: Instant) -> Timers {
    let mut timers = Timers::default();
    timers.sync(&(0..count).map(|n| (workload(n), TTL)).collect(), now);
    timers
}

#[test]
fn silence_evicts_after_one_ttl_and_a_beat_restores() {
    let start = Instant::now();
    let mut timers = timed(1, start);
    timers.beat(workload(0), TTL, true, start);
    assert_eq!(timers.next(start), Some(start + TTL));
    assert_eq!(
        timers.due(|_| false, FREEZE, start + TTL - Duration::from_millis(1)),
        Due::default()
    );
    let due = timers.due(|_| false, FREEZE, start + TTL);
    assert_eq!(
        due,
        Due {
            turns: vec![(workload(0), false)],
            frozen: None
        }
    );
    assert_eq!(
        timers.due(|_| true, FREEZE, start + TTL),
        Due::default(),
        "recorded already"
    );
    timers.beat(workload(0), TTL, true, start + TTL);
    assert_eq!(
        timers.due(|_| true, FREEZE, start + TTL).turns,
        [(workload(0), true)]
    );
}

#[test]
fn a_new_owner_grants_grace_and_revives_nobody_it_has_not_heard() {
    let start = Instant::now();
    let mut timers = timed(1, start);
    assert_eq!(timers.due(|_| false, FREEZE, start), Due::default());
    assert_eq!(
        timers.due(|_| true, FREEZE, start),
        Due::default(),
        "grace is no sign of life"
    );
    timers.grace(start + TTL / 2);
    assert_eq!(
        timers.due(|_| false, FREEZE, start + TTL),
        Due::default(),
        "an outage grants a full TTL"
    );
    assert_eq!(
        timers.due(|_| false, FREEZE, start + TTL + TTL / 2).turns,
        [(workload(0), false)]
    );
    timers.sync(&HashMap::new(), start);
    assert!(timers.known().is_empty(), "another replica owns it now");
}

#[test]
fn the_unhealthy_leave_at_once() {
    let start = Instant::now();
    let mut timers = timed(1, start);
    timers.beat(workload(0), TTL, false, start);
    assert_eq!(
        timers.due(|_| false, FREEZE, start).turns,
        [(workload(0), false)]
    );
    assert_eq!(
        timers.due(|_| true, FREEZE, start),
        Due::default(),
        "an unhealthy beat revives nobody"
    );
}

#[test]
fn many_at_once_freeze_eviction_until_they_return() {
    let start = Instant::now();
    let mut timers = timed(20, start);
    let later = start + TTL;
    for n in 5..20 {
        timers.beat(workload(n), TTL, true, later);
    }
    assert_eq!(
        timers.due(|_| false, FREEZE, later),
        Due {
            turns: Vec::new(),
            frozen: Some(5)
        },
        "5 of 20"
    );
    timers.beat(workload(0), TTL, true, later);
    let due = timers.due(|_| false, FREEZE, later);
    assert_eq!(
        (due.turns.len(), due.frozen),
        (4, None),
        "4 of 20 is not more than 20 %"
    );
}

#[test]
fn a_few_after_another_within_one_ttl_freeze_too() {
    let start = Instant::now();
    let mut timers = timed(20, start);
    for n in 0..20 {
        let heard = start + Duration::from_secs(n as u64);
        timers.beat(workload(n), TTL, true, heard);
    }
    let mut down = HashSet::new();
    let mut frozen = None;
    for second in 10..30 {
        let now = start + Duration::from_secs(second);
        let due = timers.due(|w| down.contains(w), FREEZE, now);
        down.extend(due.turns.into_iter().map(|(w, _)| w));
        frozen = frozen.or(due.frozen.map(|_| second));
    }
    assert_eq!(frozen, Some(14), "the fifth within ten seconds");
    assert!(down.len() >= 4);
}

#[test]
fn few_workloads_never_freeze() {
    let start = Instant::now();
    let mut timers = timed(2, start);
    assert_eq!(timers.due(|_| false, FREEZE, start + TTL).turns.len(), 2);
}
