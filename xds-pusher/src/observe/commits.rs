//! When the latest commits were made.
//!
//! The time is that of the change record: the clock of the config-api that wrote it, just before it sent the transaction. It
//! is compared with this replica's clock, so what comes of it is as good as the two clocks agree; less than nothing counts
//! as nothing.
//!
//! *Invariant:* bounded, whatever is committed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use model::Revision;

/// How many commits are remembered: more than any stream lags behind that anybody counts on.
const MOST: usize = 10_000;

/// The times of the latest commits, by revision. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Commits(Arc<Mutex<BTreeMap<i64, Timestamp>>>);

impl Commits {
    /// Remembers one.
    pub(crate) fn note(&self, revision: Revision, written: Timestamp) {
        let mut commits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        commits.insert(revision.0, written);
        while commits.len() > MOST {
            commits.pop_first();
        }
    }

    /// How long ago the first commit after one revision and up to another was made; `None` if there is none, or it is too
    /// long ago to be remembered.
    pub(crate) fn since(&self, after: i64, up_to: i64) -> Option<Duration> {
        if after >= up_to {
            return None;
        }
        let commits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, written) = commits.range(after + 1..=up_to).next()?;
        Some(age(*written))
    }
}

/// How long ago something was written, by two clocks.
pub(crate) fn age(written: Timestamp) -> Duration {
    Duration::try_from(Timestamp::now().duration_since(written)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn the_first_commit_that_a_push_brings_counts() {
        let commits = Commits::default();
        let ago = |seconds| Timestamp::now() - SignedDuration::from_secs(seconds);
        for (revision, seconds) in [(5, 50), (7, 30), (9, -100)] {
            commits.note(Revision(revision), ago(seconds));
        }
        let seconds = |after, up_to| commits.since(after, up_to).map(|age| age.as_secs());
        assert_eq!(seconds(4, 8), Some(50));
        assert_eq!(seconds(5, 8), Some(30));
        assert_eq!(seconds(7, 8), None);
        assert_eq!(seconds(8, 8), None);
        // A clock that is ahead makes nothing negative.
        assert_eq!(seconds(8, 9), Some(0));
    }

    #[test]
    fn they_are_bounded() {
        let commits = Commits::default();
        for revision in 0..=MOST {
            let revision = i64::try_from(revision).unwrap();
            commits.note(Revision(revision), Timestamp::now());
        }
        assert_eq!(commits.0.lock().unwrap().len(), MOST);
        assert_eq!(commits.since(-1, 0), None);
    }
}
