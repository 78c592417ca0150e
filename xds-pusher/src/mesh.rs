//! The one task that owns the model: it applies what the store reports, compiles what depends on it, and publishes each
//! proxy's snapshot.
//!
//! *Invariant:* nothing else changes the model; nothing here talks to an Envoy or to etcd.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use compile::{Compiler, Proxy, ProxyId};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered};
use metrics::{counter, gauge, histogram};
use model::Revision;
use model::mtls::Mode;
use store::{Entries, Event, Watch};
use telemetry::Check;
use telemetry::trace::{Carried, Context};
use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

use crate::freshness::Freshness;
use crate::guard::Accounts;
use crate::modes::{self, Tell, Told};
use crate::observe::{self, Commits};
use crate::state::State;
use crate::trace::{self, Expected, Tracer, Write};
use crate::views::Views;

/// How many events are merged into one compilation when they come faster than they are compiled.
const BATCH: usize = 1024;

/// Where a stream's snapshots are published; `None` until the first.
pub(crate) type Publish = Arc<watch::Sender<Option<Arc<xds::Snapshot>>>>;

/// What other tasks ask of the owner of the model.
pub(crate) enum Command {
    /// A proxy opened a stream. It is served until every receiver of its snapshots is gone.
    Connect { proxy: Proxy, publish: Publish },
    /// A question about the model; it must be quick.
    Ask(Box<dyn FnOnce(&Views) + Send>),
}

/// Who gets what while a change is delivered gradually.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sides {
    /// The changes that are held back from some, or might be: the revisions of the active rollouts.
    pub(crate) changes: BTreeSet<Revision>,
    /// Those from whom something is held back.
    pub(crate) held: BTreeSet<Arc<str>>,
}

impl Sides {
    /// The oldest of the changes.
    pub(crate) fn first(&self) -> Revision {
        self.changes.first().copied().unwrap_or_default()
    }
}

/// What happens to subscribers while the model waits.
#[derive(Clone, Copy)]
enum Turn {
    Fresh(ProxyId, Revision),
    Gone(ProxyId),
}

/// A proxy that is served.
struct Subscriber {
    node: Arc<str>,
    publish: Publish,
    /// The modes of mutual TLS in what was last published.
    modes: BTreeMap<u16, Mode>,
    /// Whether it gets every change at once.
    first: bool,
    /// The revision at which it changed sides: what it gets since is no older, whatever its own revision says.
    floor: Revision,
}

/// The owner of the model.
pub(crate) struct Mesh {
    views: Views,
    sides: watch::Sender<Option<Sides>>,
    commits: Commits,
    revision: watch::Sender<Revision>,
    epoch: watch::Sender<String>,
    watching: watch::Sender<bool>,
    accounts: watch::Sender<Accounts>,
    state: State,
    subscribers: HashMap<ProxyId, Subscriber>,
    /// What proxies are known to run of mutual TLS; `None` until it was read, always read where there are no identities.
    modes: Option<Entries>,
    /// Absent without identities.
    tell: Option<Tell>,
    /// Those to whom nothing is published before the model is at least as new as the store was when they came: the revision
    /// to reach, once it is known. Until then, and while it is not reached, they wait, and end when the server's patience does.
    held: HashMap<ProxyId, Option<Revision>>,
    freshness: Arc<Freshness>,
    turns: FuturesUnordered<BoxFuture<'static, Turn>>,
    /// Absent without a collector of traces.
    tracer: Option<Tracer>,
    store_check: Check,
    config_check: Check,
}

