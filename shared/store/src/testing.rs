//! For tests: a real etcd, a connection that can be broken, and the suite that every store passes.
//!
//! Compiled for this crate's own tests and, for other crates' tests, with the feature `testing`. What goes wrong here
//! panics, as a test does.
//!
//! *Invariant:* nothing here is part of a service.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "these are tests; names and assertions say what they hold"
)]

use std::time::Duration;

/// How long what is sure to come may take: what a loaded machine needs, many times over.
pub const PATIENCE: Duration = Duration::from_secs(90);

mod authority;
mod connection;
pub mod contract;
mod etcd;

pub use authority::Authority;
pub use connection::Connection;
pub use etcd::Etcd;
