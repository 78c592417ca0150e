//! Watches that outlive connections: load, follow, resume after the last whole revision, relist after a loss.
//!
//! A watch is one task that owns its position. It ends when its consumer drops the stream.
//!
//! *Invariant:* the position moves only by whole revisions that were delivered, in order; a hint that a server is alive
//! never moves it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use model::Revision;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;

use crate::keys::{Layout, Place, Span};
use crate::keyspace::{Keyspace, PAGE, asked};
use crate::kv::{Batch, Fault, KeyValue, Kv, KvEvent, Range};
use crate::{Change, Error, Event, Result, Scope, Snapshot, Watch, codec};

/// How many events may wait for a slow consumer before the watch stops reading.
const BACKLOG: usize = 64;

/// One watch.
struct Follower<K> {
    store: Keyspace<K>,
    scope: Scope,
    relist: bool,
    events: mpsc::Sender<Event>,
    /// Everything up to here was delivered; `None` before the first snapshot and when it must be loaded anew.
    position: Option<i64>,
    /// The epoch that the position belongs to, as it is stored.
    epoch: Option<String>,
}

/// Why following stopped.
enum Stop {
    /// The connection was lost, or there is none.
    Lost(String),
    /// Events were lost: a compaction, or another epoch.
    Gap,
    /// The consumer is gone.
    Dropped,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Compacted | Fault::Future => Self::Gap,
            Fault::Lost(why) | Fault::Refused(why) => Self::Lost(why),
        }
    }
}

impl<K: Kv> Keyspace<K> {
    pub(crate) async fn watch_from(
        &self,
        scope: Scope,
        after: Option<Revision>,
        relist: bool,
    ) -> Result<Watch> {
        let mut position = None;
        let mut epoch = None;
        if let Some(after) = after {
            // A read at that revision tells at once whether its successors are still there.
            let span = self.layout.configs(&scope);
            let probe = Range {
                limit: 1,
                at: after.0,
                keys_only: true,
                ..Range::all(span)
            };
            match self
                .retry(|| self.kv.range(&probe))
                .await
                .map_err(|error| asked(error, after))
            {
                Ok(_) => {
                    position = Some(after.0);
                    epoch = Some(text(&self.retry(|| self.read_epoch()).await?.1));
                }
                Err(Error::Compacted { .. } | Error::Future { .. }) if relist => {}
                Err(error) => return Err(error),
            }
        }
        let (events, received) = mpsc::channel(BACKLOG);
        let follower = Follower {
            store: self.clone(),
            scope,
            relist,
            events,
            position,
            epoch,
        };
        let task = AbortOnDropHandle::new(tokio::spawn(follower.run()));
        Ok(ReceiverStream::new(received)
            .map(move |event| {
                let _owned = &task;
                event
            })
            .boxed())
    }
}

impl<K: Kv> Follower<K> {
    async fn run(mut self) {
        let (shortest, longest) = self.store.kv.pace().pause;
        let mut pause = Duration::ZERO;
        let mut connected = true;
        loop {
            let before = self.position;
            let stop = match self.follow(&mut connected).await {
                Ok(never) => match never {},
                Err(stop) => stop,
            };
            if self.position != before {
                pause = Duration::ZERO;
            }
            match stop {
                Stop::Dropped => return,
                Stop::Gap if !self.relist => return,
                Stop::Gap => self.position = None,
                Stop::Lost(reason) => {
                    if std::mem::replace(&mut connected, false) {
                        tracing::warn!(reason, position = self.position, "a watch is cut off");
                        if self
                            .events
                            .send(Event::Disconnected { reason })
                            .await
                            .is_err()
                        {
                            return;
                        }
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).clamp(shortest, longest);
                }
            }
        }
    }

