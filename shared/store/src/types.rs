//! The store's one trait and the values that cross it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::future::BoxFuture;
use jiff::Timestamp;
use model::{Key, Kind, Object, Revision};
use serde::{Deserialize, Serialize};

use crate::Rollout;

/// What a write demands of the resource's present state; a mismatch fails the whole batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It must not exist.
    Absent,
    /// Its last write must have been at this revision.
    At(Revision),
}

/// One write of a batch.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each variant says what its fields are")]
#[allow(
    clippy::large_enum_variant,
    reason = "most operations are the largest one"
)]
pub enum Op {
    /// Create or replace. `metadata.resource_version` of the object is ignored.
    Put { object: Object, expect: Expect },
    /// Delete.
    Delete { key: Key, expect: Expect },
    /// Write the record of a rollout: with the change that it is about, or when it comes into another phase. The revisions
    /// in it are ignored.
    Rollout { rollout: Rollout, expect: Expect },
    /// Forget a rollout that was last written at a revision.
    Forget { id: uuid::Uuid, expect: Revision },
    /// Demand that no resource of a kind was written after a revision: what was decided over all of them still holds.
    /// Deletions do not count.
    Guard { kind: Kind, since: Revision },
    /// Record that a workload's heartbeats stopped (`up: false`) or returned. Idempotent. Creating or deleting a
    /// WorkloadEntry implies that the workload of its name is up, as far as the record goes.
    Liveness {
        namespace: Arc<str>,
        name: Arc<str>,
        up: bool,
    },
}

/// Who wrote and in which trace; stored in the change record of the same transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// The caller, as authenticated; `anonymous` where the API is open.
    pub who: String,
    /// What was asked: `PUT virtualservices/default/reviews`, `apply`, `rollback` …
    pub verb: String,
    /// W3C trace context of the span that wrote it: what it leads to continues the trace.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub traceparent: Option<String>,
    /// What vendors added to it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tracestate: Option<String>,
}

/// One change to one resource, in a change record.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    /// Which resource.
    pub key: Key,
    /// What it was before, with its `resource_version`; `None` for a creation.
    pub before: Option<Object>,
    /// What it is after; `None` for a deletion.
    pub after: Option<Object>,
}

/// The record of one committed transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangeRecord {
    /// UUIDv7: ordered by time.
    pub id: uuid::Uuid,
    /// The revision the transaction committed at.
    pub revision: Revision,
    /// RFC 3339.
    pub time: String,
    /// Who and why.
    pub author: Author,
    /// What changed.
    pub edits: Vec<Edit>,
    /// Which workloads turned: recorded as down, or as up again.
    pub liveness: Vec<Turn>,
    /// What was done to what is no resource.
    pub deeds: Vec<Deed>,
}

/// Something done to what is no resource, in a change record: a credential made or revoked, a step of the certificate
/// authority. It never says what the value is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deed {
    /// To what: `Credential`, `CertificateAuthority`, `AuthorityRequest`.
    pub kind: String,
    /// Its namespace; empty if it is of the whole mesh.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Which one, or what was done to it.
    pub name: String,
    /// The revision of its last write before; `None` for a creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Revision>,
    /// Whether it is there after.
    pub after: bool,
}

/// A workload's turn of liveness, in a change record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// The workload's namespace.
    pub namespace: Arc<str>,
    /// The workload's name.
    pub name: Arc<str>,
    /// Whether it is up since.
    pub up: bool,
}

/// A value under our prefix that is damaged, or not ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{etcd_key} cannot be decoded: {error}")]
pub struct Undecodable {
    /// Where it is.
    pub etcd_key: String,
    /// The resource that belongs there, if the etcd key is well formed.
    pub key: Option<Key>,
    /// The revision it was written at: what a repairing write expects.
    pub revision: Revision,
    /// What is wrong with it.
    pub error: String,
}

