//! What a resource refers to, read from its bytes: endpoints, routes, secrets and extensions by the configuration
//! sources that lead back to this server (`ads`, `self`), and every cluster that something may send traffic to.
//!
//! *Invariant:* nothing here knows a filter by name; a reference is found wherever the message that makes it is.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::wire::{self, Message, payload, string};
use crate::{Ref, ResourceType};

/// The references that a message makes, in order, each once.
pub(crate) fn refs(of: &'static Message, bytes: &[u8]) -> Arc<[Ref]> {
    let mut found = BTreeSet::new();
    wire::walk(of, bytes, &mut |message, bytes| {
        for (ty, name) in made_by(message.name, bytes) {
            if !name.is_empty() {
                found.insert(Ref {
                    ty,
                    name: name.into(),
                });
            }
        }
        // A configuration source has its clusters from the bootstrap: Envoy takes no others.
        message.name != "envoy.config.core.v3.ApiConfigSource"
    });
    found.into_iter().collect()
}

/// The references that one message makes itself. `build.rs` lists the same messages, and fails if one is gone.
fn made_by<'a>(message: &str, bytes: &'a [u8]) -> Vec<(ResourceType, &'a str)> {
    use ResourceType::{Cluster, Endpoint, Route, Secret};
    match message {
        "envoy.config.cluster.v3.Cluster" => match payload(bytes, 3) {
            Some(eds) if by_ads(payload(eds, 1)) => {
                let service = string(eds, 2);
                vec![(
                    Endpoint,
                    if service.is_empty() {
                        string(bytes, 1)
                    } else {
                        service
                    },
                )]
            }
            _ => Vec::new(),
        },
        "envoy.config.core.v3.HttpUri"
        | "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy" => {
            vec![(Cluster, string(bytes, 2))]
        }
        "envoy.config.core.v3.GrpcService.EnvoyGrpc"
        | "envoy.config.route.v3.RouteAction"
        | "envoy.config.route.v3.RouteAction.RequestMirrorPolicy"
        | "envoy.config.route.v3.WeightedCluster.ClusterWeight"
        | "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight" => {
            vec![(Cluster, string(bytes, 1))]
        }
        "envoy.extensions.clusters.aggregate.v3.ClusterConfig" => wire::Items::new(bytes)
            .filter(|i| i.tag == 1)
            .filter_map(|i| std::str::from_utf8(i.payload?).ok())
            .map(|name| (Cluster, name))
            .collect(),
        "envoy.extensions.filters.network.http_connection_manager.v3.Rds"
            if by_ads(payload(bytes, 1)) =>
        {
            vec![(Route, string(bytes, 2))]
        }
        "envoy.config.route.v3.ScopedRouteConfiguration" => vec![(Route, string(bytes, 2))],
        "envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig"
            if by_ads(payload(bytes, 2)) =>
        {
            vec![(Secret, string(bytes, 1))]
        }
        "envoy.config.listener.v3.Filter"
        | "envoy.config.listener.v3.ListenerFilter"
        | "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter" => {
            match payload(bytes, 5) {
                Some(discovery) if by_ads(payload(discovery, 1)) => {
                    vec![(ResourceType::ExtensionConfig, string(bytes, 1))]
                }
                _ => Vec::new(),
            }
        }
        _ => Vec::new(),
    }
}

/// Whether a `ConfigSource` leads to the stream that the resource itself came by: `ads` (3) or `self` (5).
fn by_ads(source: Option<&[u8]>) -> bool {
    source.is_some_and(|source| payload(source, 3).is_some() || payload(source, 5).is_some())
}
