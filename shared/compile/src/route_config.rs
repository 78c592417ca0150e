//! Route configurations, put together from virtual hosts that are already encoded: protobuf allows to join bytes.
//!
//! *Invariant:* no virtual host is decoded or encoded here.

use xds::Resource;

use crate::class::Class;
use crate::scope::Scope;
use crate::translate::{names, pb, route};
use crate::{Interception, Role};

/// The route configuration of the HTTP proxy port.
pub(crate) const HTTP_PROXY: &str = "http_proxy";

/// What stands around the virtual hosts of the route configurations of a class.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shell {
    /// For hosts that nobody knows, in the route configurations of sidecars.
    unknown: Option<pb::VirtualHost>,
    ignore_port: bool,
}

impl Shell {
    /// The shell for a class that sees this.
    pub(crate) fn of(class: &Class, scope: &Scope) -> Self {
        let unknown = match (class.role, scope.allow_any, class.interception) {
            (Role::Gateway, ..) => None,
            (Role::Sidecar, true, Interception::Transparent) => {
                Some(route::allow_any(names::PASSTHROUGH))
            }
            (Role::Sidecar, true, Interception::Explicit) => Some(route::allow_any(names::FORWARD)),
            (Role::Sidecar, false, _) => Some(route::block_all()),
        };
        Self {
            unknown,
            ignore_port: true,
        }
    }

    /// A route configuration of these pieces; none if nobody contributes one.
    pub(crate) fn join(&self, name: &str, pieces: &[&Resource]) -> Option<Resource> {
        pieces.first()?;
        let ignore_port = self.ignore_port && name != HTTP_PROXY;
        let head = Resource::new(&pb::RouteConfiguration {
            name: name.into(),
            ..Default::default()
        });
        let tail = Resource::new(&pb::RouteConfiguration {
            virtual_hosts: self.unknown.clone().into_iter().collect(),
            validate_clusters: pb::bool_value(false),
            max_direct_response_body_size_bytes: pb::u32_value(1024 * 1024),
            ignore_port_in_host_matching: ignore_port,
            ..Default::default()
        });
        let mut parts = vec![&head];
        parts.extend_from_slice(pieces);
        parts.push(&tail);
        Some(Resource::joined(parts))
    }
}

/// Virtual hosts as a piece of a route configuration.
pub(crate) fn piece(virtual_hosts: Vec<pb::VirtualHost>) -> Resource {
    Resource::new(&pb::RouteConfiguration {
        virtual_hosts,
        ..Default::default()
    })
}