    /// Connects and follows until something stops it.
    async fn follow(&mut self, connected: &mut bool) -> Result<std::convert::Infallible, Stop> {
        let (now, epoch) = self.store.read_epoch().await?;
        let epoch = text(&epoch);
        let known = self.epoch.get_or_insert_with(|| epoch.clone());
        if *known != epoch || self.position.is_some_and(|position| position > now) {
            tracing::warn!(
                position = self.position,
                now,
                "the store was restored or replaced"
            );
            self.epoch = Some(epoch);
            return Err(Stop::Gap);
        }
        if self.position.is_none() {
            let snapshot = self.load().await?;
            let revision = snapshot.revision;
            // It may have been replaced since it was read above.
            self.epoch = Some(snapshot.epoch.clone());
            self.send(Event::Snapshot(snapshot)).await?;
            self.position = Some(revision.0);
            *connected = true;
        }
        let position = self.position.expect("the snapshot has just set it");
        let whole = self.scope.kind.is_none();
        let span = if whole {
            self.store.layout.all()
        } else {
            self.store.layout.configs(&self.scope)
        };
        let kv = self.store.kv.clone();
        let mut batches = pin!(kv.watch(&span, position + 1).await?);
        if !std::mem::replace(connected, true) {
            self.send(Event::Progress {
                revision: Revision(position),
            })
            .await?;
        }
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            if self.is_other_epoch(&batch) {
                return Err(Stop::Gap);
            }
            let revision = batch.revision;
            self.send(event(&self.store.layout, batch)).await?;
            self.position = Some(revision);
        }
        Err(Stop::Lost("the watch ended".into()))
    }

    async fn send(&self, event: Event) -> Result<(), Stop> {
        self.events.send(event).await.map_err(|_| Stop::Dropped)
    }

    /// Whether a batch replaces the epoch; then it becomes the known one.
    fn is_other_epoch(&mut self, batch: &Batch) -> bool {
        let written = batch
            .events
            .iter()
            .find(|e| self.store.layout.place(&e.kv.key) == Place::Epoch);
        let Some(written) = written
            .map(|e| text(&e.kv))
            .filter(|epoch| self.epoch.as_ref() != Some(epoch))
        else {
            return false;
        };
        self.epoch = Some(written);
        true
    }

    /// Everything in scope, at one revision.
    async fn load(&self) -> Result<Snapshot, Stop> {
        let mut snapshot = Snapshot::default();
        let layout = &self.store.layout;
        self.load_span(layout.configs(&self.scope), &mut snapshot)
            .await?;
        self.load_span(layout.epoch_span(), &mut snapshot).await?;
        if self.scope.kind.is_none() {
            self.load_span(layout.downs(), &mut snapshot).await?;
            self.load_span(layout.rollouts(), &mut snapshot).await?;
        }
        Ok(snapshot)
    }

    async fn load_span(&self, mut span: Span, snapshot: &mut Snapshot) -> Result<(), Fault> {
        loop {
            let range = Range {
                limit: PAGE,
                at: snapshot.revision.0,
                ..Range::all(span.clone())
            };
            let ranged = self.store.kv.range(&range).await?;
            if snapshot.revision == Revision::default() {
                snapshot.revision = Revision(ranged.revision);
            }
            for kv in &ranged.kvs {
                match self.store.layout.place(&kv.key) {
                    Place::Epoch => {
                        snapshot.epoch = text(kv);
                        continue;
                    }
                    Place::Liveness { namespace, name } => {
                        snapshot.down.push((namespace, name));
                        continue;
                    }
                    Place::Rollout(id) => {
                        match codec::decode_rollout(id, kv) {
                            Ok(rollout) => snapshot.rollouts.push(Arc::new(rollout)),
                            Err(undecodable) => snapshot.undecodable.push(undecodable),
                        }
                        continue;
                    }
                    _ => {}
                }
                match codec::decode(&self.store.layout, kv) {
                    Ok(object) => snapshot.objects.push(Arc::new(object)),
                    Err(undecodable) => snapshot.undecodable.push(undecodable),
                }
            }
            match ranged.kvs.last() {
                Some(last) if ranged.count > ranged.kvs.len() => {
                    span.start = format!("{}\0", last.key)
                }
                _ => return Ok(()),
            }
        }
    }
}

/// An epoch as people may have written it.
fn text(epoch: &KeyValue) -> String {
    String::from_utf8_lossy(&epoch.value).trim().to_owned()
}

/// What a watcher is told of one revision.
fn event(layout: &Layout, batch: Batch) -> Event {
    let revision = Revision(batch.revision);
    let mut changes = Vec::new();
    let mut authors = Vec::new();
    let mut written = None;
    for event in batch.events {
        match layout.place(&event.kv.key) {
            Place::Config(key) => changes.extend(change(layout, key, &event)),
            Place::Liveness { namespace, name } => {
                // A workload that was down already did not turn.
                if event.deleted || event.before.is_none() {
                    changes.push(Change::Liveness {
                        namespace,
                        name,
                        up: event.deleted,
                    });
                }
            }
            Place::Record if !event.deleted => {
                written = written.or_else(|| layout.record_id(&event.kv.key).and_then(made));
                match codec::decode_author(&event.kv) {
                    Some(author) => authors.push(author),
                    None => tracing::warn!(key = event.kv.key, "a change record cannot be decoded"),
                }
            }
            Place::Rollout(id) if event.deleted => {
                changes.push(Change::Rollout { id, rollout: None });
            }
            Place::Rollout(id) => changes.push(match codec::decode_rollout(id, &event.kv) {
                Ok(rollout) => Change::Rollout {
                    id,
                    rollout: Some(Arc::new(rollout)),
                },
                Err(undecodable) => Change::Undecodable(undecodable),
            }),
            Place::Record | Place::Epoch | Place::Other => {}
        }
    }
    if changes.is_empty() {
        return Event::Progress { revision };
    }
    Event::Changes {
        revision,
        changes,
        authors,
        written,
    }
}

/// When a change record was made: its name begins with that.
fn made(record: uuid::Uuid) -> Option<jiff::Timestamp> {
    let (seconds, nanoseconds) = record.get_timestamp()?.to_unix();
    let (seconds, nanoseconds) = (
        i64::try_from(seconds).ok()?,
        i32::try_from(nanoseconds).ok()?,
    );
    jiff::Timestamp::new(seconds, nanoseconds).ok()
}

/// What happened to a resource. Nothing, if a key was deleted that was none.
fn change(layout: &Layout, key: Option<model::Key>, event: &KvEvent) -> Option<Change> {
    let before = || {
        event
            .before
            .as_ref()
            .and_then(|kv| codec::decode(layout, kv).ok())
            .map(Arc::new)
    };
    if event.deleted {
        return key.map(|key| Change::Delete {
            key,
            before: before(),
        });
    }
    Some(match codec::decode(layout, &event.kv) {
        Ok(object) => Change::Put {
            object: Arc::new(object),
            before: before(),
        },
        Err(undecodable) => Change::Undecodable(undecodable),
    })
}
