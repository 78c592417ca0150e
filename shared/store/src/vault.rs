//! Values that the store does not understand: what the certificate issuer encrypted, and hashes of credentials. And who
//! may write them: an office that one instance holds at a time.
//!
//! *Invariant:* no value is shown by `Debug` or in an error; a fenced write of somebody who lost the office never happens.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::BoxStream;
use imbl::OrdMap;
use model::Revision;
use uuid::Uuid;

use crate::keyspace::{Keyspace, too_large};
use crate::kv::{KeyValue, Kv, Outcome, Txn, Write};
use crate::leader::Held;
use crate::{Author, ChangeRecord, Deed, Error, Expect, Result, codec};

/// Where values lie. Paths in one area are its owner's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Area {
    /// `ca/…`: the certificate authority, encrypted.
    Ca,
    /// `tokens/…`: credentials, by their hashes.
    Tokens,
    /// `mtls/<namespace>/<workload>`: what a workload's proxy acknowledged of mutual TLS.
    Mtls,
    /// `federation/<trust domain>`: the bundles that were fetched of other trust domains; public.
    Federation,
}

impl Area {
    /// The first part of its keys below the root.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ca => "ca",
            Self::Tokens => "tokens",
            Self::Mtls => "mtls",
            Self::Federation => "federation",
        }
    }
}

/// A value and when it was written.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Arc<[u8]>,
    /// The revision of its last write.
    pub revision: Revision,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("bytes", &self.value.len())
            .field("revision", &self.revision)
            .finish()
    }
}

/// The values of an area by path. Cheap to clone.
pub type Entries = OrdMap<Arc<str>, Entry>;

/// One write to an area.
#[derive(Clone)]
#[allow(missing_docs, reason = "each variant says what its fields are")]
pub enum VaultOp {
    /// Create or replace.
    Put {
        path: String,
        value: Vec<u8>,
        expect: Expect,
    },
    /// Delete what was last written at a revision.
    Delete { path: String, expect: Revision },
}

impl VaultOp {
    fn path(&self) -> &str {
        match self {
            Self::Put { path, .. } | Self::Delete { path, .. } => path,
        }
    }
    fn expected(&self) -> i64 {
        match self {
            Self::Put {
                expect: Expect::Absent,
                ..
            } => 0,
            Self::Put {
                expect: Expect::At(at),
                ..
            }
            | Self::Delete { expect: at, .. } => at.0,
        }
    }
}

/// The proof of an office: a write that is fenced with it happens only while it is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    pub(crate) key: String,
    pub(crate) revision: i64,
}

/// Errors of a [`Vault`].
#[derive(Debug, thiserror::Error)]
#[allow(
    missing_docs,
    reason = "each variant's message says what its fields are"
)]
pub enum VaultError {
    /// A precondition did not hold. After a write whose answer was lost, this may be the writer's own value: read again.
    #[error("{path} is not as expected: it is {}", match actual { Some(r) => format!("at revision {r}"), None => "absent".into() })]
    Conflict {
        path: String,
        actual: Option<Revision>,
    },
    /// The office was lost, so nothing was written.
    #[error("{key} is not held any more; nothing was written")]
    Deposed { key: String },
    /// Not a path.
    #[error("{path:?} is no path: it is parts with a '/' between them, none of them empty")]
    Path { path: String },
    /// The store itself.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Opaque values, and offices. Implemented on etcd and in memory; both pass one contract suite.
pub trait Vault: Send + Sync + 'static {
    /// The value at a path, read linearizably.
    fn read<'a>(&'a self, area: Area, path: &'a str) -> BoxFuture<'a, Result<Option<Entry>>>;

    /// All values of an area, read linearizably.
    fn read_all(&self, area: Area) -> BoxFuture<'_, Result<Entries>>;

    /// All values of an area, now and after each change, each time whole. It reconnects for ever.
    ///
    /// # Errors
    /// [`Error::Unavailable`] before the first set; never after.
    fn follow(&self, area: Area) -> BoxFuture<'_, Result<BoxStream<'static, Entries>>>;

    /// Writes all of `ops` or none; with a fence, only while its office is held.
    fn write<'a>(
        &'a self,
        area: Area,
        ops: Vec<VaultOp>,
        fence: Option<&'a Fence>,
    ) -> BoxFuture<'a, Result<Revision, VaultError>>;

    /// [`Self::write`], and in the same transaction the change record of who did what.
    ///
    /// # Errors
    /// Those of [`Self::write`].
    fn write_recorded<'a>(
        &'a self,
        area: Area,
        ops: Vec<VaultOp>,
        fence: Option<&'a Fence>,
        author: Author,
        deeds: Vec<Deed>,
    ) -> BoxFuture<'a, Result<Revision, VaultError>>;

    /// Waits for an office until it is free, and holds it under a lease of `ttl`, kept alive.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; asking again is safe.
    fn campaign<'a>(
        &'a self,
        office: &'static str,
        instance: &'a str,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Box<dyn Leadership>>>;
}

/// An office that is held. Dropping it lets the lease expire.
pub trait Leadership: Send + Sync {
    /// What fences its holder's writes.
    fn fence(&self) -> &Fence;

