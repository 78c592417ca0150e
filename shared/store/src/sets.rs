//! Everything below a prefix, and every later state of it: whole sets, for what is small or shared structurally.
//!
//! *Invariant:* that the store is away changes no set; only what was written or deleted does.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use imbl::OrdMap;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;

use crate::Result;
use crate::keys::Span;
use crate::keyspace::{Keyspace, PAGE};
use crate::kv::{Fault, KeyValue, Kv, Range};

/// By what follows the prefix in the key.
pub(crate) type Set<T> = OrdMap<Arc<str>, T>;

/// What a key holds; `None` if that is nothing of the set.
pub(crate) type Decode<T> = fn(&KeyValue) -> Option<T>;

/// What can be in a set.
pub(crate) trait Item: Clone + PartialEq + Send + Sync + 'static {}
impl<T: Clone + PartialEq + Send + Sync + 'static> Item for T {}

impl<K: Kv> Keyspace<K> {
    /// All of a span, at one revision.
    pub(crate) async fn load_set<T: Item>(
        &self,
        span: &Span,
        decode: Decode<T>,
    ) -> Result<(i64, Set<T>), Fault> {
        let mut set = Set::new();
        let mut range = Range {
            limit: PAGE,
            ..Range::all(span.clone())
        };
        loop {
            let ranged = self.kv.range(&range).await?;
            if range.at == 0 {
                range.at = ranged.revision;
            }
            for kv in &ranged.kvs {
                set.extend(decode(kv).map(|item| (name(span, kv), item)));
            }
            match ranged.kvs.last() {
                Some(last) if ranged.count > ranged.kvs.len() => {
                    range.span.start = format!("{}\0", last.key);
                }
                _ => return Ok((range.at, set)),
            }
        }
    }

    /// All of a span, now and after each change. It reconnects for ever, and ends when it is dropped.
    pub(crate) async fn follow_set<T: Item>(
        &self,
        span: Span,
        decode: Decode<T>,
    ) -> Result<BoxStream<'static, Set<T>>> {
        let (revision, present) = self.retry(|| self.load_set(&span, decode)).await?;
        let (sets, received) = mpsc::channel(1);
        let observer = Observer {
            store: self.clone(),
            span,
            decode,
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
}

/// One consumer's watch of a set.
struct Observer<K, T> {
    store: Keyspace<K>,
    span: Span,
    decode: Decode<T>,
    sets: mpsc::Sender<Set<T>>,
    /// What was sent last.
    shown: Option<Set<T>>,
}

/// The consumer of the sets is gone.
struct Dropped;

impl<K: Kv, T: Item> Observer<K, T> {
    async fn run(mut self, mut revision: i64, mut present: Set<T>) {
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
            tracing::debug!(%fault, prefix = self.span.start, "the watch of a set is cut off");
            loop {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).clamp(shortest, longest);
                if let Ok(loaded) = self.store.load_set(&self.span, self.decode).await {
                    (revision, present) = loaded;
                    break;
                }
            }
        }
    }

    /// Follows changes until the watch fails.
    async fn follow(&mut self, revision: i64, present: &mut Set<T>) -> Result<Fault, Dropped> {
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
            let mut changed = false;
            for event in batch.events {
                let name = name(&self.span, &event.kv);
                let item = (self.decode)(&event.kv).filter(|_| !event.deleted);
                changed |= present.get(&name) != item.as_ref();
                match item {
                    Some(item) => present.insert(name, item),
                    None => present.remove(&name),
                };
            }
            if changed {
                self.send(present).await?;
            }
        }
        Ok(Fault::Lost("the watch ended".into()))
    }

    /// Sends the set unless it is what was sent last.
    async fn show(&mut self, present: &Set<T>) -> Result<(), Dropped> {
        if self.shown.as_ref() == Some(present) {
            return Ok(());
        }
        self.send(present).await
    }

    async fn send(&mut self, present: &Set<T>) -> Result<(), Dropped> {
        self.shown = Some(present.clone());
        self.sets.send(present.clone()).await.map_err(|_| Dropped)
    }
}

fn name(span: &Span, kv: &KeyValue) -> Arc<str> {
    kv.key[span.start.len()..].into()
}