/// One change as a watcher sees it.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each variant says what its fields are")]
pub enum Change {
    /// Created or replaced; `before` is what it replaced, where that was decodable and is not compacted yet.
    Put {
        object: Arc<Object>,
        before: Option<Arc<Object>>,
    },
    /// Deleted; `before` is what it was, with the revision of its last write.
    Delete {
        key: Key,
        before: Option<Arc<Object>>,
    },
    /// A workload's liveness turned.
    Liveness {
        namespace: Arc<str>,
        name: Arc<str>,
        up: bool,
    },
    /// A rollout began, came into another phase, or (`None`) was forgotten.
    Rollout {
        id: uuid::Uuid,
        rollout: Option<Arc<Rollout>>,
    },
    /// A value that could not be decoded: reported, otherwise skipped. What was there before stays in force.
    Undecodable(Undecodable),
}

/// What a watch yields.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each variant says what its fields are")]
pub enum Event {
    /// All changes of one revision, together. `authors` are those of its change records, `written` when the record was
    /// made, by its writer's clock; a watch of one kind does not see change records and gives neither.
    Changes {
        revision: Revision,
        changes: Vec<Change>,
        authors: Vec<Author>,
        written: Option<Timestamp>,
    },
    /// The whole state at a revision: at the start, and after events were lost (compaction, a restore). What the
    /// watcher holds and this does not name is deleted.
    Snapshot(Snapshot),
    /// No change, but the watch is alive and complete up to here.
    Progress { revision: Revision },
    /// The connection was lost; the watch is retrying. State is as of the last revision seen.
    Disconnected { reason: String },
}

/// The whole state at one revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The revision it was read at.
    pub revision: Revision,
    /// The epoch that the revision counts in, as it is stored; see [`Store::epoch`].
    pub epoch: String,
    /// Every resource, in the order of their etcd keys.
    pub objects: Vec<Arc<Object>>,
    /// The workloads that are recorded as down: (namespace, name). Empty where the scope is one kind.
    pub down: Vec<(Arc<str>, Arc<str>)>,
    /// The rollouts that are on record, oldest first. Empty where the scope is one kind.
    pub rollouts: Vec<Arc<Rollout>>,
    /// Values that could not be decoded. A watcher that holds an older, valid value of one keeps it.
    pub undecodable: Vec<Undecodable>,
}

/// Which resources to read or watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Of this kind; every kind if `None`.
    pub kind: Option<Kind>,
    /// In this namespace; every namespace if `None`. Only with a kind.
    pub namespace: Option<Arc<str>>,
}

/// One page of a list, pinned to one revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The revision the page was read at (the same for every page of one list).
    pub revision: Revision,
    /// The resources, in the order of their etcd keys.
    pub objects: Vec<Arc<Object>>,
    /// Where the next page starts, if there is one.
    pub next: Option<Key>,
    /// How many more there are after this page.
    pub remaining: u64,
    /// Values that could not be decoded. A watcher that holds an older, valid value of one keeps it.
    pub undecodable: Vec<Undecodable>,
}

/// A service instance that is alive: its leased key under `members/<service>/<instance>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Unique instance id.
    pub instance: String,
    /// Addresses by purpose, such as `grpc` → `127.0.0.1:18000`, `admin` → `127.0.0.1:18001`.
    pub addresses: BTreeMap<String, String>,
    /// The revision of the first write of this membership: orders members by age.
    #[serde(skip, default)]
    pub since: Revision,
}

/// Errors of a store.
#[derive(Debug, thiserror::Error)]
#[allow(
    missing_docs,
    reason = "each variant's message says what its fields are"
)]
pub enum Error {
    /// A precondition did not hold: which resource, and what it is now.
    #[error("{key} is not as expected: it is {}", match actual { Some(r) => format!("at revision {r}"), None => "absent".into() })]
    Conflict { key: Key, actual: Option<Revision> },
    /// What was decided over a kind no longer holds, see [`Op::Guard`].
    #[error("a {kind} was written after revision {since}")]
    Overtaken { kind: Kind, since: Revision },
    /// A rollout is not in the phase it was thought to be in.
    #[error("the rollout {id} has moved on")]
    Moved { id: uuid::Uuid },
    /// The batch writes the same resource twice.
    #[error("{key} is written twice in one batch")]
    Duplicate { key: Key },
    /// A namespace or name that cannot be part of an etcd key.
    #[error("{key}: a namespace and a name must not be empty and must not contain '/'")]
    Name { key: Key },
    /// The revision asked for has been compacted away: list again.
    #[error("revision {asked} has been compacted; list again")]
    Compacted { asked: Revision },
    /// The revision asked for has not happened in this store: it is from before a restore, or invented.
    #[error("revision {asked} has not happened yet; list again")]
    Future { asked: Revision },
    /// More operations or bytes than one transaction takes.
    #[error("{what} in one transaction: {actual}, the limit is {limit}")]
    TooLarge {
        what: &'static str,
        actual: usize,
        limit: usize,
    },
    /// The store cannot be reached or has no quorum. Whether a write took effect is unknown.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// The store refuses, for a reason that lies with it or its configuration: no space, no permission, lower limits
    /// than we were told. The write did not take effect.
    #[error("the store refuses: {0}")]
    Refused(String),
    /// What is stored cannot be decoded.
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
}

