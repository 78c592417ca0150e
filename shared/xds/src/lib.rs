//! An xDS control plane library: snapshots of Envoy resources per node, the protocol (state of the world and delta) as a
//! pure session machine, and thin tonic services on it.
//!
//! - [`Resource`]: any Envoy message, encoded once and deterministically, with a version and the references it makes.
//! - [`Snapshot`]: all resources of a node, or of a class of nodes, at one revision; two layers, cheap to change and compare.
//! - [`SnapshotSource`]: finds the snapshots of a node; [`SnapshotCache`] is one that is filled by node id or by class.
//! - [`Server`]: tonic services for the aggregated stream and for each type, and REST polling, on a source;
//!   [`Callbacks`] to hook into, [`Metered`] to count, [`Streams`] to look at them.
//! - [`make`]: constructors for the usual resources.
//! - [`session`]: the protocol itself, without I/O.
//!
//! *Invariant:* nothing here knows policy, etcd or Weft; it can be used alone.

mod callbacks;
mod codec;
mod fetch;
mod framing;
mod json;
pub mod make;
mod metered;
mod peek;
mod redact;
mod refs;
mod resource;
mod server;
pub mod session;
mod snapshot;
mod source;
mod stream;
mod streams;
mod types;
mod wire;

pub use callbacks::{Callbacks, Request, StreamInfo};
pub use envoy_types::pb;
pub use json::descriptor;
pub use metered::Metered;
pub use peek::{Peeked, peek, variant};
pub use resource::{Resource, ResourceError};
pub use server::{Server, keepalive, peer};
pub use snapshot::{Inconsistency, Snapshot};
pub use source::{Peer, PeerIdentity, SnapshotCache, SnapshotSource, Snapshots};
pub use streams::{StreamStatus, Streams, TypeStatus};
pub use types::{Message, Ref, ResourceType};
