//! How a stream finds its snapshots: the node names a workload, its peer may speak for it, and the owner of the model
//! compiles for it.

use std::sync::{Arc, Mutex, PoisonError};

use compile::Proxy;
use tokio::sync::mpsc::OwnedPermit;
use tokio::sync::{mpsc, watch};
use tonic::Status;
use xds::{Peer, Snapshots};

use crate::guard::{self, Guard};
use crate::mesh::Command;

/// A place in the queue of the owner of the model, waited for in a stream's turn: a stream that was admitted is not refused
/// because that queue is full.
#[derive(Clone)]
pub(crate) struct Place(Arc<Mutex<Option<OwnedPermit<Command>>>>);

impl Place {
    /// Waits for one; `None` when the service ends.
    pub(crate) async fn wait(mesh: &mpsc::Sender<Command>) -> Option<Self> {
        let permit = mesh.clone().reserve_owned().await.ok()?;
        Some(Self(Arc::new(Mutex::new(Some(permit)))))
    }

    fn take(&self) -> Option<OwnedPermit<Command>> {
        (self.0.lock())
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

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
        if let Some(place) = peer.extensions.get().and_then(Place::take) {
            place.send(command);
            return Ok(snapshots);
        }
        // Requests for a single answer take no turn.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures::FutureExt as _;
    use xds::SnapshotSource as _;
    use xds::pb::envoy::config::core::v3::Node;

    use super::*;

    #[tokio::test]
    async fn who_was_admitted_waits_for_a_place_and_is_not_refused() {
        let (mesh, mut commands) = mpsc::channel(1);
        let source = MeshSource {
            mesh: mesh.clone(),
            guard: None,
        };
        let node = Node {
            id: "sidecar~shop~web".into(),
            ..Node::default()
        };
        let first = Place::wait(&mesh).await.unwrap();
        let mut second = Box::pin(Place::wait(&mesh));
        assert!(
            second.as_mut().now_or_never().is_none(),
            "the queue is full"
        );
        let mut peer = Peer::default();
        let unadmitted = source.snapshots(&node, &peer).unwrap_err();
        assert_eq!(unadmitted.code(), tonic::Code::ResourceExhausted);
        peer.extensions.insert(first);
        source.snapshots(&node, &peer).unwrap();
        assert!(matches!(
            commands.recv().await,
            Some(Command::Connect { .. })
        ));
        peer.extensions.insert(second.await.unwrap());
        source.snapshots(&node, &peer).unwrap();
    }
}
