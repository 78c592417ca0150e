//! [`Store`] on any versioned key-value store: reads, pages and atomic batches with their change records.
//!
//! *Invariant:* a batch whose answer got lost is never applied twice: its record's id, compared in the transaction, makes
//! every attempt after the first that took effect a refusal. A refusal is passed on only if no attempt can take effect after it.

mod batch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use futures::future::{BoxFuture, FutureExt};
use model::{Key, Object, Revision};
use uuid::Uuid;

use crate::keys::{Layout, is_name};
use crate::kv::{Fault, Kv, Outcome, Range, Txn, Write};
use crate::types::Members;
use crate::{
    Author, ChangeRecord, Error, Member, Membership, Op, Page, Result, Scope, Store, Watch, codec,
};
use batch::Batch;

/// How many keys one request reads: few enough that even the largest values fit into one answer.
pub(crate) const PAGE: usize = 250;

/// The store's one implementation, over etcd ([`crate::etcd::EtcdStore`]) or memory ([`crate::memory::MemoryStore`]).
/// Cheap to clone; clones share everything.
pub struct Keyspace<K> {
    pub(crate) kv: Arc<K>,
    pub(crate) layout: Arc<Layout>,
}

impl<K> Clone for Keyspace<K> {
    fn clone(&self) -> Self {
        Self {
            kv: self.kv.clone(),
            layout: self.layout.clone(),
        }
    }
}

impl<K> std::fmt::Debug for Keyspace<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyspace")
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

impl<K: Kv> Store for Keyspace<K> {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Object>>> {
        async move {
            if !is_name(&key.namespace, &key.name) {
                return Ok(None);
            }
            let keys = [self.layout.config(key)];
            let (_, mut kvs) = self.retry(|| self.kv.get(&keys)).await?;
            Ok(kvs
                .remove(0)
                .map(|kv| codec::decode(&self.layout, &kv))
                .transpose()?)
        }
        .boxed()
    }

