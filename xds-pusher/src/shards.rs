//! Which replica owns which node, by rendezvous hashing over the live ones; and the streams that are not where they belong.
//!
//! *Invariant:* a stream is moved only to a replica that answers.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use rand::RngExt as _;
use store::{Member, rendezvous};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;
use tracing::info;
use xds::Streams;

use crate::link::Links;
use crate::pass::Passing;

/// The replicas, as this one sees them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Shards {
    /// This replica.
    pub(crate) own: Arc<str>,
    pub(crate) members: watch::Receiver<Vec<Member>>,
}

impl Shards {
    /// Whether no other replica is alive.
    pub(crate) fn alone(&self) -> bool {
        (self.members.borrow().iter()).all(|member| *member.instance == *self.own)
    }

    /// The owner of a node, if that is another replica.
    pub(crate) fn elsewhere(&self, node: &str) -> Option<Member> {
        let members = self.members.borrow();
        let owner = rendezvous::owner(node, &members)?;
        (*owner.instance != *self.own).then(|| owner.clone())
    }

    /// The other live replicas.
    pub(crate) fn others(&self) -> Vec<Member> {
        let members = self.members.borrow();
        let others = members.iter().filter(|it| *it.instance != *self.own);
        others.cloned().collect()
    }
}

/// Ends streams whose node belongs to another replica, so that their clients go there: spread over `period`, and looked at
/// again whenever that is over or the replicas change. Runs for ever.
pub(crate) async fn send_home(
    shards: Shards,
    links: Arc<Links>,
    streams: Streams,
    period: Duration,
) {
    let mut members = shards.members.clone();
    loop {
        members.mark_unchanged();
        let begin = Instant::now();
        let away = streams.nodes().into_iter();
        let away = away.filter(|(_, node)| shards.elsewhere(&node.id).is_some());
        let due = spread(away.map(|(id, _)| id), period);
        let moving = async {
            for (after, id) in due {
                tokio::time::sleep_until(begin + after).await;
                send_one_home(&shards, &links, &streams, id).await;
            }
            tokio::time::sleep_until(begin + period).await;
        };
        tokio::select! {
            () = moving => {}
            changed = members.changed() => if changed.is_err() { return },
        }
    }
}

async fn send_one_home(shards: &Shards, links: &Links, streams: &Streams, id: u64) {
    let Some(node) = streams.get(id).and_then(|status| status.stream.node) else {
        return;
    };
    let Some(owner) = shards.elsewhere(&node.id) else {
        return;
    };
    if links.ask(&owner).await.is_ok() {
        let owner = owner.instance;
        info!(
            node = node.id,
            owner, "a node belongs to another replica; ending its stream"
        );
        counter!("weft_pusher_moved_streams_total").increment(1);
        let moved = format!("{owner} serves this node now; connect again");
        streams.close(id, Status::unavailable(moved));
    }
}

/// Ends all streams, those that are passed on as well, spread over `period`.
pub(crate) async fn drain(streams: &Streams, passing: &Passing, period: Duration) {
    let leaving = Status::unavailable("this replica is shutting down; connect to another");
    let begin = Instant::now();
    let served = streams.nodes().into_iter().map(|(id, _)| Ok(id));
    let passed = passing.list().into_iter().map(Err);
    for (after, stream) in spread(served.chain(passed), period) {
        tokio::time::sleep_until(begin + after).await;
        match stream {
            Ok(id) => drop(streams.close(id, leaving.clone())),
            Err(passed) => passed.close(leaving.clone()),
        }
    }
    streams.close_all(&leaving);
    for passed in passing.list() {
        passed.close(leaving.clone());
    }
}

/// Each of these at a random time within a period, in the order of time.
fn spread<T>(what: impl Iterator<Item = T>, period: Duration) -> Vec<(Duration, T)> {
    let mut random = rand::rng();
    let at = |it| (period.mul_f64(random.random_range(0.0..1.0)), it);
    let mut spread: Vec<_> = what.map(at).collect();
    spread.sort_by_key(|(at, _)| *at);
    spread
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spread_is_all_there_in_order_and_over_the_period() {
        let period = Duration::from_secs(10);
        let spread = spread(0..1000, period);
        assert!(spread.is_sorted_by_key(|(at, _)| *at));
        let mut all: Vec<i32> = spread.iter().map(|(_, it)| *it).collect();
        assert_ne!(all, (0..1000).collect::<Vec<_>>(), "the order is random");
        all.sort_unstable();
        assert_eq!(all, (0..1000).collect::<Vec<_>>());
        for tenth in 0..10 {
            let within =
                |at: &Duration| *at >= period * tenth / 10 && *at < period * (tenth + 1) / 10;
            let n = spread.iter().filter(|(at, _)| within(at)).count();
            assert!((50..150).contains(&n), "{n} in tenth {tenth}");
        }
    }
}
