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
use tokio::sync::{mpsc, watch};
use tracing::{error, warn};
use xds::pb::envoy::config::core::v3::Node;
use xds::pb::google::protobuf::value::Kind;

use crate::guard::Accounts;
use crate::state::Workload;

/// How long to wait before the store is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// The node's metadata that says how long it lets old connections live: seconds, as its flag `--drain-time-s` has them.
const DRAIN_TIME: &str = "DRAIN_TIME_S";

/// What is told of a proxy.
pub(crate) enum Told {
    /// Its snapshot from this revision on has these modes.
    Published {
        node: Arc<str>,
        revision: i64,
        modes: BTreeMap<u16, Mode>,
    },
    /// It runs the listeners of this revision.
    Acknowledged { node: Arc<Node>, revision: i64 },
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

/// Stores what proxies acknowledge; runs until cancelled.
pub(crate) struct Keeper {
    pub(crate) vault: Arc<dyn Vault>,
    pub(crate) accounts: watch::Receiver<Accounts>,
    pub(crate) told: mpsc::UnboundedReceiver<Told>,
}

/// Modes of a proxy that it has not acknowledged yet, by the revision they came with.
type Pending = HashMap<Arc<str>, BTreeMap<i64, BTreeMap<u16, Mode>>>;

impl Keeper {
    pub(crate) async fn keep(mut self) {
        let mut pending = Pending::new();
        let mut declared: Accounts = None;
        let mut sets = follow(self.vault.clone()).await;
        let Some(mut stored) = sets.next().await else {
            return;
        };
        loop {
            tokio::select! {
                told = self.told.recv() => match told {
                    Some(told) => self.hear(told, &mut pending, &mut stored).await,
                    None => return,
                },
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

    async fn hear(&self, told: Told, pending: &mut Pending, stored: &mut Entries) {
        let now = Timestamp::now();
        let (node, revision) = match told {
            Told::Published {
                node,
                revision,
                modes,
            } => {
                let sent = |before: &Acknowledged| before.sent(&modes, now);
                self.store(&node, stored, sent).await;
                pending.entry(node).or_default().insert(revision, modes);
                return;
            }
            Told::Acknowledged { node, revision } => (node, revision),
        };
        let Some(waiting) = pending.get_mut(&*node.id) else {
            return;
        };
        let later = waiting.split_off(&(revision + 1));
        let newest = std::mem::replace(waiting, later).pop_last();
        if waiting.is_empty() {
            pending.remove(&*node.id);
        }
        let Some((_, modes)) = newest else { return };
        let turned = |before: &Acknowledged| before.turned(&modes, drain(&node), now);
        self.store(&node.id, stored, turned).await;
    }

    /// Stores what became of a node's modes, if they turned; what another replica stored meanwhile is read again.
    async fn store(
        &self,
        node: &str,
        stored: &mut Entries,
        next: impl Fn(&Acknowledged) -> Acknowledged,
    ) {
        let mut parts = node.split('~').skip(1);
        let (Some(namespace), Some(name)) = (parts.next(), parts.next()) else {
            return;
        };
        let path = format!("{namespace}/{name}");
        let mut present = stored.get(path.as_str()).cloned();
        loop {
            let before = present
                .as_ref()
                .and_then(|entry| Acknowledged::from_bytes(&entry.value).ok())
                .unwrap_or_default();
            let next = next(&before);
            if next == before || present.is_none() && next.ports.is_empty() {
                return;
            }
            let value = next.to_bytes();
            let put = VaultOp::Put {
                path: path.clone(),
                value: value.clone(),
                expect: present
                    .as_ref()
                    .map_or(Expect::Absent, |entry| Expect::At(entry.revision)),
            };
            match self.vault.write(Area::Mtls, vec![put], None).await {
                Ok(revision) => {
                    // The set that has it may come after what is told next.
                    let value = value.into();
                    stored.insert(path.as_str().into(), Entry { value, revision });
                    return;
                }
                Err(VaultError::Conflict { .. }) => {}
                Err(error) => {
                    warn!(%error, path, "what a proxy acknowledged cannot be stored yet; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
            loop {
                match self.vault.read(Area::Mtls, &path).await {
                    Ok(entry) => {
                        present = entry;
                        break;
                    }
                    Err(error) => {
                        warn!(%error, path, "the modes of mutual TLS cannot be read; trying again");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
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
