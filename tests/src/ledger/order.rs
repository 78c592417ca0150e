//! What was known when a call began.
//!
//! *Invariant:* a call knows nothing of what ended after it began.

use std::collections::BTreeMap;

use super::{Act, Call, Told};

/// The newest revision that was known to exist when a call began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Floor {
    /// To anybody.
    pub(super) all: i64,
    /// To the client that made it.
    pub(super) own: i64,
}

/// The floors of calls, in their order.
pub(super) fn floors(calls: &[Call]) -> Vec<Floor> {
    let mut moments: Vec<(u64, usize, bool)> = Vec::new();
    for (n, call) in calls.iter().enumerate() {
        moments.push((call.begun, n, true));
        moments.push((call.ended, n, false));
    }
    moments.sort_unstable();
    let (mut all, mut own) = (0, BTreeMap::<usize, i64>::new());
    let mut floors = vec![Floor::default(); calls.len()];
    for (_, n, begins) in moments {
        let call = &calls[n];
        let known = own.entry(call.client).or_default();
        if begins {
            floors[n] = Floor { all, own: *known };
        } else {
            let told = learnt(&call.act);
            all = all.max(told);
            *known = (*known).max(told);
        }
    }
    floors
}

/// The newest revision that an answer tells of.
fn learnt(act: &Act) -> i64 {
    match act {
        Act::Write {
            told: Told::Done(revision),
            ..
        } => *revision,
        Act::Write { .. } => 0,
        Act::Read { seen, .. } => seen.map_or(0, |(_, revision)| revision),
        Act::List { revision, .. } => *revision,
    }
}
