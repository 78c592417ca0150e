//! A versioned key-value store in memory: every revision's whole map, shared structurally, and what changed in it.
//!
//! *Invariant:* the lock is never held across an await.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use futures::Stream;
use imbl::OrdMap;
use model::Revision;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::keys::Span;
use crate::kv::{
    Batch, Fault, KeyValue, Kv, KvEvent, Limits, Outcome, Pace, Range, Ranged, Txn, Write,
};

/// The key-value store behind [`super::MemoryStore`].
pub struct MemoryKv {
    limits: Limits,
    link: Arc<Link>,
    shared: Arc<Shared>,
}

/// One client's connection to the data.
struct Link {
    available: AtomicBool,
    /// How often watches were cut off.
    cuts: AtomicU64,
}

impl Link {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            available: AtomicBool::new(true),
            cuts: AtomicU64::new(0),
        })
    }
}

struct Shared {
    state: Mutex<State>,
    /// Tells watches to look again.
    changed: watch::Sender<()>,
}

struct State {
    /// What is older cannot be read any more.
    compacted: i64,
    revision: i64,
    /// The state at each revision since `compacted`, and what the revision changed.
    revisions: BTreeMap<i64, Past>,
    leases: HashMap<i64, Lease>,
    last_lease: i64,
}

/// The whole map at a revision, and what the revision changed in it.
type Past = (OrdMap<String, KeyValue>, Arc<[KvEvent]>);

struct Lease {
    ttl: Duration,
    expires: Instant,
    keys: BTreeSet<String>,
}

impl MemoryKv {
    pub(super) fn new(limits: Limits) -> Self {
        let state = State {
            compacted: 0,
            revision: 1,
            revisions: BTreeMap::from([(1, (OrdMap::new(), Arc::from([])))]),
            leases: HashMap::new(),
            last_lease: 0,
        };
        let shared = Shared {
            state: Mutex::new(state),
            changed: watch::Sender::new(()),
        };
        Self {
            limits,
            link: Link::new(),
            shared: Arc::new(shared),
        }
    }

    pub(super) fn another(&self) -> Self {
        Self {
            limits: self.limits,
            link: Link::new(),
            shared: self.shared.clone(),
        }
    }

    pub(super) fn set_available(&self, available: bool) {
        self.link.available.store(available, Relaxed);
        if !available {
            self.cut_watches();
        }
    }

    pub(super) fn cut_watches(&self) {
        self.link.cuts.fetch_add(1, Relaxed);
        self.shared.changed.send_replace(());
    }

    pub(super) fn compact(&self, revision: i64) {
        let mut state = self.shared.lock();
        state.compacted = state.compacted.max(revision.min(state.revision));
        let compacted = state.compacted;
        state.revisions.retain(|&revision, _| revision >= compacted);
    }

    pub(super) fn revoke_leases(&self) {
        let mut state = self.shared.lock();
        let leases: Vec<i64> = state.leases.keys().copied().collect();
        leases.into_iter().for_each(|lease| state.revoke(lease));
        drop(state);
        self.shared.changed.send_replace(());
    }

    /// Writes whether the link is available or not.
    pub(super) fn write(&self, write: Write) -> Revision {
        let revision = self.shared.lock().write(&[write]);
        self.shared.changed.send_replace(());
        Revision(revision)
    }

    /// Reads whether the link is available or not.
    pub(super) fn read(&self, key: &str) -> Option<Vec<u8>> {
        self.shared.lock().now().get(key).map(|kv| kv.value.clone())
    }

    /// The state, if the link is available.
    fn open(&self) -> Result<MutexGuard<'_, State>, Fault> {
        if self.link.available.load(Relaxed) {
            Ok(self.shared.lock())
        } else {
            Err(Fault::Lost("the store is switched off".into()))
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic happens under this lock")
    }
}

impl State {
    fn now(&self) -> &OrdMap<String, KeyValue> {
        &self.revisions[&self.revision].0
    }

    fn modified(&self, key: &str) -> i64 {
        self.now().get(key).map_or(0, |kv| kv.modified)
    }

