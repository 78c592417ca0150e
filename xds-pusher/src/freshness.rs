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
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use tracing::warn;

use crate::link::Links;
use crate::shards::Shards;

/// One read is shared by the streams that open within this time.
const SHARE: Duration = Duration::from_millis(200);
/// Without an answer in this time, the other replicas are asked.
const PATIENCE: Duration = Duration::from_secs(1);
/// A replica that does not answer in this time is not asked any further: availability before freshness.
const ASIDE: Duration = Duration::from_millis(500);

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
    /// The read that is under way, and when it began; streams that opened before that wait for its result.
    current: Mutex<Option<(Instant, watch::Receiver<Option<Revision>>)>>,
}

impl Freshness {
    pub(crate) fn new(store: Arc<dyn Store>, peers: Peers) -> Self {
        Self {
            store,
            peers: Arc::new(peers),
            current: Mutex::new(None),
        }
    }

    /// A revision read linearizably after this call began; what the others have if the store does not answer in time.
    pub(crate) async fn read(&self) -> Revision {
        let mut result = self.join().await;
        match result.wait_for(Option::is_some).await {
            Ok(revision) => revision.unwrap_or_default(),
            Err(_) => Revision::default(),
        }
    }

    /// The read to wait for: the next one, which begins when the sharing time of the last one is over.
    async fn join(&self) -> watch::Receiver<Option<Revision>> {
        let now = Instant::now();
        let mut current = self.current.lock().await;
        if let Some((begins, result)) = &*current
            && *begins >= now
        {
            return result.clone();
        }
        let begins = match &*current {
            Some((last, _)) if now < *last + SHARE => *last + SHARE,
            _ => now,
        };
        let (done, result) = watch::channel(None);
        let (store, peers) = (self.store.clone(), self.peers.clone());
        tokio::spawn(async move {
            tokio::time::sleep_until(begins).await;
            let revision = match tokio::time::timeout(PATIENCE, store.last_commit()).await {
                Ok(Ok(revision)) => revision,
                Ok(Err(error)) => {
                    warn!(%error, "no fresh revision; serving what no other replica is ahead of");
                    peers.newest().await
                }
                Err(_) => {
                    warn!("no fresh revision in time; serving what no other replica is ahead of");
                    peers.newest().await
                }
            };
            done.send_replace(Some(revision));
        });
        *current = Some((begins, result.clone()));
        result
    }
}

#[cfg(test)]
mod tests {
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
}
