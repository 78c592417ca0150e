//! Revokes the credentials of workloads that are gone, were created anew, or were given another account.
//!
//! Deleting a WorkloadEntry and its credentials is not one transaction: every replica compares what is stored of both, so
//! that it happens whoever deletes the workload, by whatever way. See `docs/decisions/030-a-credential-ends-with-its-workload.md`.
//!
//! *Invariant:* nothing is revoked because this replica knows too little: of a credential that is newer than what it knows of
//! workloads, while it cannot follow the store, or because a value is damaged.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use model::spec::WorkloadEntry;
use model::{CredentialRecord, Key, Kind, Object, Revision};
use store::{Area, Author, Entries, Entry, Vault, VaultError, VaultOp};
use telemetry::Check;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::liveness::SERVICE;
use crate::view::View;

/// How long to wait after the store did not take a revocation.
const PAUSE: Duration = Duration::from_secs(1);

/// Revokes the credentials that have no workload any more, for ever.
pub(crate) async fn revoke_orphans(
    vault: Arc<dyn Vault>,
    mut view: watch::Receiver<View>,
    check: Check,
) {
    let mut stored = loop {
        match vault.follow(Area::Tokens).await {
            Ok(stored) => break stored,
            Err(error) => check.fail(format!("the credentials cannot be read: {error}")),
        }
        tokio::time::sleep(PAUSE).await;
    };
    let mut judge = Judge::default();
    let mut failed = false;
    loop {
        tokio::select! {
            entries = stored.next() => match entries {
                Some(entries) => judge.credentials(&entries),
                None => return,
            },
            changed = view.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(PAUSE), if failed => {}
        }
        let view = view.borrow_and_update().clone();
        judge.workloads(&view);
        failed = false;
        for orphan in judge.orphans(&view) {
            if let Err(error) = revoke(&*vault, &orphan).await {
                failed = true;
                check.fail(format!("a credential cannot be revoked: {error}"));
                break;
            }
        }
        if !failed {
            check.ok();
        }
    }
}

async fn revoke(vault: &dyn Vault, orphan: &Orphan) -> Result<(), VaultError> {
    let path = orphan.path.to_string();
    let expect = orphan.revision;
    let delete = VaultOp::Delete { path, expect };
    let author = Author {
        who: SERVICE.into(),
        verb: format!("revoke: {}", orphan.why),
        ..Author::default()
    };
    let workload = &orphan.workload;
    let deed = super::deed(
        &orphan.path,
        &workload.namespace,
        &workload.name,
        Some(expect),
    );
    let write = vault.write_recorded(Area::Tokens, vec![delete], None, author, vec![deed]);
    match write.await {
        Ok(_) => {
            let id = &orphan.path[..orphan.path.len().min(super::ID)];
            info!(id, workload = %orphan.workload, why = orphan.why, "a credential was revoked");
            Ok(())
        }
        // Another replica did.
        Err(VaultError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A credential that must not be one any more.
#[derive(Debug, PartialEq, Eq)]
struct Orphan {
    path: Arc<str>,
    revision: Revision,
    workload: Key,
    why: &'static str,
}

/// What a credential is bound to.
struct Bound {
    revision: Revision,
    workload: Key,
    uid: String,
    account: String,
}

/// Says which credentials have lost their workload. It looks at what changed, not at everything.
#[derive(Default)]
struct Judge {
    entries: Entries,
    objects: OrdMap<Key, Arc<Object>>,
    bound: HashMap<Arc<str>, Bound>,
    /// The credentials of each workload.
    of: BTreeMap<Key, BTreeSet<Arc<str>>>,
    /// Those that are to be looked at.
    due: BTreeSet<Arc<str>>,
}

impl Judge {
    /// What is stored of credentials now.
    fn credentials(&mut self, entries: &Entries) {
        let before = std::mem::replace(&mut self.entries, entries.clone());
        for change in before.diff(entries) {
            match change {
                DiffItem::Add(path, entry)
                | DiffItem::Update {
                    new: (path, entry), ..
                } => {
                    self.forget(path);
                    self.learn(path, entry);
                }
                DiffItem::Remove(path, _) => self.forget(path),
            }
        }
    }

    fn learn(&mut self, path: &Arc<str>, entry: &Entry) {
        let record = match CredentialRecord::from_bytes(&entry.value) {
            Ok(record) => record,
            Err(error) => {
                warn!(%error, path = format!("tokens/{path}"), "a stored credential cannot be read");
                return;
            }
        };
        let Some(uid) = record.workload_uid else {
            return;
        };
        let namespace = record.identity.namespace();
        let workload = Key::new(Kind::WorkloadEntry, namespace, record.workload);
        self.of
            .entry(workload.clone())
            .or_default()
            .insert(path.clone());
        self.due.insert(path.clone());
        let bound = Bound {
            revision: entry.revision,
            workload,
            uid,
            account: record.identity.service_account().to_owned(),
        };
        self.bound.insert(path.clone(), bound);
    }

    fn forget(&mut self, path: &Arc<str>) {
        self.due.remove(path);
        let Some(bound) = self.bound.remove(path) else {
            return;
        };
        if let Some(paths) = self.of.get_mut(&bound.workload) {
            paths.remove(path);
            if paths.is_empty() {
                self.of.remove(&bound.workload);
            }
        }
    }

    /// What is stored of workloads now.
    fn workloads(&mut self, view: &View) {
        let before = std::mem::replace(&mut self.objects, view.objects.clone());
        for change in before.diff(&view.objects) {
            let (DiffItem::Add(key, _)
            | DiffItem::Remove(key, _)
            | DiffItem::Update { new: (key, _), .. }) = change;
            if let Some(paths) = self.of.get(key) {
                self.due.extend(paths.iter().cloned());
            }
        }
    }

    /// What is to be revoked. It is said again until it is gone.
    fn orphans(&mut self, view: &View) -> Vec<Orphan> {
        if view.stale.is_some() {
            return Vec::new();
        }
        let mut orphans = Vec::new();
        self.due.retain(|path| {
            let Some(bound) = self.bound.get(path) else {
                return false;
            };
            if view.revision < bound.revision {
                return true;
            }
            let Some(why) = lost(bound, view) else {
                return false;
            };
            orphans.push(Orphan {
                path: path.clone(),
                revision: bound.revision,
                workload: bound.workload.clone(),
                why,
            });
            true
        });
        orphans
    }
}

/// Why a credential has lost its workload, if it has.
fn lost(bound: &Bound, view: &View) -> Option<&'static str> {
    let Some(object) = view.objects.get(&bound.workload) else {
        return (!view.is_damaged(&bound.workload)).then_some("its workload was deleted");
    };
    if object.metadata.uid != bound.uid {
        return Some("its workload was deleted and created anew");
    }
    let spec = serde_json::from_value::<WorkloadEntry>(object.spec.clone()).ok()?;
    (spec.account() != bound.account).then_some("its workload has another account now")
}