    /// Applies writes at the next revision. Deleting what is not there changes nothing; if nothing changes, there is no
    /// new revision.
    fn write(&mut self, writes: &[Write]) -> i64 {
        let mut map = self.now().clone();
        let modified = self.revision + 1;
        let mut events = Vec::new();
        for write in writes {
            let (kv, before) = match write {
                Write::Put { key, value, lease } => {
                    let before = map.get(key).cloned();
                    let created = before.as_ref().map_or(modified, |kv| kv.created);
                    let kv = KeyValue {
                        key: key.clone(),
                        value: value.clone(),
                        created,
                        modified,
                    };
                    map.insert(key.clone(), kv.clone());
                    self.attach(key, *lease);
                    (kv, before)
                }
                Write::Delete { key } => {
                    let Some(before) = map.remove(key) else {
                        continue;
                    };
                    self.attach(key, None);
                    (
                        KeyValue {
                            key: key.clone(),
                            value: Vec::new(),
                            created: 0,
                            modified,
                        },
                        Some(before),
                    )
                }
            };
            events.push(KvEvent {
                kv,
                deleted: matches!(write, Write::Delete { .. }),
                before,
            });
        }
        if !events.is_empty() {
            self.revision = modified;
            self.revisions.insert(modified, (map, events.into()));
        }
        self.revision
    }

    /// Moves a key to a lease, or to none.
    fn attach(&mut self, key: &str, lease: Option<i64>) {
        for held in self.leases.values_mut() {
            held.keys.remove(key);
        }
        if let Some(lease) = lease.and_then(|id| self.leases.get_mut(&id)) {
            lease.keys.insert(key.to_owned());
        }
    }

    fn revoke(&mut self, lease: i64) {
        if let Some(lease) = self.leases.remove(&lease) {
            self.write(
                &lease
                    .keys
                    .into_iter()
                    .map(|key| Write::Delete { key })
                    .collect::<Vec<_>>(),
            );
        }
    }
}

impl Kv for MemoryKv {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn pace(&self) -> Pace {
        Pace {
            patience: Duration::ZERO,
            pause: (Duration::from_millis(5), Duration::from_millis(50)),
        }
    }

    async fn range(&self, range: &Range) -> Result<Ranged, Fault> {
        let state = self.open()?;
        if range.at != 0 && range.at < state.compacted {
            return Err(Fault::Compacted);
        }
        let at = if range.at == 0 {
            state.revision
        } else {
            range.at
        };
        let (map, _) = state.revisions.get(&at).ok_or(Fault::Future)?;
        let span = range.span.start.clone()..range.span.end.clone();
        let found = || map.range(span.clone()).map(|(_, kv)| kv);
        let limit = if range.limit == 0 {
            usize::MAX
        } else {
            range.limit
        };
        let kvs: Vec<&KeyValue> = if range.descending {
            found().rev().take(limit).collect()
        } else {
            found().take(limit).collect()
        };
        let shown = |kv: &KeyValue| {
            let value = if range.keys_only {
                Vec::new()
            } else {
                kv.value.clone()
            };
            KeyValue {
                value,
                ..kv.clone()
            }
        };
        Ok(Ranged {
            revision: state.revision,
            count: found().count(),
            kvs: kvs.into_iter().map(shown).collect(),
        })
    }

    async fn get(&self, keys: &[String]) -> Result<(i64, Vec<Option<KeyValue>>), Fault> {
        let state = self.open()?;
        Ok((
            state.revision,
            keys.iter()
                .map(|key| state.now().get(key).cloned())
                .collect(),
        ))
    }

    async fn txn(&self, txn: &Txn) -> Result<Outcome, Fault> {
        let mut state = self.open()?;
        let actual: Vec<i64> = txn
            .expect
            .iter()
            .map(|(key, _)| state.modified(key))
            .collect();
        if txn
            .expect
            .iter()
            .zip(&actual)
            .any(|((_, expected), actual)| expected != actual)
            || txn.unwritten.iter().any(|(span, since)| {
                let keys = state.now().range(span.start.clone()..span.end.clone());
                let mut keys = keys.map(|(key, _)| state.modified(key));
                keys.any(|modified| modified > *since)
            })
        {
            return Ok(Outcome::Refused(actual));
        }
        let gone = |write: &Write| matches!(write, Write::Put { lease: Some(lease), .. } if !state.leases.contains_key(lease));
        if txn.writes.iter().any(gone) {
            return Err(Fault::Refused("requested lease not found".into()));
        }
        let revision = state.write(&txn.writes);
        drop(state);
        self.shared.changed.send_replace(());
        Ok(Outcome::Done(revision))
    }

