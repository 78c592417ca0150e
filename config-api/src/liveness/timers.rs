//! When a workload counts as silent: the rules, without a clock.
//!
//! *Invariant:* nothing here evicts a workload before a full TTL has passed since it was heard or taken over.

use std::collections::HashMap;
#[cfg(test)]
use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::view::Workload;

/// When eviction freezes: more than `percent` of the workloads, and more than `least` of them, silent within one TTL.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Freeze {
    pub(crate) percent: usize,
    pub(crate) least: usize,
}

/// The timers of the workloads that this replica owns.
#[derive(Debug, Default)]
pub(super) struct Timers(HashMap<Workload, Timer>);

#[derive(Debug)]
struct Timer {
    ttl: Duration,
    deadline: Instant,
    /// Whether this replica has heard from it; a deadline by grace alone proves no life.
    heard: bool,
    healthy: bool,
    evicted: Option<Instant>,
}

/// What is to be recorded, and whether evictions are held back.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) turns: Vec<(Workload, bool)>,
    /// How many workloads are silent and yet not evicted.
    pub(super) frozen: Option<usize>,
}

impl Timers {
    /// Takes over what is new, with a full TTL of grace, and forgets what is not owned any more.
    pub(super) fn sync(&mut self, owned: &HashMap<Workload, Duration>, now: Instant) {
        self.0.retain(|workload, _| owned.contains_key(workload));
        for (workload, ttl) in owned {
            let timer = self
                .0
                .entry(workload.clone())
                .or_insert_with(|| Timer::new(*ttl, now));
            timer.ttl = *ttl;
        }
    }

    /// Notes a heartbeat.
    pub(super) fn beat(&mut self, workload: Workload, ttl: Duration, healthy: bool, now: Instant) {
        let timer = self
            .0
            .entry(workload)
            .or_insert_with(|| Timer::new(ttl, now));
        *timer = Timer {
            ttl,
            deadline: now + ttl,
            heard: true,
            healthy,
            evicted: None,
        };
    }

    /// Grants everybody a full TTL: after an outage nobody can be blamed for silence.
    pub(super) fn grace(&mut self, now: Instant) {
        for timer in self.0.values_mut() {
            timer.deadline = timer.deadline.max(now + timer.ttl);
        }
    }

    /// What has turned, given what is recorded as down.
    pub(super) fn due(
        &mut self,
        down: impl Fn(&Workload) -> bool,
        freeze: Freeze,
        now: Instant,
    ) -> Due {
        let mut due = Due::default();
        let mut silent = Vec::new();
        let mut recent = 0;
        for (workload, timer) in &self.0 {
            let (overdue, down) = (timer.deadline <= now, down(workload));
            recent += usize::from(timer.evicted.is_some_and(|at| now < at + timer.ttl));
            match (overdue, timer.heard && !timer.healthy, down) {
                (_, true, false) => due.turns.push((workload.clone(), false)),
                (true, false, false) => silent.push(workload.clone()),
                (false, false, true) if timer.heard => due.turns.push((workload.clone(), true)),
                _ => {}
            }
        }
        let gone = silent.len() + recent;
        if !silent.is_empty() && gone > freeze.least && gone * 100 > self.0.len() * freeze.percent {
            due.frozen = Some(silent.len());
        } else {
            for workload in silent {
                if let Some(timer) = self.0.get_mut(&workload) {
                    timer.evicted = Some(now);
                }
                due.turns.push((workload, false));
            }
        }
        due.turns.sort();
        due
    }

    /// When to look again: the next deadline that has not passed.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        self.0
            .values()
            .map(|t| t.deadline)
            .filter(|d| *d > now)
            .min()
    }

    /// How many are timed.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The workloads that are timed.
    #[cfg(test)]
    pub(super) fn known(&self) -> HashSet<Workload> {
        self.0.keys().cloned().collect()
    }
}

impl Timer {
    fn new(ttl: Duration, now: Instant) -> Self {
        Self {
            ttl,
            deadline: now + ttl,
            heard: false,
            healthy: true,
            evicted: None,
        }
    }
}

#[cfg(test)]
mod tests;
