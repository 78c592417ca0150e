//! How new a state must be before a new stream may be served from it.
//!
//! An Envoy that comes from another replica may hold a newer state than this one has seen. So a stream is served only from
//! a revision at or above the last commit, read linearizably after the stream opened. One read serves every stream that
//! opened before it began. Where the store cannot say, what the other replicas that answer have applied counts in its place.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use model::Revision;
use pusher_api::v1::Replica;
use store::Store;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use crate::link::Links;
use crate::reads::Reads;
use crate::shards::Shards;

/// One read is shared by the streams that open within this time.
const SHARE: Duration = Duration::from_millis(200);
/// Without an answer in this time, the other replicas are asked.
const PATIENCE: Duration = Duration::from_secs(1);
/// A replica that does not answer in this time is not asked any further: availability before freshness.
const ASIDE: Duration = Duration::from_millis(500);
/// Asking that takes so much longer than that was interrupted.
const STALL: Duration = Duration::from_secs(1);

/// The other replicas, to ask how far they are.
pub(crate) struct Peers {
    pub(crate) shards: Shards,
    pub(crate) links: Arc<Links>,
    pub(crate) epoch: watch::Receiver<String>,
}

impl Peers {
    /// The newest revision that one which answers has applied, of the same epoch; zero if there is none.
    async fn newest(&self) -> Revision {
        let others = self.shards.others();
        let asked = others
            .iter()
            .map(|member| tokio::time::timeout(ASIDE, self.links.ask(member)));
        let answers = join_all(asked).await.into_iter().flatten().flatten();
        newest(answers, &self.epoch.borrow())
    }
}

/// Revisions of another epoch count for nothing.
fn newest(replicas: impl Iterator<Item = Replica>, epoch: &str) -> Revision {
    let comparable = replicas.filter(|replica| replica.epoch == epoch);
    Revision(
        comparable
            .map(|replica| replica.revision)
            .max()
            .unwrap_or(0),
    )
}

/// Reads of the last committed revision, shared between streams.
pub(crate) struct Freshness {
    store: Arc<dyn Store>,
    peers: Arc<Peers>,
    reads: Reads<Revision>,
}

impl Freshness {
    pub(crate) fn new(store: Arc<dyn Store>, peers: Peers) -> Self {
        Self {
            store,
            peers: Arc::new(peers),
            reads: Reads::new(SHARE),
        }
    }

    /// A revision read linearizably after this call began; what the others have if the store does not answer in time.
    pub(crate) async fn read(&self) -> Revision {
        let read = || {
            let (store, peers) = (self.store.clone(), self.peers.clone());
            async move { learn(|| store.last_commit(), || peers.newest()).await }
        };
        match self.reads.fresh(read).await {
            Some(revision) => revision,
            // Who does not know how new it must be serves nobody, and its clients come again.
            None => std::future::pending().await,
        }
    }
}

/// What the store says, or what the others say if it does not.
///
/// A process that was stopped for a while finds its deadlines over and its connections broken, whatever state the others are
/// in; and behind is what it is then. So silence that took too long to notice is no silence, and it asks again.
async fn learn<S, P>(ask_store: impl Fn() -> S, ask_peers: impl Fn() -> P) -> Revision
where
    S: Future<Output = store::Result<Revision>>,
    P: Future<Output = Revision>,
{
    loop {
        let begun = Instant::now();
        match tokio::time::timeout(PATIENCE, ask_store()).await {
            Ok(Ok(revision)) => return revision,
            Ok(Err(error)) => warn!(%error, "no fresh revision; asking the other replicas"),
            Err(_) => warn!("no fresh revision in time; asking the other replicas"),
        }
        let newest = ask_peers().await;
        let took = begun.elapsed();
        if took <= PATIENCE + ASIDE + STALL {
            warn!(revision = %newest, "serving what no other replica that answers is ahead of");
            return newest;
        }
        warn!(?took, "this process did not run for a while; asking again");
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn the_newest_of_this_epoch_counts() {
        let replica = |epoch: &str, revision| Replica {
            epoch: epoch.into(),
            revision,
            ..Replica::default()
        };
        let replicas = [
            replica("now", 7),
            replica("before", 90),
            replica("now", 8),
            replica("now", 3),
        ];
        assert_eq!(newest(replicas.into_iter(), "now"), Revision(8));
        assert_eq!(newest(std::iter::empty(), "now"), Revision(0));
    }

    #[tokio::test]
    async fn the_others_count_where_the_store_is_silent() {
        let store = || std::future::pending();
        assert_eq!(learn(store, async || Revision(5)).await, Revision(5));
    }

    #[tokio::test]
    async fn who_was_stopped_while_it_asked_asks_again() {
        let asked = Cell::new(0);
        let store = || {
            asked.set(asked.get() + 1);
            if asked.get() == 1 {
                // Nothing of this runtime runs meanwhile.
                std::thread::sleep(PATIENCE + ASIDE + STALL);
                return futures::future::pending().left_future();
            }
            futures::future::ready(Ok(Revision(9))).right_future()
        };
        // The others cannot be reached: their connections are broken.
        assert_eq!(learn(store, async || Revision(0)).await, Revision(9));
    }
}
