//! The contract on the store in memory.
//!
//! *Invariant:* nothing here leaves the process.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use model::Revision;

use crate::memory::MemoryStore;
use crate::testing::contract::Rig;
use crate::{Store, Vault};

struct Memory {
    store: MemoryStore,
    other: MemoryStore,
}

impl Memory {
    fn new() -> Self {
        let store = MemoryStore::new();
        Self {
            other: store.another(),
            store,
        }
    }
}

impl Rig for Memory {
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.store.clone())
    }

    fn other(&self) -> Arc<dyn Store> {
        Arc::new(self.other.clone())
    }

    fn impatient(&self) -> Arc<dyn Store> {
        self.store()
    }

    fn vault(&self) -> Arc<dyn Vault> {
        Arc::new(self.store.clone())
    }

    fn other_vault(&self) -> Arc<dyn Vault> {
        Arc::new(self.other.clone())
    }

    fn cut(&self) {
        self.store.set_available(false);
    }

    fn restore(&self) {
        self.store.set_available(true);
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, ()> {
        self.store.compact(revision);
        std::future::ready(()).boxed()
    }

    fn put_raw<'a>(&'a self, path: &'a str, value: &'a [u8]) -> BoxFuture<'a, ()> {
        self.store.put_raw(path, value);
        std::future::ready(()).boxed()
    }

    fn get_raw<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Option<Vec<u8>>> {
        std::future::ready(self.store.get_raw(path)).boxed()
    }

    fn revoke_leases(&self) -> BoxFuture<'_, ()> {
        self.store.revoke_leases();
        std::future::ready(()).boxed()
    }
}

crate::contract_suite!(Memory::new());
