//! How new a state must be before a new stream may be served from it.
//!
//! An Envoy that comes from another replica may hold a newer state than this one has seen. So a stream is served only from
//! a revision at or above the last commit, read linearizably after the stream opened. One read serves every stream that
//! opened before it began.

use std::sync::Arc;
use std::time::Duration;

use model::Revision;
use store::Store;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use tracing::warn;

/// One read is shared by the streams that open within this time.
const SHARE: Duration = Duration::from_millis(200);
/// Without an answer in this time, a stream is served what there is: availability before freshness.
const PATIENCE: Duration = Duration::from_secs(1);

/// Reads of the last committed revision, shared between streams.
pub(crate) struct Freshness {
    store: Arc<dyn Store>,
    /// The read that is under way, and when it began; streams that opened before that wait for its result.
    current: Mutex<Option<(Instant, watch::Receiver<Option<Revision>>)>>,
}

impl Freshness {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            current: Mutex::new(None),
        }
    }

    /// A revision read linearizably after this call began; zero if the store does not answer in time.
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
        let store = self.store.clone();
        tokio::spawn(async move {
            tokio::time::sleep_until(begins).await;
            let revision = match tokio::time::timeout(PATIENCE, store.last_commit()).await {
                Ok(Ok(revision)) => revision,
                Ok(Err(error)) => {
                    warn!(%error, "no fresh revision; serving what there is");
                    Revision::default()
                }
                Err(_) => {
                    warn!("no fresh revision in time; serving what there is");
                    Revision::default()
                }
            };
            done.send_replace(Some(revision));
        });
        *current = Some((begins, result.clone()));
        result
    }
}
