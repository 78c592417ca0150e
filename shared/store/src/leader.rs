//! Offices: a leased key that one instance holds at a time.
//!
//! *Invariant:* the key is only ever created, never replaced, so the revision it was created at tells its holder from every
//! other.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::Result;
use crate::keyspace::Keyspace;
use crate::kv::{Fault, Kv, Outcome, Txn, Write};
use crate::vault::{Fence, Leadership};

/// An office and the task that keeps its lease.
pub(crate) struct Held<K> {
    kv: Arc<K>,
    fence: Fence,
    lease: i64,
    lost: CancellationToken,
    keeper: AbortOnDropHandle<()>,
}

impl<K: Kv> Leadership for Held<K> {
    fn fence(&self) -> &Fence {
        &self.fence
    }

    fn lost(&self) -> BoxFuture<'_, ()> {
        self.lost.cancelled().boxed()
    }

    fn resign(self: Box<Self>) -> BoxFuture<'static, ()> {
        async move {
            self.keeper.abort();
            if let Err(fault) = self.kv.revoke(self.lease).await {
                tracing::warn!(%fault, key = self.fence.key, "the office lasts until its lease expires");
            }
        }
        .boxed()
    }
}

impl<K: Kv> Keyspace<K> {
    /// Waits for an office and takes it.
    pub(crate) async fn hold(
        &self,
        office: &str,
        instance: &str,
        ttl: Duration,
    ) -> Result<Held<K>> {
        let key = self.layout.leader(office);
        loop {
            let before = Instant::now();
            let lease = self.retry(|| self.kv.grant(ttl)).await?;
            let txn = Txn {
                expect: vec![(key.clone(), 0)],
                writes: vec![Write::Put {
                    key: key.clone(),
                    value: instance.as_bytes().to_vec(),
                    lease: Some(lease),
                }],
                ..Txn::default()
            };
            if let Outcome::Done(revision) = self.retry(|| self.kv.txn(&txn)).await? {
                let lost = CancellationToken::new();
                let keeper = keep(self.kv.clone(), lease, ttl, before, lost.clone());
                return Ok(Held {
                    kv: self.kv.clone(),
                    fence: Fence { key, revision },
                    lease,
                    lost,
                    keeper: AbortOnDropHandle::new(tokio::spawn(keeper)),
                });
            }
            // If it is our own, from an attempt whose answer was lost, it goes with its lease.
            if let Err(fault) = self.kv.revoke(lease).await {
                tracing::debug!(%fault, "a lease that was not needed lasts until it expires");
            }
            let span = self.layout.leader_span(office);
            let mut holders = pin!(self.follow_set(span, |_| Some(())).await?);
            while holders.next().await.is_some_and(|set| !set.is_empty()) {}
        }
    }
}

/// Prolongs a lease until it is gone, or must be taken to be.
async fn keep<K: Kv>(
    kv: Arc<K>,
    lease: i64,
    ttl: Duration,
    mut prolonged: Instant,
    lost: CancellationToken,
) {
    let _lost = lost.drop_guard();
    let mut ticks = tokio::time::interval((ttl / 3).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let asked = Instant::now();
        let answer = tokio::time::timeout_at(prolonged + ttl, kv.keep_alive(lease)).await;
        match answer {
            Ok(Ok(true)) => prolonged = asked,
            Ok(Ok(false)) => return,
            Ok(Err(Fault::Lost(why))) => tracing::debug!(why, "the lease was not prolonged"),
            Ok(Err(fault)) => tracing::warn!(%fault, "the lease was not prolonged"),
            Err(_) => {}
        }
        if prolonged.elapsed() >= ttl {
            return;
        }
    }
}
