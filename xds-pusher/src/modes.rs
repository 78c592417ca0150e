//! Which modes of mutual TLS proxies run: learned from what they acknowledge, stored when it turns, and read back by every
//! replica, whose clients follow it.
//!
//! *Invariant:* nothing is stored that has not turned, and nothing that a proxy has not acknowledged, but for this: that it is
//! strict no more is stored when it is told to be, for it obeys before it answers.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use imbl::ordmap::DiffItem;
use jiff::Timestamp;
use model::mtls::{Acknowledged, DRAIN, Mode};
use store::{Area, Entries, Entry, Expect, Vault, VaultError, VaultOp};
use telemetry::trace::{Carried, is_exported};
use tokio::sync::{mpsc, watch};
use tracing::{error, warn};
use xds::pb::envoy::config::core::v3::Node;
use xds::pb::google::protobuf::value::Kind;

use crate::guard::Accounts;
use crate::state::Workload;
use crate::trace::{self, Write};

/// How long to wait before the store is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// How many workloads are stored in one transaction, of which etcd takes 128 by default.
const AT_ONCE: usize = 100;

/// How much of what was told is taken together.
const TOGETHER: usize = 10_000;

/// The node's metadata that says how long it lets old connections live: seconds, as its flag `--drain-time-s` has them.
const DRAIN_TIME: &str = "DRAIN_TIME_S";

/// What is told of a proxy.
pub(crate) enum Told {
    /// Its snapshot from this revision on has these modes.
    Published {
        node: Arc<str>,
        revision: i64,
        modes: BTreeMap<u16, Mode>,
        /// The trace in which they were compiled.
        cause: Carried,
    },
    /// It has this stream, too, of which it is not known yet what it runs.
    Opened { node: Arc<Node>, stream: u64 },
    /// This stream of it runs the listeners of this revision.
    Acknowledged {
        node: Arc<Node>,
        stream: u64,
        revision: i64,
    },
    /// It has this stream no longer.
    Closed { node: Arc<str>, stream: u64 },
}

/// Where it is told.
pub(crate) type Tell = mpsc::UnboundedSender<Told>;

