//! How a stream finds its snapshots: the node names a workload, its peer may speak for it, and the owner of the model
//! compiles for it.

use std::sync::Arc;

use compile::Proxy;
use tokio::sync::{mpsc, watch};
use tonic::Status;
use xds::{Peer, Snapshots};

use crate::guard::{self, Guard};
use crate::mesh::Command;

/// The mesh as a source of snapshots.
pub(crate) struct MeshSource {
    pub(crate) mesh: mpsc::Sender<Command>,
    /// Absent where xDS is served in plaintext, on loopback only: then a node is believed.
    pub(crate) guard: Option<Guard>,
}

impl xds::SnapshotSource for MeshSource {
    fn snapshots(
        &self,
        node: &xds::pb::envoy::config::core::v3::Node,
        peer: &Peer,
    ) -> Result<Snapshots, Status> {
        let proxy =
            Proxy::from_node(node).map_err(|error| Status::invalid_argument(error.to_string()))?;
        if let Some(guard) = &self.guard {
            guard
                .may(&proxy.namespace, &proxy.workload, peer)
                .inspect_err(|status| guard::report(&node.id, status))?;
        }
        let (publish, snapshots) = watch::channel(None);
        let command = Command::Connect {
            proxy,
            publish: Arc::new(publish),
        };
        match self.mesh.try_send(command) {
            Ok(()) => Ok(snapshots),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Status::resource_exhausted(
                "too many proxies connect at once; try again",
            )),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                Err(Status::unavailable("the pusher is shutting down"))
            }
        }
    }
}