    /// Waits until the office is lost, or may be: the lease could not be prolonged for as long as it lasts.
    fn lost(&self) -> BoxFuture<'_, ()>;

    /// Gives the office back at once.
    fn resign(self: Box<Self>) -> BoxFuture<'static, ()>;
}

impl<K: Kv> Vault for Keyspace<K> {
    fn read<'a>(&'a self, area: Area, path: &'a str) -> BoxFuture<'a, Result<Option<Entry>>> {
        async move {
            let keys = [self.layout.opaque(area, path)];
            let (_, mut kvs) = self.retry(|| self.kv.get(&keys)).await?;
            Ok(kvs.remove(0).as_ref().and_then(entry))
        }
        .boxed()
    }

    fn read_all(&self, area: Area) -> BoxFuture<'_, Result<Entries>> {
        async move {
            let span = self.layout.opaques(area);
            Ok(self.retry(|| self.load_set(&span, entry)).await?.1)
        }
        .boxed()
    }

    fn follow(&self, area: Area) -> BoxFuture<'_, Result<BoxStream<'static, Entries>>> {
        async move { self.follow_set(self.layout.opaques(area), entry).await }.boxed()
    }

    fn write<'a>(
        &'a self,
        area: Area,
        ops: Vec<VaultOp>,
        fence: Option<&'a Fence>,
    ) -> BoxFuture<'a, Result<Revision, VaultError>> {
        self.write_opaque(area, ops, fence, None).boxed()
    }

    fn write_recorded<'a>(
        &'a self,
        area: Area,
        ops: Vec<VaultOp>,
        fence: Option<&'a Fence>,
        author: Author,
        deeds: Vec<Deed>,
    ) -> BoxFuture<'a, Result<Revision, VaultError>> {
        let record = ChangeRecord {
            id: Uuid::now_v7(),
            revision: Revision::default(),
            time: jiff::Timestamp::now().to_string(),
            author,
            edits: Vec::new(),
            liveness: Vec::new(),
            deeds,
        };
        self.write_opaque(area, ops, fence, Some(record)).boxed()
    }

    fn campaign<'a>(
        &'a self,
        office: &'static str,
        instance: &'a str,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Box<dyn Leadership>>> {
        async move {
            let held: Held<K> = self.hold(office, instance, ttl).await?;
            Ok(Box::new(held) as Box<dyn Leadership>)
        }
        .boxed()
    }
}

impl<K: Kv> Keyspace<K> {
    async fn write_opaque(
        &self,
        area: Area,
        ops: Vec<VaultOp>,
        fence: Option<&Fence>,
        record: Option<ChangeRecord>,
    ) -> Result<Revision, VaultError> {
        let limits = self.kv.limits();
        let mut txn = Txn::default();
        let mut paths = Vec::new();
        let mut bytes = 0;
        for op in ops {
            let path = op.path().to_owned();
            if path.split('/').any(str::is_empty) {
                return Err(VaultError::Path { path });
            }
            let key = self.layout.opaque(area, &path);
            txn.expect.push((key.clone(), op.expected()));
            bytes += 2 * key.len();
            txn.writes.push(match op {
                VaultOp::Put { value, .. } => {
                    bytes += value.len();
                    Write::Put {
                        key,
                        value,
                        lease: None,
                    }
                }
                VaultOp::Delete { .. } => Write::Delete { key },
            });
            paths.push(path);
        }
        if let Some(fence) = fence {
            txn.expect.push((fence.key.clone(), fence.revision));
        }
        if let Some(record) = &record {
            let (key, value) = (self.layout.record(record.id), codec::encode_record(record));
            bytes += 3 * key.len() + value.len();
            txn.expect.push((key.clone(), 0));
            txn.writes.push(Write::Put {
                key,
                value,
                lease: None,
            });
        }
        too_large("operations", txn.expect.len(), limits.operations)?;
        too_large("bytes", bytes, limits.bytes)?;
        let actual = match self.retry(|| self.kv.txn(&txn)).await? {
            Outcome::Done(revision) => return Ok(Revision(revision)),
            Outcome::Refused(actual) => actual,
        };
        // The record proves that an earlier attempt took effect, whose answer was lost.
        if let Some(&written) = actual.last().filter(|&&at| record.is_some() && at != 0) {
            return Ok(Revision(written));
        }
        if let Some(fence) = fence
            && actual.get(paths.len()) != Some(&fence.revision)
        {
            let key = fence.key.clone();
            return Err(VaultError::Deposed { key });
        }
        let mut differing = paths.iter().zip(&txn.expect).zip(actual);
        let differing = differing.find(|((_, (_, expected)), actual)| expected != actual);
        // What differed for the transaction may be as expected again by the time its failure is looked into: then any
        // path serves, since the caller reads again.
        let (path, actual) = differing.map_or_else(
            || (paths.first().cloned().unwrap_or_default(), 0),
            |((path, _), actual)| (path.clone(), actual),
        );
        let actual = (actual != 0).then_some(Revision(actual));
        Err(VaultError::Conflict { path, actual })
    }
}

fn entry(kv: &KeyValue) -> Option<Entry> {
    Some(Entry {
        value: kv.value.as_slice().into(),
        revision: Revision(kv.modified),
    })
}