impl Mesh {
    pub(crate) fn new(
        compiler: Compiler,
        commits: Commits,
        freshness: Freshness,
        health: &telemetry::Health,
        tell: Option<Tell>,
        tracer: Option<Tracer>,
        epoch: watch::Sender<String>,
    ) -> Self {
        Self {
            views: Views::new(compiler),
            sides: watch::Sender::new(None),
            commits,
            revision: watch::Sender::new(Revision::default()),
            epoch,
            watching: watch::Sender::new(false),
            accounts: watch::Sender::new(None),
            state: State::default(),
            subscribers: HashMap::new(),
            modes: tell.is_none().then(Entries::default),
            tell,
            held: HashMap::new(),
            freshness: Arc::new(freshness),
            turns: FuturesUnordered::new(),
            tracer,
            store_check: health.check("etcd", "the policy is not loaded yet"),
            config_check: health.check("config", "the policy is not loaded yet"),
        }
    }

    /// The revision that the model is at.
    pub(crate) fn revision(&self) -> watch::Receiver<Revision> {
        self.revision.subscribe()
    }

    /// Who gets what, while not everybody gets everything.
    pub(crate) fn sides(&self) -> watch::Receiver<Option<Sides>> {
        self.sides.subscribe()
    }

    /// Whether the watch on the store is alive.
    pub(crate) fn watching(&self) -> watch::Receiver<bool> {
        self.watching.subscribe()
    }

    /// The service account of each workload.
    pub(crate) fn accounts(&self) -> watch::Receiver<Accounts> {
        self.accounts.subscribe()
    }