    fn list(
        &self,
        scope: Scope,
        limit: usize,
        from: Option<Key>,
        at: Option<Revision>,
    ) -> BoxFuture<'_, Result<Page>> {
        self.list_from(scope, limit, from, at).boxed()
    }

    fn commit(&self, ops: Vec<Op>, author: Author) -> BoxFuture<'_, Result<Revision>> {
        self.commit_batch(ops, author).boxed()
    }

    fn watch(
        &self,
        scope: Scope,
        after: Option<Revision>,
        relist: bool,
    ) -> BoxFuture<'_, Result<Watch>> {
        self.watch_from(scope, after, relist).boxed()
    }

    fn history<'a>(
        &'a self,
        key: Option<&'a Key>,
        before: Option<Uuid>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ChangeRecord>>> {
        self.read_history(key, before, limit).boxed()
    }

    fn prune_history(&self, age: Duration) -> BoxFuture<'_, Result<u64>> {
        self.delete_history(age).boxed()
    }

    fn revision(&self) -> BoxFuture<'_, Result<Revision>> {
        async {
            let keys = [self.layout.epoch()];
            Ok(Revision(self.retry(|| self.kv.get(&keys)).await?.0))
        }
        .boxed()
    }

    fn last_commit(&self) -> BoxFuture<'_, Result<Revision>> {
        self.read_last_commit().boxed()
    }

    fn epoch(&self) -> BoxFuture<'_, Result<Uuid>> {
        async {
            let (_, kv) = self.retry(|| self.read_epoch()).await?;
            let value = String::from_utf8_lossy(&kv.value);
            value.trim().parse().map_err(|error: uuid::Error| {
                let revision = Revision(kv.modified);
                crate::Undecodable {
                    etcd_key: kv.key.clone(),
                    key: None,
                    revision,
                    error: error.to_string(),
                }
                .into()
            })
        }
        .boxed()
    }

    fn join(
        &self,
        service: &'static str,
        member: Member,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<Box<dyn Membership>>> {
        self.join_service(service, member, ttl).boxed()
    }

    fn members(&self, service: &'static str) -> BoxFuture<'_, Result<Members>> {
        self.watch_members(service).boxed()
    }
}

impl<K: Kv> Keyspace<K> {
    pub(crate) fn over(kv: K, root: &str) -> Self {
        Self {
            kv: Arc::new(kv),
            layout: Arc::new(Layout::new(root)),
        }
    }

    /// Tries until it is answered, for as long as the store's patience lasts.
    pub(crate) async fn retry<T, F>(&self, call: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let pace = self.kv.pace();
        let pauses = ExponentialBuilder::default()
            .with_min_delay(pace.pause.0)
            .with_max_delay(pace.pause.1)
            .without_max_times()
            .with_total_delay(Some(pace.patience))
            .with_jitter();
        let tried = call
            .retry(pauses)
            .when(|fault| matches!(fault, Fault::Lost(_)));
        match tokio::time::timeout(pace.patience.max(pace.pause.1), tried).await {
            Ok(answer) => answer.map_err(error),
            Err(_) => Err(Error::Unavailable(format!(
                "no answer within {:?}",
                pace.patience
            ))),
        }
    }

    /// The epoch and the store's revision; the epoch is made up if there is none yet.
    pub(crate) async fn read_epoch(&self) -> Result<(i64, crate::kv::KeyValue), Fault> {
        let key = self.layout.epoch();
        loop {
            let (revision, mut kvs) = self.kv.get(std::slice::from_ref(&key)).await?;
            if let Some(kv) = kvs.remove(0) {
                return Ok((revision, kv));
            }
            let value = Uuid::new_v4().to_string().into_bytes();
            let write = Write::Put {
                key: key.clone(),
                value,
                lease: None,
            };
            self.kv
                .txn(&Txn {
                    expect: vec![(key.clone(), 0)],
                    writes: vec![write],
                    ..Txn::default()
                })
                .await?;
        }
    }

    async fn list_from(
        &self,
        scope: Scope,
        limit: usize,
        from: Option<Key>,
        at: Option<Revision>,
    ) -> Result<Page> {
        let mut span = self.layout.configs(&scope);
        if let Some(from) = from {
            span.start = span.start.max(self.layout.config(&from));
        }
        let mut page = Page {
            revision: at.unwrap_or_default(),
            ..Page::default()
        };
        loop {
            // One more than the page takes, to know where the next one starts.
            let wanted = if limit == 0 {
                PAGE
            } else {
                PAGE.min(limit - page.objects.len() + 1)
            };
            let range = Range {
                limit: wanted,
                at: page.revision.0,
                ..Range::all(span.clone())
            };
            let ranged = self
                .retry(|| self.kv.range(&range))
                .await
                .map_err(|error| asked(error, page.revision))?;
            if page.revision == Revision::default() {
                page.revision = Revision(ranged.revision);
            }
            let Some(last) = ranged.kvs.last() else {
                return Ok(page);
            };
            span.start = format!("{}\0", last.key);
            let more = ranged.count > ranged.kvs.len();
            for (seen, kv) in ranged.kvs.iter().enumerate() {
                let decoded = codec::decode(&self.layout, kv);
                if limit != 0 && page.objects.len() == limit {
                    let key = match &decoded {
                        Ok(object) => Some(object.key()),
                        Err(undecodable) => undecodable.key.clone(),
                    };
                    if key.is_some() {
                        page.next = key;
                        page.remaining = (ranged.count - seen) as u64;
                        return Ok(page);
                    }
                }
                match decoded {
                    Ok(object) => page.objects.push(Arc::new(object)),
                    Err(undecodable) => page.undecodable.push(undecodable),
                }
            }
            if !more {
                return Ok(page);
            }
        }
    }

    async fn commit_batch(&self, ops: Vec<Op>, author: Author) -> Result<Revision> {
        let limits = self.kv.limits();
        let batch = Batch::new(&self.layout, ops)?;
        // The change record is an operation, too.
        let within =
            |operations: usize| too_large("operations", operations - 1, limits.operations - 1);
        within(batch.len() + 1)?;
        if batch.len() == 0 {
            return self.revision().await;
        }
        let mut now = 0;
        let mut priors = Vec::new();
        for keys in batch.etcd_keys().chunks(limits.operations) {
            let (revision, found) = self.retry(|| self.kv.get(keys)).await?;
            now = revision;
            priors.extend(found);
        }
        let Some(write) = batch.write(&self.layout, priors, author)? else {
            return Ok(Revision(now));
        };
        within(write.operations())?;
        too_large("bytes", write.bytes(), limits.bytes)?;
        let lost = AtomicBool::new(false);
        let attempt = || async {
            let answer = self.kv.txn(&write.txn).await;
            if matches!(answer, Err(Fault::Lost(_))) {
                lost.store(true, Ordering::Relaxed);
            }
            answer
        };
        match self.retry(attempt).await? {
            Outcome::Done(revision) => Ok(Revision(revision)),
            Outcome::Refused(actual) => write.refused(&actual, lost.into_inner()),
        }
    }
}

pub(crate) fn too_large(what: &'static str, actual: usize, limit: usize) -> Result<()> {
    if actual > limit {
        Err(Error::TooLarge {
            what,
            actual,
            limit,
        })
    } else {
        Ok(())
    }
}

/// What a caller is told; which revision was asked for is put in by [`asked`].
fn error(fault: Fault) -> Error {
    let asked = Revision::default();
    match fault {
        Fault::Compacted => Error::Compacted { asked },
        Fault::Future => Error::Future { asked },
        Fault::Refused(why) => Error::Refused(why),
        Fault::Lost(why) => Error::Unavailable(why),
    }
}

/// Puts the revision that was asked for into an error about it.
pub(crate) fn asked(error: Error, asked: Revision) -> Error {
    match error {
        Error::Compacted { .. } => Error::Compacted { asked },
        Error::Future { .. } => Error::Future { asked },
        other => other,
    }
}
