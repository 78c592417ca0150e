//! The contract on both stores, and what only a real etcd can show.
//!
//! *Invariant:* no test waits for time to pass in place of a condition.

#![allow(clippy::unwrap_used)]

mod etcd;
mod memory;