    /// Applies events and answers commands until the commands end.
    pub(crate) async fn run(
        mut self,
        watch: Watch,
        mut modes: BoxStream<'static, Entries>,
        mut commands: mpsc::Receiver<Command>,
    ) {
        let mut events = watch.ready_chunks(BATCH);
        loop {
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(command) => self.answer(command),
                    None => return,
                },
                batch = events.next() => match batch {
                    Some(batch) => self.apply(batch),
                    None => return,
                },
                Some(set) = modes.next() => self.learn(set),
                Some(turn) = self.turns.next() => self.turn(&turn),
            }
        }
    }

    /// Applies what came together as one change, so that a burst is compiled once and an idle mesh is never waited for.
    fn apply(&mut self, events: Vec<Event>) {
        let (mut changes, mut writes) = (Vec::new(), Vec::new());
        let mut revision = *self.revision.borrow();
        for event in events {
            match event {
                Event::Disconnected { reason } => {
                    warn!(
                        reason,
                        "the watch on the store is cut; serving the state of revision {revision}"
                    );
                    self.store_check.fail(format!("the watch is cut: {reason}"));
                    self.watching.send_replace(false);
                    continue;
                }
                Event::Progress { revision: at } => revision = at,
                Event::Changes {
                    revision: at,
                    changes: new,
                    authors,
                    written,
                } => {
                    revision = at;
                    if let Some(written) = written {
                        self.commits.note(at, written);
                        histogram!("weft_watch_delay_seconds").record(observe::age(written));
                    }
                    writes.push(Write::of(at, &new, &authors));
                    changes.extend(
                        new.into_iter()
                            .filter_map(|change| self.state.change(change)),
                    );
                }
                Event::Snapshot(snapshot) => {
                    info!(revision = %snapshot.revision, resources = snapshot.objects.len(), "loaded the policy");
                    let last = std::mem::replace(&mut revision, snapshot.revision);
                    changes.extend(self.state.replace(snapshot, last));
                    self.state.loaded = true;
                }
            }
            self.store_check.ok();
            self.watching.send_replace(true);
        }
        match self.state.complaint() {
            None => self.config_check.ok(),
            Some(complaint) if self.state.loaded => self.config_check.degraded(complaint),
            Some(complaint) => self.config_check.fail(complaint),
        }
        if self.state.loaded {
            self.accounts.send_if_modified(|present| {
                let same =
                    (present.as_ref()).is_some_and(|present| present.ptr_eq(&self.state.accounts));
                if !same {
                    *present = Some(self.state.accounts.clone());
                }
                !same
            });
        }
        self.compile(revision, changes, &writes);
    }

    /// Takes over what proxies run of mutual TLS.
    fn learn(&mut self, set: Entries) {
        let changes = modes::changes(self.modes.as_ref().unwrap_or(&Entries::default()), &set);
        let writes = self
            .modes
            .as_ref()
            .map(|before| modes::writes(before, &set));
        self.modes = Some(set);
        let revision = *self.revision.borrow();
        self.compile(revision, changes, &writes.unwrap_or_default());
    }

    fn compile(&mut self, revision: Revision, changes: Vec<compile::Change>, writes: &[Write]) {
        let traced = trace::begin(writes);
        let _current = traced.as_ref().map(|traced| traced.context().attach());
        let begun = std::time::Instant::now();
        let count = changes.len();
        let rollouts = self.state.rollouts.clone();
        let outcome = self.views.apply(revision, changes, rollouts);
        let applied = outcome.applied;
        if count > 0 {
            let elapsed = begun.elapsed();
            histogram!("weft_compile_seconds").record(elapsed);
            counter!("weft_units_recompiled_total").increment(applied.counters.units_recompiled);
            counter!("weft_resources_recompiled_total")
                .increment(applied.counters.resources_changed);
            debug!(%revision, changes = count, proxies = outcome.changed.len(), ?elapsed, "compiled");
        }
        let mut changed = outcome.changed;
        let sided = self.side(revision);
        if outcome.regrouped {
            changed.extend(sided);
        }
        if let Some(traced) = &traced {
            traced.compiled(&applied);
            // Nobody acknowledges a revision twice.
            let newer = revision > *self.revision.borrow();
            let tracer = self.tracer.as_ref().filter(|_| newer);
            traced.push(tracer, revision, || self.expected(revision, &changed));
        }
        for id in changed {
            self.publish(id);
        }
        // After what it brought: who reads a revision finds its snapshots published.
        self.revision.send_replace(revision);
        // Not before: a revision of before would be taken for one of the new epoch.
        self.epoch.send_if_modified(|epoch| {
            let other = *epoch != self.state.epoch;
            if other {
                epoch.clone_from(&self.state.epoch);
            }
            other
        });
        self.measure();
        self.release();
    }

    /// Who is about to be shown a new snapshot.
    fn expected(&self, at: Revision, changed: &BTreeSet<ProxyId>) -> Vec<Expected> {
        let shown = changed.iter().filter(|id| !self.held.contains_key(id));
        let expected = shown.filter_map(|id| {
            let (class, revision) = self.views.place(*id)?;
            let subscriber = self.subscribers.get(id)?;
            let revision = revision.max(subscriber.floor.0);
            // Who moved to what others had before acknowledges no new revision.
            (revision >= at.0).then(|| Expected {
                node: subscriber.node.clone(),
                class,
                revision,
            })
        });
        expected.collect()
    }

    /// Finds out who gets what from now on; those for whom that is something else.
    fn side(&mut self, revision: Revision) -> Vec<ProxyId> {
        let first = self.views.first();
        let active = self.views.active().values();
        let changes: BTreeSet<Revision> = active.map(|rollout| rollout.revision).collect();
        let sides = (!changes.is_empty()).then(|| Sides {
            changes,
            held: self.views.held(),
        });
        let mut sided = Vec::new();
        for (id, subscriber) in &mut self.subscribers {
            let is_first = (first.as_ref()).is_none_or(|first| first.contains(&*subscriber.node));
            if subscriber.first != is_first {
                subscriber.first = is_first;
                subscriber.floor = revision;
                sided.push(*id);
            }
        }
        self.sides.send_if_modified(|present| {
            let new = *present != sides;
            *present = sides;
            new
        });
        sided
    }

    /// Says how large everything is.
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    fn measure(&self) {
        let counters = self.views.full().counters();
        gauge!("weft_mesh_resources").set(self.state.len() as f64);
        gauge!("weft_mesh_revision").set(self.revision.borrow().0 as f64);
        gauge!("weft_cache_units").set(counters.units as f64);
        gauge!("weft_cache_classes").set(counters.classes as f64);
        gauge!("weft_proxies").set(self.subscribers.len() as f64);
    }

    fn answer(&mut self, command: Command) {
        match command {
            Command::Connect { proxy, publish } => self.connect(proxy, publish),
            Command::Ask(question) => question(&self.views),
        }
    }

    fn connect(&mut self, proxy: Proxy, publish: Publish) {
        let node = proxy.id.clone();
        let id = self.views.connect(proxy);
        let first = self.views.first();
        let first = first.is_none_or(|first| first.contains(&*node));
        self.sides.send_if_modified(|sides| {
            let sides = sides.as_mut().filter(|_| self.views.holds_back_from(id));
            sides.is_some_and(|sides| sides.held.insert(node.clone()))
        });
        let subscriber = Subscriber {
            node,
            publish: publish.clone(),
            modes: BTreeMap::new(),
            first,
            floor: Revision::default(),
        };
        self.subscribers.insert(id, subscriber);
        self.held.insert(id, None);
        let freshness = self.freshness.clone();
        self.turns.push(Box::pin(
            async move { Turn::Fresh(id, freshness.read().await) },
        ));
        self.turns.push(Box::pin(async move {
            publish.closed().await;
            Turn::Gone(id)
        }));
    }

    fn turn(&mut self, turn: &Turn) {
        match *turn {
            Turn::Fresh(id, revision) => {
                if let Some(fresh) = self.held.get_mut(&id) {
                    *fresh = Some(revision);
                }
                self.release();
            }
            Turn::Gone(id) => {
                self.subscribers.remove(&id);
                self.held.remove(&id);
                self.views.disconnect(id);
            }
        }
    }

    /// Publishes to the subscribers that the model has become new enough for.
    fn release(&mut self) {
        // Without the modes, clients would be told to speak plaintext to servers that take it no longer.
        if !self.state.loaded || self.modes.is_none() {
            return;
        }
        let revision = *self.revision.borrow();
        let due = |_: &ProxyId, fresh: &mut Option<Revision>| {
            fresh.is_some_and(|fresh| fresh <= revision)
        };
        let due: Vec<ProxyId> = self.held.extract_if(due).map(|(id, _)| id).collect();
        for id in due {
            self.publish(id);
        }
    }

    fn publish(&mut self, id: ProxyId) {
        if self.held.contains_key(&id) {
            return;
        }
        let Some(subscriber) = self.subscribers.get_mut(&id) else {
            return;
        };
        let snapshot = self.views.snapshot(id).map(|snapshot| {
            if snapshot.revision() >= subscriber.floor.0 {
                return snapshot;
            }
            let mut snapshot = Arc::unwrap_or_clone(snapshot);
            snapshot.set_revision(subscriber.floor.0);
            Arc::new(snapshot)
        });
        if let (Some(tell), Some(snapshot)) = (&self.tell, &snapshot) {
            let modes = self.views.mtls(id).into_iter();
            let modes: BTreeMap<u16, Mode> = modes
                .map(|(port, decision)| (port, decision.mode))
                .collect();
            if modes != subscriber.modes {
                subscriber.modes = modes.clone();
                // Before the snapshot, so that it is known when the acknowledgement comes.
                drop(tell.send(Told::Published {
                    node: subscriber.node.clone(),
                    revision: snapshot.revision(),
                    modes,
                    cause: Carried::of(&Context::current()),
                }));
            }
        }
        counter!("weft_snapshot_updates_total").increment(1);
        if let Some(snapshot) = &snapshot {
            let resources: usize = xds::ResourceType::ALL
                .map(|ty| snapshot.len(ty))
                .iter()
                .sum();
            #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
            histogram!("weft_snapshot_resources").record(resources as f64);
        }
        subscriber.publish.send_replace(snapshot);
    }
}
