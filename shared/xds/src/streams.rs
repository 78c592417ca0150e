//! The streams of a server, and what is known of each: who, which revisions were sent and ACKed, what was refused.
//!
//! *Invariant:* a status is a copy; reading it never holds a stream up.

mod history;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use envoy_types::pb::envoy::config::core::v3::Node;
use tokio::sync::watch;
use tonic::Status;

use crate::callbacks::StreamInfo;
use crate::session::{Event, Progress, Response};
use crate::{ResourceType, Snapshot, Snapshots};

use history::History;

/// What is known of one type on one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeStatus {
    /// The revision that the last response led to.
    pub sent: Option<i64>,
    /// The revision that the client runs: ACKed, or without news for it.
    pub acked: Option<i64>,
    /// The last NACK, until a later response is ACKed: revision and error.
    pub nack: Option<(i64, String)>,
    /// What the client refuses of what it should have, by name: version and error.
    pub refused: BTreeMap<Arc<str>, (Arc<str>, String)>,
    /// Whether it subscribed to everything.
    pub wildcard: bool,
    /// How many names it subscribed to.
    pub names: usize,
    /// Responses sent.
    pub responses: u64,
    /// Resources sent in them.
    pub resources: u64,
    /// NACKs received.
    pub nacks: u64,
}

/// What is known of one stream.
#[derive(Clone, Debug)]
pub struct StreamStatus {
    /// Which stream.
    pub stream: StreamInfo,
    /// The revision of its newest snapshot.
    pub revision: Option<i64>,
    /// By type, those that it subscribed to.
    pub types: BTreeMap<ResourceType, TypeStatus>,
    /// How far the client is with its newest snapshot.
    pub progress: Progress,
    /// The newest revision of which it ACKed everything.
    acked: Option<i64>,
    warm: History,
}

impl StreamStatus {
    /// The newest revision of which the client answered everything that it asked for; `None` before it asked for clusters and
    /// listeners.
    pub fn acked(&self) -> Option<i64> {
        self.acked
    }

    /// How far the client is with a revision, and since when it has been [`Progress::Warm`] with it. `published` says that
    /// its newest snapshot holds everything up to that revision, whatever revision it is of: a change that is none for this
    /// client gives it no new one.
    pub fn at(&self, revision: i64, published: bool) -> (Progress, Option<Instant>) {
        let since = self.warm.since(revision);
        let last = || {
            let warm = published && self.progress == Progress::Warm;
            warm.then(|| self.warm.last()).flatten()
        };
        if let Some(since) = since.or_else(last) {
            return (Progress::Warm, Some(since));
        }
        let newest = if published {
            self.progress
        } else {
            Progress::Behind
        };
        let acked = self.acked.is_some_and(|acked| acked >= revision);
        let progress = newest.max(match acked {
            true => Progress::Acked,
            false => Progress::Behind,
        });
        (progress, None)
    }
}

struct Entry {
    stream: StreamInfo,
    types: BTreeMap<ResourceType, TypeStatus>,
    snapshots: Option<Snapshots>,
    close: watch::Sender<Option<Status>>,
    /// The newest snapshot that the client answered, and how far it was with it.
    answered: Option<(Arc<Snapshot>, Progress)>,
    warm: History,
}

/// The open streams of a server. Cheap to clone.
#[derive(Clone, Default)]
pub struct Streams(Arc<Inner>);

#[derive(Default)]
struct Inner {
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, Entry>>,
    changes: watch::Sender<()>,
}

