//! The contract on a real etcd, through a connection that can be cut.
//!
//! *Invariant:* every test has an etcd of its own.

mod access;
mod crashes;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use etcd_client::Client;
use futures::future::{BoxFuture, FutureExt};
use model::Revision;

use crate::etcd::{EtcdConfig, EtcdStore};
use crate::testing::contract::Rig;
use crate::testing::{Connection, Etcd, PATIENCE};
use crate::{Store, Vault};

struct Real {
    etcd: Etcd,
    connection: Connection,
    store: EtcdStore,
    other: EtcdStore,
}

impl Real {
    async fn new() -> Self {
        let etcd = Etcd::start().await;
        let connection = Connection::to(etcd.port()).await;
        let config = EtcdConfig {
            patience: PATIENCE,
            ..EtcdConfig::new([connection.endpoint()])
        };
        Self {
            store: EtcdStore::new(config),
            other: etcd.store(),
            etcd,
            connection,
        }
    }

    async fn client(&self) -> Client {
        Client::connect([self.etcd.endpoint()], None).await.unwrap()
    }
}

impl Rig for Real {
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.store.clone())
    }

    fn other(&self) -> Arc<dyn Store> {
        Arc::new(self.other.clone())
    }

    fn impatient(&self) -> Arc<dyn Store> {
        Arc::new(EtcdStore::new(EtcdConfig {
            patience: Duration::from_secs(2),
            ..EtcdConfig::new([self.connection.endpoint()])
        }))
    }

    fn vault(&self) -> Arc<dyn Vault> {
        Arc::new(self.store.clone())
    }

    fn other_vault(&self) -> Arc<dyn Vault> {
        Arc::new(self.other.clone())
    }

    fn cut(&self) {
        self.connection.cut();
    }

    fn restore(&self) {
        self.connection.restore();
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, ()> {
        async move {
            self.client()
                .await
                .compact(revision.0, None)
                .await
                .map(drop)
                .unwrap()
        }
        .boxed()
    }

    fn put_raw<'a>(&'a self, path: &'a str, value: &'a [u8]) -> BoxFuture<'a, ()> {
        async move {
            self.client()
                .await
                .put(format!("/weft/v1/{path}"), value, None)
                .await
                .map(drop)
                .unwrap()
        }
        .boxed()
    }

    fn get_raw<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Option<Vec<u8>>> {
        async move {
            let found = self
                .client()
                .await
                .get(format!("/weft/v1/{path}"), None)
                .await
                .unwrap();
            found.kvs().first().map(|kv| kv.value().to_vec())
        }
        .boxed()
    }

    fn revoke_leases(&self) -> BoxFuture<'_, ()> {
        async move {
            let mut client = self.client().await;
            for lease in client.leases().await.unwrap().leases() {
                client.lease_revoke(lease.id()).await.unwrap();
            }
        }
        .boxed()
    }
}

crate::contract_suite!(Real::new().await);
