//! What can be learned from a mesh, as names: each read of a [`View`](super::View) is one fact, and a change reports the
//! facts it changed.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::Key;

/// Something that a reader of the mesh can depend on. Absence counts: reading a host that has no service is a read of
/// [`Fact::Service`] of that host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fact {
    /// A resource itself: its metadata and spec.
    Resource(Key),
    /// Which services have this host, and what they are apart from their endpoints.
    Service(Arc<str>),
    /// The endpoints of the services of this host: addresses, labels, weights, liveness.
    Endpoints(Arc<str>),
    /// Which services select this workload (namespace, name).
    ServicesOf(Arc<str>, Arc<str>),
    /// Which service owns an address.
    Address(Arc<str>),
    /// Which DestinationRules of a namespace hold for a host (namespace, host).
    Rules(Arc<str>, Arc<str>),
    /// Which VirtualServices bound to the mesh hold for a host.
    MeshRoutes(Arc<str>),
    /// Which VirtualServices there are in a namespace (`None`: anywhere) that are bound to the mesh.
    MeshRoutesIn(Option<Arc<str>>),
    /// Which VirtualServices bound to a gateway (`namespace/name`) name exactly this host.
    GatewayRoutes(Arc<str>, Arc<str>),
    /// Which hosts VirtualServices bound to a gateway (`namespace/name`) name.
    GatewayHosts(Arc<str>),
    /// Which labels of callers policies look at.
    ProxyLabels,
    /// The Gateways and whom they select.
    Gateways,
    /// The Sidecars of a namespace and whom they select.
    Sidecars(Arc<str>),
    /// The WorkloadGroups of a namespace and whom they select.
    WorkloadGroups(Arc<str>),
    /// The RuntimeLayers of a namespace and whom they select.
    RuntimeLayers(Arc<str>),
    /// The PeerAuthentications of a namespace and whom they select.
    PeerAuthentications(Arc<str>),
    /// The AuthorizationPolicies of a namespace and whom they select.
    AuthorizationPolicies(Arc<str>),
    /// The RequestAuthentications of a namespace and whom they select.
    RequestAuthentications(Arc<str>),
}

/// Notes what is read.
pub trait Record {
    /// A fact was read.
    fn record(&mut self, fact: Fact);
}

impl Record for BTreeSet<Fact> {
    fn record(&mut self, fact: Fact) {
        self.insert(fact);
    }
}
