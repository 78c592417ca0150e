//! Which revisions a client came to run, and when: for the question whether it runs one, and for how long it has.
//!
//! *Invariant:* bounded, however many revisions there are; what is forgotten only makes an answer more careful.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What is older than this is known by its newest revision alone.
const REMEMBERED: Duration = Duration::from_secs(5);
/// Revisions that follow each other faster than this are known by the newer one.
const APART: Duration = Duration::from_millis(100);

/// Revisions by the time they were reached, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct History(VecDeque<(i64, Instant)>);

impl History {
    /// The client runs a revision.
    pub(super) fn reached(&mut self, revision: i64, now: Instant) {
        let close = |at: usize| self.0.len().checked_sub(at).and_then(|i| self.0.get(i));
        if let (Some((_, before)), Some((_, last))) = (close(2), close(1))
            && last.duration_since(*before) < APART
        {
            self.0.pop_back();
        }
        self.0.push_back((revision, now));
        let old = |entry: &(i64, Instant)| now.duration_since(entry.1) > REMEMBERED;
        while self.0.len() > 1 && self.0.get(1).is_some_and(old) {
            self.0.pop_front();
        }
    }

    /// Since when, at the latest, the client has been running a revision or a newer one.
    pub(super) fn since(&self, revision: i64) -> Option<Instant> {
        let entry = self.0.iter().find(|(reached, _)| *reached >= revision);
        entry.map(|(_, at)| *at)
    }

    /// When it reached what it runs.
    pub(super) fn last(&self) -> Option<Instant> {
        self.0.back().map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_run_since_the_first_that_is_no_older() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut history = History::default();
        history.reached(3, at(0));
        history.reached(5, at(1000));
        assert_eq!(history.since(2), Some(at(0)));
        assert_eq!(history.since(4), Some(at(1000)));
        assert_eq!(history.since(6), None);
        assert_eq!(history.last(), Some(at(1000)));
    }

    #[test]
    fn it_stays_small_and_never_says_earlier_than_it_was() {
        let start = Instant::now();
        let mut history = History::default();
        let mut truth = Vec::new();
        for revision in 0..100_000 {
            let now = start + Duration::from_millis(u64::try_from(revision).unwrap_or_default());
            history.reached(revision, now);
            truth.push(now);
            assert!(history.0.len() < 110, "{}", history.0.len());
        }
        let (newest, middle) = (truth[99_999], truth[98_000]);
        assert_eq!(history.since(99_999), Some(newest));
        // A client that changes without a pause is seen to have settled with what it ran a moment ago.
        let since = history.since(98_000).unwrap_or(start);
        assert!(middle <= since && since <= middle + 2 * APART);
    }
}
