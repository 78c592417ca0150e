//! `VirtualService`: how requests and connections to a host are routed. Its HTTP part is in [`super::http`].

use schemars::JsonSchema;
use serde::Deserialize;

use super::{HttpRoute, Labels};

/// Routes what is sent to its hosts.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct VirtualService {
    /// The hosts it routes; none only if it is a delegate of another VirtualService.
    pub hosts: Vec<String>,
    /// The Gateways it is bound to, `namespace/name`; `mesh` (the default) are the sidecars.
    pub gateways: Vec<String>,
    /// Routes for HTTP, in order; the first that matches wins.
    pub http: Vec<HttpRoute>,
    /// Routes for TLS that is passed through, by SNI.
    pub tls: Vec<TlsRoute>,
    /// Routes for TCP.
    pub tcp: Vec<TcpRoute>,
    /// The namespaces in which it holds: `.` its own, `*` all (the default), or names.
    pub export_to: Vec<String>,
}

/// Where to send.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Destination {
    /// A service's host; a short name is completed with the VirtualService's namespace.
    pub host: String,
    /// A subset that a DestinationRule of the host names.
    pub subset: Option<String>,
    /// The service's port; needed only if it has several.
    pub port: Option<PortSelector>,
}

/// A port of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortSelector {
    /// Its number.
    pub number: u16,
}

/// A destination of TCP or TLS, with its share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteDestination {
    /// Where to send.
    pub destination: Destination,
    /// Its share of the sum of all weights.
    #[serde(default)]
    pub weight: u32,
}

/// A route for TLS that is passed through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsRoute {
    /// Any of these must match.
    #[serde(rename = "match")]
    pub matches: Vec<TlsMatchAttributes>,
    /// Where to send.
    #[serde(default)]
    pub route: Vec<RouteDestination>,
}

/// A route for TCP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TcpRoute {
    /// Any of these must match; everything, if there are none.
    #[serde(rename = "match")]
    pub matches: Vec<L4MatchAttributes>,
    /// Where to send.
    pub route: Vec<RouteDestination>,
}

/// What a TLS connection is matched by; all of it must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsMatchAttributes {
    /// The server names, `*.example.com` allowed.
    pub sni_hosts: Vec<String>,
    /// Destination addresses or prefixes.
    #[serde(default)]
    pub destination_subnets: Vec<String>,
    /// The destination port.
    pub port: Option<u16>,
    /// Labels of the workload that connects.
    #[serde(default)]
    pub source_labels: Labels,
    /// The Gateways this match is for.
    #[serde(default)]
    pub gateways: Vec<String>,
    /// The namespace of the workload that connects.
    pub source_namespace: Option<String>,
}

/// What a TCP connection is matched by; all of it must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct L4MatchAttributes {
    /// Destination addresses or prefixes.
    pub destination_subnets: Vec<String>,
    /// The destination port.
    pub port: Option<u16>,
    /// The client's address or prefix.
    pub source_subnet: Option<String>,
    /// Labels of the workload that connects.
    pub source_labels: Labels,
    /// The Gateways this match is for.
    pub gateways: Vec<String>,
    /// The namespace of the workload that connects.
    pub source_namespace: Option<String>,
}
