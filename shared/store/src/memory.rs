//! The store in memory: etcd's semantics in one process, for tests and trials.
//!
//! It also fails on demand: [`MemoryStore::set_available`], [`MemoryStore::cut_watches`], [`MemoryStore::compact`],
//! [`MemoryStore::put_raw`], [`MemoryStore::replace_epoch`].
//!
//! *Invariant:* nothing survives the last clone.

mod kv;

use model::Revision;

use crate::keyspace::Keyspace;
use crate::kv::{Limits, Write};
pub use kv::MemoryKv;

/// A [`crate::Store`] in memory.
pub type MemoryStore = Keyspace<MemoryKv>;

impl MemoryStore {
    /// An empty store with etcd's limits.
    pub fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    /// An empty store with other limits.
    pub fn with_limits(limits: Limits) -> Self {
        Self::over(MemoryKv::new(limits), "/weft/v1")
    }

    /// Another client of the same data, with a connection of its own to break.
    pub fn another(&self) -> Self {
        Self {
            kv: std::sync::Arc::new(self.kv.another()),
            layout: self.layout.clone(),
        }
    }

    /// Makes every call fail as if etcd were away, or work again. Watches are cut off meanwhile. [`Self::another`] client
    /// is not touched.
    pub fn set_available(&self, available: bool) {
        self.kv.set_available(available);
    }

    /// Cuts every watch off once; they reconnect.
    pub fn cut_watches(&self) {
        self.kv.cut_watches();
    }

    /// Forgets what was before a revision.
    pub fn compact(&self, revision: Revision) {
        self.kv.compact(revision.0);
    }

    /// Ends every lease.
    pub fn revoke_leases(&self) {
        self.kv.revoke_leases();
    }

    /// Writes any bytes at a key below the root, such as `config/weft.mesh/MeshConfig/istio-system/default`, as an
    /// operator with `etcdctl` could. Returns the revision.
    pub fn put_raw(&self, path: &str, value: &[u8]) -> Revision {
        self.kv.write(Write::Put {
            key: self.raw(path),
            value: value.to_vec(),
            lease: None,
        })
    }

    /// Deletes a key below the root. Returns the revision.
    pub fn delete_raw(&self, path: &str) -> Revision {
        self.kv.write(Write::Delete {
            key: self.raw(path),
        })
    }

    /// Reads what is at a key below the root.
    pub fn get_raw(&self, path: &str) -> Option<Vec<u8>> {
        self.kv.read(&self.raw(path))
    }

    /// Replaces the epoch, as a restore from a backup does.
    pub fn replace_epoch(&self) -> Revision {
        self.put_raw("epoch", uuid::Uuid::new_v4().to_string().as_bytes())
    }

    fn raw(&self, path: &str) -> String {
        format!("{}{path}", self.layout.all().start)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}