/// Result of a store call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Sets of live members; dropping it ends it.
pub type Members = Pin<Box<dyn Stream<Item = Vec<Member>> + Send>>;

/// A watch; dropping it ends it.
pub type Watch = Pin<Box<dyn Stream<Item = Event> + Send>>;

/// Stops a membership when dropped or left; the lease is revoked on [`Membership::leave`].
pub trait Membership: Send + Sync {
    /// Registers other addresses in place of those before: soon, as often as it takes, and whenever the lease is renewed.
    fn set_addresses(&self, addresses: BTreeMap<String, String>);

    /// Revokes the lease, so that others see the departure at once.
    fn leave(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// A versioned, watchable store of resources. Implemented on etcd and in memory; both pass one contract suite.
pub trait Store: Send + Sync + 'static {
    /// One resource, read linearizably.
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Object>>>;

    /// Resources in order, at most `limit` (0: all), starting with `from`, at `at` (latest if `None`).
    fn list(
        &self,
        scope: Scope,
        limit: usize,
        from: Option<Key>,
        at: Option<Revision>,
    ) -> BoxFuture<'_, Result<Page>>;

    /// Commits all of `ops` or none, with a change record. Returns the revision; if nothing was left to do (a workload
    /// was down already), the present one, and nothing is written.
    fn commit(&self, ops: Vec<Op>, author: Author) -> BoxFuture<'_, Result<Revision>>;

    /// Watches from just after a revision, or, with `None`, from a [`Snapshot`] of now; the latter needs no reachable
    /// store to begin. It reconnects for ever; after events were lost (compaction, a restore) it yields a
    /// [`Snapshot`] if `relist`, and otherwise ends (a Kubernetes watch must answer 410).
    ///
    /// # Errors
    /// With a revision: [`Error::Compacted`] or [`Error::Future`] unless `relist`, [`Error::Unavailable`].
    fn watch(
        &self,
        scope: Scope,
        after: Option<Revision>,
        relist: bool,
    ) -> BoxFuture<'_, Result<Watch>>;

    /// The newest change records, newest first, that touch `key` (or all, with `None`), older than `before`; at most
    /// `limit` (0: all).
    fn history<'a>(
        &'a self,
        key: Option<&'a Key>,
        before: Option<uuid::Uuid>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ChangeRecord>>>;

    /// Deletes change records older than this age; returns how many.
    fn prune_history(&self, age: Duration) -> BoxFuture<'_, Result<u64>>;

    /// The current revision, read linearizably (proves that the store has a quorum).
    fn revision(&self) -> BoxFuture<'_, Result<Revision>>;

    /// The revision of the last commit under our prefix (others may share the etcd), read linearizably.
    fn last_commit(&self) -> BoxFuture<'_, Result<Revision>> {
        Box::pin(async {
            let newest = self.history(None, None, 1).await?;
            Ok(newest
                .first()
                .map(|record| record.revision)
                .unwrap_or_default())
        })
    }

    /// A UUID that a restore from backup replaces; revisions compare only within one epoch.
    fn epoch(&self) -> BoxFuture<'_, Result<uuid::Uuid>>;

    /// Registers an instance of a service under a lease of `ttl`, kept alive, and re-registered if the lease is lost.
    fn join(
        &self,
        service: &'static str,
        member: Member,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<Box<dyn Membership>>>;

    /// The live members of a service, and every later set of them. The first item is the present set.
    fn members(&self, service: &'static str) -> BoxFuture<'_, Result<Members>>;
}
