//! The only code that knows etcd: keys, transactions, watch with resync, leases. One trait, two implementations.
//!
//! [`Store`] is the trait, and [`Vault`] the one for values that are opaque here and for offices that one instance holds. [`etcd::EtcdStore`] and [`memory::MemoryStore`] are the same code ([`Keyspace`]: layout of
//! keys, records, batches, watch with resync, membership) over two versioned key-value stores, and both pass the one
//! contract suite in `testing` (compiled for tests, and with the feature `testing`).
//!
//! *Invariant:* nothing here interprets a spec; what it stores and returns is [`model::Object`].

#![allow(
    private_bounds,
    reason = "the seam between the store and its key-value stores is nobody else's"
)]

mod codec;
pub mod etcd;
mod history;
mod keys;
mod keyspace;
mod kv;
mod leader;
mod members;
pub mod memory;
mod patience;
pub mod rendezvous;
mod rollout;
mod sets;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod types;
mod vault;
mod watch;

pub use keyspace::Keyspace;
pub use kv::Limits;
pub use members::follow_members;
pub use patience::until_answered;
pub use rollout::{Phase, Plan, Prior, Rollout};
pub use types::*;
pub use vault::{Area, Entries, Entry, Fence, Leadership, Vault, VaultError, VaultOp};
