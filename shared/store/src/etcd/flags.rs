//! The flags by which a service finds etcd.
//!
//! *Invariant:* every flag has an environment variable and an effect.

use clap::Args;

use super::{EtcdConfig, Limits};

/// The flags that say where the store is.
#[derive(Args, Clone, Debug)]
pub struct EtcdFlags {
    /// The etcd servers
    #[arg(
        long,
        env = "WEFT_ETCD_ENDPOINTS",
        default_value = "http://127.0.0.1:2379",
        value_delimiter = ','
    )]
    pub etcd_endpoints: Vec<String>,
    /// The prefix of every key in etcd
    #[arg(long, env = "WEFT_ETCD_PREFIX", default_value = "/weft/v1")]
    pub etcd_prefix: String,
    /// The most operations of one transaction: etcd's --max-txn-ops
    #[arg(long, env = "WEFT_ETCD_MAX_TXN_OPS", default_value_t = Limits::default().operations)]
    pub etcd_max_txn_ops: usize,
    /// The most bytes of one transaction: etcd's --max-request-bytes
    #[arg(long, env = "WEFT_ETCD_MAX_REQUEST_BYTES", default_value_t = Limits::default().bytes)]
    pub etcd_max_request_bytes: usize,
}

impl EtcdFlags {
    /// The store's own configuration.
    pub fn config(&self) -> EtcdConfig {
        EtcdConfig {
            root: self.etcd_prefix.clone(),
            limits: Limits {
                operations: self.etcd_max_txn_ops,
                bytes: self.etcd_max_request_bytes,
            },
            ..EtcdConfig::new(self.etcd_endpoints.iter().cloned())
        }
    }
}
