//! Who is alive: leased membership keys, kept alive and registered anew when a lease is lost, and watches of them.
//!
//! *Invariant:* that etcd is away removes nobody; only etcd itself, by expiry or deletion, does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use model::Revision;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::keyspace::Keyspace;
use crate::kv::{Fault, KeyValue, Kv, Txn, Write};
use crate::{Member, Members, Membership, Result, Store};

/// How long to wait before members that cannot be read are asked for again.
const PAUSE: Duration = Duration::from_secs(1);

/// Publishes the members of a service whenever they change, for ever. While the store is away the last known set stays.
pub async fn follow_members(
    store: Arc<dyn Store>,
    service: &'static str,
    publish: watch::Sender<Vec<Member>>,
) {
    loop {
        match store.members(service).await {
            Ok(mut sets) => {
                while let Some(set) = sets.next().await {
                    publish.send_if_modified(|present| {
                        let changed = *present != set;
                        *present = set;
                        changed
                    });
                }
                tracing::warn!(service, "the stream of members ended; asking again");
            }
            Err(error) => {
                tracing::warn!(service, %error, "the members cannot be read; asking again");
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A membership and the task that keeps it.
struct Leased<K> {
    kv: Arc<K>,
    member: watch::Sender<Member>,
    lease: Arc<AtomicI64>,
    keeper: AbortOnDropHandle<()>,
}

impl<K: Kv> Membership for Leased<K> {
    fn set_addresses(&self, addresses: BTreeMap<String, String>) {
        self.member.send_if_modified(|member| {
            let changed = member.addresses != addresses;
            member.addresses = addresses;
            changed
        });
    }

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
    member: watch::Receiver<Member>,
    ttl: Duration,
}

impl<K: Kv> Registration<K> {
    /// Registers under a new lease.
    async fn register(&self) -> Result<i64, Fault> {
        let lease = self.store.kv.grant(self.ttl).await?;
        self.write(lease).await?;
        Ok(lease)
    }

    /// Writes what is to be registered now.
    async fn write(&self, lease: i64) -> Result<(), Fault> {
        let value = serde_json::to_vec(&*self.member.borrow());
        let write = Write::Put {
            key: self.key.clone(),
            value: value.expect("strings always serialize"),
            lease: Some(lease),
        };
        let txn = Txn {
            writes: vec![write],
            ..Txn::default()
        };
        self.store.kv.txn(&txn).await.map(drop)
    }

    /// Prolongs the lease for ever; registers anew when it is gone, and again when something else is to be registered.
    async fn keep(mut self, lease: Arc<AtomicI64>) {
        let mut ticks = tokio::time::interval((self.ttl / 3).max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut unwritten = false;
        loop {
            tokio::select! {
                _ = ticks.tick() => self.prolong(&lease).await,
                Ok(()) = self.member.changed(), if !unwritten => unwritten = true,
            }
            // What could not be written waits for the next tick.
            if unwritten {
                match self.write(lease.load(Ordering::Relaxed)).await {
                    Ok(()) => unwritten = false,
                    Err(fault) => {
                        tracing::warn!(key = self.key, %fault, "what is registered was not replaced yet");
                    }
                }
            }
        }
    }

    async fn prolong(&self, lease: &AtomicI64) {
        let prolonged = self
            .store
            .kv
            .keep_alive(lease.load(Ordering::Relaxed))
            .await;
        match prolonged {
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

impl<K: Kv> Keyspace<K> {
    pub(crate) async fn join_service(
        &self,
        service: &str,
        member: Member,
        ttl: Duration,
    ) -> Result<Box<dyn Membership>> {
        let key = self.layout.member(service, &member.instance);
        let (member, registered) = watch::channel(member);
        let registration = || Registration {
            store: self.clone(),
            key: key.clone(),
            member: registered.clone(),
            ttl,
        };
        let register = || async { registration().register().await };
        let lease = Arc::new(AtomicI64::new(self.retry(register).await?));
        let keeper = registration().keep(lease.clone());
        Ok(Box::new(Leased {
            kv: self.kv.clone(),
            member,
            lease,
            keeper: AbortOnDropHandle::new(tokio::spawn(keeper)),
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
