//! The store in etcd.
//!
//! *Invariant:* nothing here connects before it is used, so a service starts while etcd is away.

mod config;
mod flags;
mod kv;
mod servers;
mod tls;
mod watch;

use crate::keyspace::Keyspace;
pub use crate::kv::Limits;
pub use config::{Credentials, EtcdConfig};
pub use flags::{EtcdFlags, EtcdFlagsError, OwnIdentity};
pub use kv::EtcdKv;
pub use tls::{EtcdTls, Identity, TlsSource};

/// A [`crate::Store`] in etcd (3.4 or newer).
pub type EtcdStore = Keyspace<EtcdKv>;

impl EtcdStore {
    /// A store on this etcd. Connects when it is first used.
    pub fn new(config: EtcdConfig) -> Self {
        let root = config.root.clone();
        Self::over(EtcdKv::new(config), &root)
    }
}