/// The stored modes of all workloads, now and after each change; ends never.
pub(crate) async fn follow(vault: Arc<dyn Vault>) -> BoxStream<'static, Entries> {
    loop {
        match vault.follow(Area::Mtls).await {
            Ok(sets) => return sets,
            Err(error) => warn!(%error, "the modes of mutual TLS cannot be read yet; trying again"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What changed between two sets of stored modes, as the compiler takes it. Costs what changed.
pub(crate) fn changes(before: &Entries, now: &Entries) -> Vec<compile::Change> {
    let change = |path: &str, entry: Option<&Entry>| {
        let (namespace, name) = path.split_once('/')?;
        let ports = match entry.map(|entry| Acknowledged::from_bytes(&entry.value)) {
            None => Default::default(),
            Some(Ok(acknowledged)) => acknowledged.mtls(),
            Some(Err(error)) => {
                error!(%error, path = format!("mtls/{path}"), "stored modes cannot be read; the last good ones stay");
                return None;
            }
        };
        Some(compile::Change::Mtls {
            namespace: namespace.into(),
            name: name.into(),
            ports,
        })
    };
    let changes = before.diff(now).filter_map(|item| match item {
        DiffItem::Add(path, entry) => change(path, Some(entry)),
        DiffItem::Update { new, .. } => change(new.0, Some(new.1)),
        DiffItem::Remove(path, _) => change(path, None),
    });
    changes.collect()
}

/// In which traces what changed between two sets was acknowledged, where it was in any.
pub(crate) fn writes(before: &Entries, now: &Entries) -> Vec<Write> {
    if !is_exported() {
        return Vec::new();
    }
    let writes = before.diff(now).filter_map(|item| {
        let (path, entry) = match item {
            DiffItem::Add(path, entry) => (path, entry),
            DiffItem::Update { new, .. } => new,
            DiffItem::Remove(..) => return None,
        };
        let workload = path.split_once('/')?;
        let traceparent = Acknowledged::from_bytes(&entry.value).ok()?.traceparent?;
        Some(Write::mode(entry.revision, workload, traceparent))
    });
    writes.collect()
}

/// Stores what proxies acknowledge; runs until cancelled.
pub(crate) struct Keeper {
    pub(crate) vault: Arc<dyn Vault>,
    pub(crate) accounts: watch::Receiver<Accounts>,
    pub(crate) told: mpsc::UnboundedReceiver<Told>,
}

/// What happened to the modes of a workload.
enum Turn {
    /// Its proxy was told them.
    Sent(BTreeMap<u16, Mode>, Carried),
    /// Its proxy runs them, and lets old connections live that long.
    Acknowledged(BTreeMap<u16, Mode>, Duration, Carried),
}

/// What happened to the modes of workloads, in order.
type Turns = BTreeMap<String, Vec<Turn>>;

/// What is known of a node.
#[derive(Default)]
struct Known {
    /// Modes that not all of its streams have acknowledged yet, and what they were compiled for, by the revision they came with.
    pending: BTreeMap<i64, (BTreeMap<u16, Mode>, Carried)>,
    /// What each of its streams has acknowledged. There are several while an Envoy connects again, or where several Envoys
    /// say that they are this node: then all must have turned.
    streams: BTreeMap<u64, Runs>,
}

/// What is known of a stream: the revision of the listeners it runs, and how long it lets old connections live.
type Runs = (Option<i64>, Duration);

/// The nodes, by their ids.
type Nodes = HashMap<Arc<str>, Known>;

/// What was told, as what happened to the modes of a workload.
fn turn(told: Told, nodes: &mut Nodes) -> Option<(String, Turn)> {
    let id = match &told {
        Told::Published { node, .. } | Told::Closed { node, .. } => node.clone(),
        Told::Opened { node, .. } | Told::Acknowledged { node, .. } => node.id.as_str().into(),
    };
    let path = path(&id)?;
    let known = nodes.entry(id.clone()).or_default();
    let turn = match told {
        Told::Published {
            revision,
            modes,
            cause,
            ..
        } => {
            known
                .pending
                .insert(revision, (modes.clone(), cause.clone()));
            Some(Turn::Sent(modes, cause))
        }
        Told::Opened { node, stream } => {
            known.streams.entry(stream).or_insert((None, drain(&node)));
            None
        }
        Told::Acknowledged {
            node,
            stream,
            revision,
        } => {
            known.streams.insert(stream, (Some(revision), drain(&node)));
            known.settle()
        }
        Told::Closed { stream, .. } => {
            known.streams.remove(&stream);
            known.settle()
        }
    };
    if known.pending.is_empty() && known.streams.is_empty() {
        nodes.remove(&id);
    }
    Some((path, turn?))
}

impl Known {
    /// The modes that all streams have acknowledged, if they are news. Where a later one is on its way that is not strict, a
    /// stream may obey it already.
    fn settle(&mut self) -> Option<Turn> {
        let runs = self.streams.values();
        let least = runs.clone().map(|(revision, _)| *revision).min()??;
        let drain = runs.map(|(_, drain)| *drain).max()?;
        let later = self.pending.split_off(&(least + 1));
        let newest = std::mem::replace(&mut self.pending, later).pop_last();
        let (_, (mut modes, cause)) = newest?;
        for (port, mode) in modes.iter_mut().filter(|(_, mode)| **mode == Mode::Strict) {
            let mut later = self.pending.values().map(|(modes, _)| modes.get(port));
            if later.any(|later| later != Some(&Mode::Strict)) {
                *mode = Mode::Permissive;
            }
        }
        Some(Turn::Acknowledged(modes, drain, cause))
    }
}

/// Where the modes of a node are stored. Only sidecars have any: a gateway of the same workload says nothing of them.
fn path(node: &str) -> Option<String> {
    let mut parts = node.split('~');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("sidecar"), Some(namespace), Some(name), None) => Some(format!("{namespace}/{name}")),
        _ => None,
    }
}

/// What is to be stored after all that happened, if anything turned.
fn turned(
    path: &str,
    turns: &[Turn],
    present: Option<&Entry>,
    now: Timestamp,
) -> Option<(Vec<u8>, Expect)> {
    let before = present.and_then(|entry| Acknowledged::from_bytes(&entry.value).ok());
    let before = before.unwrap_or_default();
    let mut next = turns.iter().fold(before.clone(), |known, turn| match turn {
        Turn::Sent(modes, _) => known.sent(modes, now),
        Turn::Acknowledged(modes, drain, _) => known.turned(modes, *drain, now),
    });
    if next == before || present.is_none() && next.ports.is_empty() {
        return None;
    }
    let expect = present.map_or(Expect::Absent, |entry| Expect::At(entry.revision));
    let (Turn::Sent(_, cause) | Turn::Acknowledged(_, _, cause)) = turns.last()?;
    next.traceparent = trace::storing(path, cause).traceparent;
    Some((next.to_bytes(), expect))
}

impl Keeper {
    pub(crate) async fn keep(mut self) {
        let mut nodes = Nodes::new();
        let mut declared: Accounts = None;
        let mut sets = follow(self.vault.clone()).await;
        let Some(mut stored) = sets.next().await else {
            return;
        };
        let mut told = Vec::new();
        loop {
            tokio::select! {
                count = self.told.recv_many(&mut told, TOGETHER) => {
                    if count == 0 { return }
                    let mut turns = Turns::new();
                    for told in told.drain(..) {
                        if let Some((path, turn)) = turn(told, &mut nodes) {
                            turns.entry(path).or_default().push(turn);
                        }
                    }
                    self.store(turns, &mut stored).await;
                }
                set = sets.next() => match set {
                    Some(set) => stored = set,
                    None => return,
                },
                changed = self.accounts.changed() => {
                    if changed.is_err() { return }
                    let now = self.accounts.borrow_and_update().clone();
                    self.forget(&declared, &now, &stored).await;
                    declared = now;
                }
            }
        }
    }

    /// Stores what became of workloads' modes, if they turned, many in one transaction; what another replica stored meanwhile
    /// is read again.
    async fn store(&self, turns: Turns, stored: &mut Entries) {
        let now = Timestamp::now();
        let turns: Vec<_> = turns.into_iter().collect();
        for some in turns.chunks(AT_ONCE) {
            loop {
                let puts = some.iter().filter_map(|(path, turns)| {
                    let (value, expect) = turned(path, turns, stored.get(path.as_str()), now)?;
                    let path = path.clone();
                    Some(VaultOp::Put {
                        path,
                        value,
                        expect,
                    })
                });
                let puts: Vec<VaultOp> = puts.collect();
                if puts.is_empty() {
                    break;
                }
                match self.vault.write(Area::Mtls, puts.clone(), None).await {
                    Ok(revision) => {
                        // The set that has them may come after what is told next.
                        for put in puts {
                            if let VaultOp::Put { path, value, .. } = put {
                                let value = value.into();
                                stored.insert(path.into(), Entry { value, revision });
                            }
                        }
                        break;
                    }
                    Err(VaultError::Conflict { path, .. }) => self.read(&path, stored).await,
                    Err(error) => {
                        warn!(%error, "what proxies acknowledged cannot be stored yet; trying again");
                        tokio::time::sleep(PAUSE).await;
                        // The write may have been done.
                        for (path, _) in some {
                            self.read(path, stored).await;
                        }
                    }
                }
            }
        }
    }

    /// Reads what is stored of a workload.
    async fn read(&self, path: &str, stored: &mut Entries) {
        loop {
            match self.vault.read(Area::Mtls, path).await {
                Ok(Some(entry)) => drop(stored.insert(path.into(), entry)),
                Ok(None) => drop(stored.remove(path)),
                Err(error) => {
                    warn!(%error, path, "the modes of mutual TLS cannot be read; trying again");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            }
            return;
        }
    }

    /// Removes what is stored of workloads that are not declared any more.
    async fn forget(&self, before: &Accounts, now: &Accounts, stored: &Entries) {
        let Some(now) = now else { return };
        let path = |(namespace, name): &Workload| format!("{namespace}/{name}");
        let gone: Vec<String> = match before {
            Some(before) => before
                .diff(now)
                .filter_map(|item| match item {
                    DiffItem::Remove(workload, _) => Some(path(workload)),
                    _ => None,
                })
                .collect(),
            None => stored
                .keys()
                .filter(|path| {
                    let workload = path
                        .split_once('/')
                        .map(|(ns, name)| (ns.into(), name.into()));
                    workload.is_none_or(|workload| !now.contains_key(&workload))
                })
                .map(ToString::to_string)
                .collect(),
        };
        for path in gone {
            if let Some(entry) = stored.get(path.as_str()) {
                let expect = entry.revision;
                let delete = VaultOp::Delete {
                    path: path.clone(),
                    expect,
                };
                // Another replica may have been first; what is left is removed at the next start.
                if let Err(error) = self.vault.write(Area::Mtls, vec![delete], None).await {
                    tracing::debug!(%error, path, "the modes of a workload that is gone were not removed");
                }
            }
        }
    }
}

/// How long a proxy lets old connections live.
fn drain(node: &Node) -> Duration {
    let said = node.metadata.as_ref().and_then(|metadata| {
        match metadata.fields.get(DRAIN_TIME)?.kind.as_ref()? {
            Kind::NumberValue(seconds) => Some(*seconds),
            Kind::StringValue(seconds) => seconds.parse().ok(),
            _ => None,
        }
    });
    said.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .unwrap_or(DRAIN)
}
