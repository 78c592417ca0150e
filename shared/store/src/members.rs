//! Who is alive: leased membership keys, kept alive and registered anew when a lease is lost, and watches of them.
//!
//! *Invariant:* that etcd is away removes nobody; only etcd itself, by expiry or deletion, does.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use model::Revision;
use tokio_util::task::AbortOnDropHandle;

use crate::keyspace::Keyspace;
use crate::kv::{Fault, KeyValue, Kv, Txn, Write};
use crate::{Member, Members, Membership, Result};

/// A membership and the task that keeps it.
struct Leased<K> {
    kv: Arc<K>,
    lease: Arc<AtomicI64>,
    keeper: AbortOnDropHandle<()>,
}

impl<K: Kv> Membership for Leased<K> {
    fn leave(self: Box<Self>) -> BoxFuture<'static, ()> {
        async move {
            self.keeper.abort();
            if let Err(fault) = self.kv.revoke(self.lease.load(Ordering::Relaxed)).await {
                tracing::warn!(%fault, "the membership was not revoked and lasts until its lease expires");
            }
        }
        .boxed()
    }
}

/// What is registered, and for how long without a sign of life.
struct Registration<K> {
    store: Keyspace<K>,
    key: String,
    value: Vec<u8>,
    ttl: Duration,
}

impl<K: Kv> Registration<K> {
    /// Registers under a new lease.
    async fn register(&self) -> Result<i64, Fault> {
        let lease = self.store.kv.grant(self.ttl).await?;
        let write = Write::Put {
            key: self.key.clone(),
            value: self.value.clone(),
            lease: Some(lease),
        };
        self.store
            .kv
            .txn(&Txn {
                expect: Vec::new(),
                writes: vec![write],
                ..Txn::default()
            })
            .await?;
        Ok(lease)
    }

    /// Prolongs the lease for ever; registers anew when it is gone.
    async fn keep(self, lease: Arc<AtomicI64>) {
        let mut ticks = tokio::time::interval((self.ttl / 3).max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self
                .store
                .kv
                .keep_alive(lease.load(Ordering::Relaxed))
                .await
            {
                Ok(true) => {}
                Ok(false) => match self.register().await {
                    Ok(renewed) => {
                        tracing::warn!(key = self.key, "the lease was lost; registered anew");
                        lease.store(renewed, Ordering::Relaxed);
                    }
                    Err(fault) => tracing::warn!(key = self.key, %fault, "the lease is lost"),
                },
                Err(fault) => tracing::warn!(key = self.key, %fault, "the lease was not prolonged"),
            }
        }
    }
}

impl<K: Kv> Keyspace<K> {
    pub(crate) async fn join_service(
        &self,
        service: &str,
        member: Member,
        ttl: Duration,
    ) -> Result<Box<dyn Membership>> {
        let key = self.layout.member(service, &member.instance);
        let value = serde_json::to_vec(&member).expect("strings always serialize");
        let registration = Registration {
            store: self.clone(),
            key,
            value,
            ttl,
        };
        let lease = Arc::new(AtomicI64::new(
            self.retry(|| registration.register()).await?,
        ));
        let keeper = AbortOnDropHandle::new(tokio::spawn(registration.keep(lease.clone())));
        Ok(Box::new(Leased {
            kv: self.kv.clone(),
            lease,
            keeper,
        }))
    }

    pub(crate) async fn watch_members(&self, service: &str) -> Result<Members> {
        let sets = self
            .follow_set(self.layout.members(service), member)
            .await?;
        Ok(sets.map(|set| set.values().cloned().collect()).boxed())
    }
}

/// The member that a key holds; what cannot be decoded is none.
fn member(kv: &KeyValue) -> Option<Member> {
    let member: Member = serde_json::from_slice(&kv.value).ok()?;
    Some(Member {
        since: Revision(kv.created),
        ..member
    })
}