impl Streams {
    /// All open streams, by id.
    pub fn list(&self) -> Vec<StreamStatus> {
        self.open().values().map(Entry::status).collect()
    }
    /// Hears of it when a stream came or went, or there is something else to say of one. A new snapshot is no such thing
    /// before the stream takes it up: who publishes it knows.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.changes.subscribe()
    }
    /// The open streams whose first request came, and their nodes.
    pub fn nodes(&self) -> Vec<(u64, Arc<Node>)> {
        let open = self.open();
        let node = |(id, entry): (&u64, &Entry)| Some((*id, entry.stream.node.clone()?));
        open.iter().filter_map(node).collect()
    }
    /// One open stream.
    pub fn get(&self, id: u64) -> Option<StreamStatus> {
        self.open().get(&id).map(Entry::status)
    }
    /// The open streams of a node.
    pub fn of_node(&self, node_id: &str) -> Vec<StreamStatus> {
        let open = self.open();
        let of = |entry: &&Entry| {
            entry
                .stream
                .node
                .as_ref()
                .is_some_and(|node| node.id == node_id)
        };
        open.values().filter(of).map(Entry::status).collect()
    }
    /// The revision that the client of a stream runs of everything that it subscribed to; `None` while it has not answered
    /// for a type of that.
    pub fn acked(&self, id: u64) -> Option<i64> {
        let open = self.open();
        let types = open.get(&id)?.types.values();
        let subscribed = types.filter(|status| status.wildcard || status.names > 0);
        subscribed.map(|status| status.acked).min().flatten()
    }
    /// The newest snapshot of a stream.
    pub fn snapshot(&self, id: u64) -> Option<Arc<Snapshot>> {
        self.open().get(&id)?.snapshots.as_ref()?.borrow().clone()
    }
    /// How many streams have no snapshot yet.
    pub fn unserved(&self) -> usize {
        let open = self.open();
        let served = |it: &&Entry| {
            it.snapshots
                .as_ref()
                .is_some_and(|it| it.borrow().is_some())
        };
        open.len() - open.values().filter(served).count()
    }
    /// How many streams are open.
    pub fn len(&self) -> usize {
        self.open().len()
    }
    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open().is_empty()
    }
    /// Ends a stream with this status; whether it was open.
    pub fn close(&self, id: u64, status: Status) -> bool {
        self.open()
            .get(&id)
            .map(|entry| entry.close.send_replace(Some(status)))
            .is_some()
    }
    /// Ends all streams with this status.
    pub fn close_all(&self, status: &Status) {
        self.open()
            .values()
            .for_each(|entry| drop(entry.close.send_replace(Some(status.clone()))));
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.0.next.fetch_add(1, Ordering::Relaxed) + 1
    }
    pub(crate) fn add(&self, stream: StreamInfo) -> watch::Receiver<Option<Status>> {
        let (close, closed) = watch::channel(None);
        let entry = Entry {
            types: BTreeMap::new(),
            snapshots: None,
            close,
            stream,
            answered: None,
            warm: History::default(),
        };
        self.open().insert(entry.stream.id, entry);
        self.changed();
        closed
    }
    pub(crate) fn remove(&self, id: u64) {
        self.open().remove(&id);
        self.changed();
    }
    pub(crate) fn identified(&self, stream: &StreamInfo, snapshots: Snapshots) {
        if let Some(entry) = self.open().get_mut(&stream.id) {
            entry.stream = stream.clone();
            entry.snapshots = Some(snapshots);
        }
        self.changed();
    }
    pub(crate) fn subscribed(&self, id: u64, ty: ResourceType, (wildcard, names): (bool, usize)) {
        self.change(id, ty, |status| {
            (status.wildcard, status.names) = (wildcard, names)
        });
    }
    pub(crate) fn sent(&self, id: u64, response: &Response) {
        self.change(id, response.ty(), |status| {
            status.sent = Some(response.revision());
            status.responses += 1;
            status.resources += response.resources().len() as u64;
        });
    }
    pub(crate) fn event(&self, id: u64, event: &Event) {
        match event {
            Event::Ack { ty, revision } => self.change(id, *ty, |status| {
                status.acked = Some(*revision);
                if status
                    .nack
                    .as_ref()
                    .is_some_and(|(nacked, _)| nacked < revision || status.refused.is_empty())
                {
                    status.nack = None;
                }
            }),
            Event::Nack {
                ty,
                revision,
                error,
                ..
            } => self.change(id, *ty, |status| {
                status.nack = Some((*revision, error.clone()));
                status.nacks += 1;
            }),
            Event::Refused {
                ty,
                name,
                version,
                error,
            } => self.change(id, *ty, |status| {
                status
                    .refused
                    .insert(name.clone(), (version.clone(), error.clone()));
            }),
            // Which refusals matter depends on what is wanted now: see `Entry::status`.
            Event::Corrected { .. } | Event::Unsupported { .. } => {}
        }
    }

    pub(crate) fn progressed(
        &self,
        id: u64,
        snapshot: Arc<Snapshot>,
        progress: Progress,
        now: Instant,
    ) {
        if let Some(entry) = self.open().get_mut(&id) {
            if progress == Progress::Warm {
                entry.warm.reached(snapshot.revision(), now);
            }
            entry.answered = Some((snapshot, progress));
        }
        self.changed();
    }

    fn change(&self, id: u64, ty: ResourceType, change: impl FnOnce(&mut TypeStatus)) {
        if let Some(entry) = self.open().get_mut(&id) {
            change(entry.types.entry(ty).or_default());
        }
        self.changed();
    }
    fn changed(&self) {
        self.0.changes.send_replace(());
    }
    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, Entry>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn status(&self) -> StreamStatus {
        let snapshot = self.snapshots.as_ref().and_then(|s| s.borrow().clone());
        let mut types = self.types.clone();
        if let Some(snapshot) = &snapshot {
            for (ty, status) in &mut types {
                // A refused version is not sent again, so nothing is heard of it when it is wanted again, or no longer.
                let wanted = |name: &str| snapshot.get(*ty, name).map(|r| r.version().clone());
                status
                    .refused
                    .retain(|name, (version, _)| wanted(name).as_ref() == Some(version));
            }
        }
        let progress = match (&self.answered, &snapshot) {
            (Some((answered, progress)), Some(newest)) if Arc::ptr_eq(answered, newest) => {
                *progress
            }
            _ => Progress::Behind,
        };
        StreamStatus {
            stream: self.stream.clone(),
            revision: snapshot.map(|snapshot| snapshot.revision()),
            types,
            progress,
            acked: self.answered.as_ref().map(|(it, _)| it.revision()),
            warm: self.warm.clone(),
        }
    }
}
