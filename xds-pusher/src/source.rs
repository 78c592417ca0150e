//! How a stream finds its snapshots: the node names a workload, and the owner of the model compiles for it.

use std::sync::Arc;

use compile::Proxy;
use tokio::sync::{mpsc, watch};
use tonic::Status;
use xds::{Peer, Snapshots};

use crate::mesh::Command;

/// The mesh as a source of snapshots.
pub(crate) struct MeshSource(pub(crate) mpsc::Sender<Command>);

impl xds::SnapshotSource for MeshSource {
    // The seam for identities: `peer` carries whom the transport verified. Until they exist, xDS is plaintext on loopback
    // (see `Config::check`) and a node is believed.
    fn snapshots(
        &self,
        node: &xds::pb::envoy::config::core::v3::Node,
        _: &Peer,
    ) -> Result<Snapshots, Status> {
        let proxy =
            Proxy::from_node(node).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let (publish, snapshots) = watch::channel(None);
        let command = Command::Connect {
            proxy,
            publish: Arc::new(publish),
        };
        match self.0.try_send(command) {
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
