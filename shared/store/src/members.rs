//! Who is alive: leased membership keys, kept alive and registered anew when a lease is lost, and watches of them.
//!
//! *Invariant:* that etcd is away removes nobody; only etcd itself, by expiry or deletion, does.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use model::Revision;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;

use crate::keys::Span;
use crate::keyspace::Keyspace;
use crate::kv::{Fault, KeyValue, Kv, Range, Txn, Write};
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
        let span = self.layout.members(service);
        let (revision, present) = self.retry(|| self.load_members(&span)).await?;
        let (sets, received) = mpsc::channel(1);
        let observer = Observer {
            store: self.clone(),
            span,
            sets,
            shown: None,
        };
        let task = AbortOnDropHandle::new(tokio::spawn(observer.run(revision, present)));
        Ok(ReceiverStream::new(received)
            .map(move |set| {
                let _owned = &task;
                set
            })
            .boxed())
    }

    async fn load_members(&self, span: &Span) -> Result<(i64, BTreeMap<String, Member>), Fault> {
        let ranged = self.kv.range(&Range::all(span.clone())).await?;
        let members = ranged
            .kvs
            .iter()
            .filter_map(|kv| Some((kv.key.clone(), member(kv)?)));
        Ok((ranged.revision, members.collect()))
    }
}

/// One watch of a service's members.
struct Observer<K> {
    store: Keyspace<K>,
    span: Span,
    sets: mpsc::Sender<Vec<Member>>,
    /// What was sent last.
    shown: Option<Vec<Member>>,
}

/// The consumer of the sets is gone.
struct Dropped;

impl<K: Kv> Observer<K> {
    async fn run(mut self, mut revision: i64, mut present: BTreeMap<String, Member>) {
        let (shortest, longest) = self.store.kv.pace().pause;
        let mut pause = Duration::ZERO;
        loop {
            if self.show(&present).await.is_err() {
                return;
            }
            let fault = match self.follow(revision, &mut present).await {
                Ok(fault) => fault,
                Err(Dropped) => return,
            };
            tracing::debug!(%fault, "the watch of members is cut off");
            loop {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).clamp(shortest, longest);
                if let Ok(loaded) = self.store.load_members(&self.span).await {
                    (revision, present) = loaded;
                    break;
                }
            }
        }
    }

    /// Follows changes until the watch fails.
    async fn follow(
        &mut self,
        revision: i64,
        present: &mut BTreeMap<String, Member>,
    ) -> Result<Fault, Dropped> {
        let kv = self.store.kv.clone();
        let mut batches = match kv.watch(&self.span, revision + 1).await {
            Ok(batches) => pin!(batches),
            Err(fault) => return Ok(fault),
        };
        while let Some(batch) = batches.next().await {
            let batch = match batch {
                Ok(batch) => batch,
                Err(fault) => return Ok(fault),
            };
            for event in batch.events {
                match member(&event.kv).filter(|_| !event.deleted) {
                    Some(member) => present.insert(event.kv.key, member),
                    None => present.remove(&event.kv.key),
                };
            }
            self.show(present).await?;
        }
        Ok(Fault::Lost("the watch ended".into()))
    }

    async fn show(&mut self, present: &BTreeMap<String, Member>) -> Result<(), Dropped> {
        let set: Vec<Member> = present.values().cloned().collect();
        if self.shown.as_ref() == Some(&set) {
            return Ok(());
        }
        self.shown = Some(set.clone());
        self.sets.send(set).await.map_err(|_| Dropped)
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
