//! How far this replica is behind the store.
//!
//! *Invariant:* a store that does not answer is not taken for one in which nothing happens: the last value stays, and
//! `weft_etcd_errors_total` rises.

use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use model::Revision;
use store::Store;
use tokio::sync::watch;
use tracing::debug;

/// How often the store is asked.
const PACE: Duration = Duration::from_secs(5);

/// Compares with the last commit, for ever. What was committed a moment ago and is under way counts as behind.
pub(crate) async fn lag(store: Arc<dyn Store>, revision: watch::Receiver<Revision>) {
    let mut ticks = tokio::time::interval(PACE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match store.last_commit().await {
            Ok(last) => {
                let behind = (last.0 - revision.borrow().0).max(0);
                #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
                gauge!("weft_watch_behind_revisions").set(behind as f64);
            }
            Err(error) => debug!(%error, "how far this replica is behind is not known"),
        }
    }
}