    async fn delete(&self, span: &Span) -> Result<u64, Fault> {
        let mut state = self.open()?;
        let keys = state
            .now()
            .range(span.start.clone()..span.end.clone())
            .map(|(key, _)| key.clone());
        let deletes: Vec<Write> = keys.map(|key| Write::Delete { key }).collect();
        state.write(&deletes);
        drop(state);
        self.shared.changed.send_replace(());
        Ok(deletes.len() as u64)
    }

    async fn watch(
        &self,
        span: &Span,
        from: i64,
    ) -> Result<impl Stream<Item = Result<Batch, Fault>> + Send + use<>, Fault> {
        let cuts = self.link.cuts.load(Relaxed);
        drop(self.open()?);
        let cursor = Cursor {
            link: self.link.clone(),
            shared: self.shared.clone(),
            changed: self.shared.changed.subscribe(),
            span: span.clone(),
            next: from,
            cuts,
        };
        Ok(futures::stream::unfold(Some(cursor), async |cursor| {
            let mut cursor = cursor?;
            match cursor.next().await {
                Ok(batch) => Some((Ok(batch), Some(cursor))),
                Err(fault) => Some((Err(fault), None)),
            }
        }))
    }

    async fn grant(&self, ttl: Duration) -> Result<i64, Fault> {
        let mut state = self.open()?;
        state.last_lease += 1;
        let id = state.last_lease;
        state.leases.insert(
            id,
            Lease {
                ttl,
                expires: Instant::now() + ttl,
                keys: BTreeSet::new(),
            },
        );
        tokio::spawn(expire(
            self.link.clone(),
            Arc::downgrade(&self.shared),
            id,
            ttl,
        ));
        Ok(id)
    }

    async fn keep_alive(&self, lease: i64) -> Result<bool, Fault> {
        let mut state = self.open()?;
        let Some(lease) = state.leases.get_mut(&lease) else {
            return Ok(false);
        };
        lease.expires = Instant::now() + lease.ttl;
        Ok(true)
    }

    async fn revoke(&self, lease: i64) -> Result<(), Fault> {
        self.open()?.revoke(lease);
        self.shared.changed.send_replace(());
        Ok(())
    }
}

/// Ends a lease when it was not prolonged in time; not while its holder's link is switched off, which stands for an
/// etcd that is away.
async fn expire(link: Arc<Link>, shared: Weak<Shared>, id: i64, ttl: Duration) {
    let mut wake = Instant::now() + ttl;
    loop {
        tokio::time::sleep_until(wake).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let mut state = shared.lock();
        let Some(lease) = state.leases.get(&id) else {
            return;
        };
        if lease.expires > Instant::now() {
            wake = lease.expires;
        } else if !link.available.load(Relaxed) {
            wake = Instant::now() + ttl;
        } else {
            state.revoke(id);
            drop(state);
            shared.changed.send_replace(());
            return;
        }
    }
}

/// Where a watch is.
struct Cursor {
    link: Arc<Link>,
    shared: Arc<Shared>,
    changed: watch::Receiver<()>,
    span: Span,
    next: i64,
    cuts: u64,
}

impl Cursor {
    async fn next(&mut self) -> Result<Batch, Fault> {
        loop {
            self.changed.mark_unchanged();
            if let Some(batch) = self.look()? {
                return Ok(batch);
            }
            self.changed
                .changed()
                .await
                .map_err(|_| Fault::Lost("the store is gone".into()))?;
        }
    }

    /// The next revision that touches the span, if it has happened.
    fn look(&mut self) -> Result<Option<Batch>, Fault> {
        let state = self.shared.lock();
        if self.link.cuts.load(Relaxed) != self.cuts {
            return Err(Fault::Lost("the watch was cut off".into()));
        }
        if self.next < state.compacted {
            return Err(Fault::Compacted);
        }
        for (&revision, (_, events)) in state.revisions.range(self.next..) {
            self.next = revision + 1;
            let ours =
                |event: &&KvEvent| self.span.start <= event.kv.key && event.kv.key < self.span.end;
            let events: Vec<KvEvent> = events.iter().filter(ours).cloned().collect();
            if !events.is_empty() {
                return Ok(Some(Batch { revision, events }));
            }
        }
        Ok(None)
    }
}
