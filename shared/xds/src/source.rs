//! Where a stream's snapshots come from: the trait that a control plane implements, and a ready-made cache that is
//! filled by node id or by class.
//!
//! *Invariant:* a source is asked once per stream; nothing is locked while a stream waits for a snapshot.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use envoy_types::pb::envoy::config::core::v3::Node;
use tokio::sync::watch;
use tonic::Status;

use crate::Snapshot;

/// Snapshots as they come to be; `None` while the state is not loaded.
pub type Snapshots = watch::Receiver<Option<Arc<Snapshot>>>;

/// Who opened a stream, apart from what it says of itself in its `Node`.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Its address.
    pub address: Option<SocketAddr>,
    /// What interceptors and the transport attached to the request: a [`PeerIdentity`], TLS certificates.
    pub extensions: http::Extensions,
}

/// The verified identity of a peer, a SPIFFE ID for instance. Whoever verifies it (a layer, an interceptor) inserts it
/// into the extensions of the request; this library never does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity(pub Arc<str>);

impl Peer {
    /// The verified identity, if one was attached.
    pub fn identity(&self) -> Option<&PeerIdentity> {
        self.extensions.get()
    }
}

/// Finds the snapshots for a node.
pub trait SnapshotSource: Send + Sync + 'static {
    /// The snapshots of this node from now on. While it shows `None` the stream waits, and after a while ends with
    /// `UNAVAILABLE`, rather than show an empty state (rule S10).
    ///
    /// # Errors
    /// The node is refused; its stream ends with this status.
    // A status is what a stream ends with; boxing it would only move it.
    #[allow(clippy::result_large_err)]
    fn snapshots(&self, node: &Node, peer: &Peer) -> Result<Snapshots, Status>;
}

type Slot = watch::Sender<Option<Arc<Snapshot>>>;

/// Snapshots in memory, by a key that is made from the node: its id, or the class it belongs to.
pub struct SnapshotCache {
    key: Box<dyn Fn(&Node) -> String + Send + Sync>,
    slots: Mutex<HashMap<String, Slot>>,
}

impl SnapshotCache {
    /// One snapshot per node id.
    pub fn by_id() -> Self {
        Self::by(|node| node.id.clone())
    }

    /// One snapshot per key; `|_| String::new()` gives all nodes the same.
    pub fn by(key: impl Fn(&Node) -> String + Send + Sync + 'static) -> Self {
        Self {
            key: Box::new(key),
            slots: Mutex::default(),
        }
    }

    /// Shows a snapshot to every node of this key, now and whenever it connects.
    pub fn set(&self, key: &str, snapshot: Snapshot) {
        let snapshot = Some(Arc::new(snapshot));
        let mut slots = self.slots();
        match slots.get(key) {
            Some(slot) => drop(slot.send_replace(snapshot)),
            None => drop(slots.insert(key.to_owned(), watch::channel(snapshot).0)),
        }
    }

    /// Forgets the snapshot of a key. Streams that are open keep what they have; new ones wait for the next.
    pub fn clear(&self, key: &str) {
        if let Some(slot) = self.slots().get(key) {
            slot.send_replace(None);
        }
    }

    /// The snapshot of a key.
    pub fn get(&self, key: &str) -> Option<Arc<Snapshot>> {
        self.slots().get(key).and_then(|slot| slot.borrow().clone())
    }

    /// The keys that have a snapshot, in order.
    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self
            .slots()
            .iter()
            .filter(|(_, slot)| slot.borrow().is_some())
            .map(|(key, _)| key.clone())
            .collect();
        keys.sort_unstable();
        keys
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SnapshotSource for SnapshotCache {
    fn snapshots(&self, node: &Node, _: &Peer) -> Result<Snapshots, Status> {
        let key = (self.key)(node);
        let mut slots = self.slots();
        // Keys that nodes made up are forgotten with their streams, or anyone could fill the memory.
        slots.retain(|_, slot| slot.receiver_count() > 0 || slot.borrow().is_some());
        Ok(slots
            .entry(key)
            .or_insert_with(|| watch::channel(None).0)
            .subscribe())
    }
}

#[cfg(test)]
mod tests;
