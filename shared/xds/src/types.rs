//! The types of resource, and the messages they are.
//!
//! *Invariant:* no type URL is written anywhere else.

use std::fmt;
use std::sync::Arc;

use envoy_types::pb;

/// The types of resource this server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ResourceType {
    /// CDS: `envoy.config.cluster.v3.Cluster`.
    Cluster,
    /// EDS: `envoy.config.endpoint.v3.ClusterLoadAssignment`.
    Endpoint,
    /// LDS: `envoy.config.listener.v3.Listener`.
    Listener,
    /// RDS: `envoy.config.route.v3.RouteConfiguration`.
    Route,
    /// SRDS: `envoy.config.route.v3.ScopedRouteConfiguration`.
    ScopedRoute,
    /// SDS: `envoy.extensions.transport_sockets.tls.v3.Secret`.
    Secret,
    /// RTDS: `envoy.service.runtime.v3.Runtime`.
    Runtime,
    /// ECDS: `envoy.config.core.v3.TypedExtensionConfig`.
    ExtensionConfig,
}

impl ResourceType {
    /// How many there are.
    pub const COUNT: usize = 8;
    /// All of them.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Cluster,
        Self::Endpoint,
        Self::Listener,
        Self::Route,
        Self::ScopedRoute,
        Self::Secret,
        Self::Runtime,
        Self::ExtensionConfig,
    ];

    /// The full name of the message.
    pub const fn message_name(self) -> &'static str {
        self.type_url().split_at("type.googleapis.com/".len()).1
    }

    /// The type URL of the message.
    pub const fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoint => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::ScopedRoute => {
                "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration"
            }
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Runtime => "type.googleapis.com/envoy.service.runtime.v3.Runtime",
            Self::ExtensionConfig => {
                "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
            }
        }
    }

    /// The type with this type URL.
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ty| ty.type_url() == url)
    }

    /// The usual abbreviation, as in Envoy's documents: `CDS`, `EDS` …
    pub const fn short(self) -> &'static str {
        match self {
            Self::Cluster => "CDS",
            Self::Endpoint => "EDS",
            Self::Listener => "LDS",
            Self::Route => "RDS",
            Self::ScopedRoute => "SRDS",
            Self::Secret => "SDS",
            Self::Runtime => "RTDS",
            Self::ExtensionConfig => "ECDS",
        }
    }

    /// Whether an empty list of names asks for everything, and a state-of-the-world response is the full set, so that
    /// what it lacks is deleted (rules S9, S10).
    pub const fn is_full_state(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener | Self::ScopedRoute)
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

/// A reference from one resource to another, by type and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ref {
    /// The type referred to.
    pub ty: ResourceType,
    /// The name referred to.
    pub name: Arc<str>,
}

/// A protobuf message that can be served as a resource.
pub trait Message: prost::Message {
    /// Its type.
    const TYPE: ResourceType;
    /// Its name, as subscribed to.
    fn name(&self) -> &str;
}

macro_rules! messages {
    ($($message:path => $ty:ident, $name:ident;)*) => {$(
        impl Message for $message {
            const TYPE: ResourceType = ResourceType::$ty;
            fn name(&self) -> &str {
                &self.$name
            }
        }
    )*};
}

messages! {
    pb::envoy::config::cluster::v3::Cluster => Cluster, name;
    pb::envoy::config::endpoint::v3::ClusterLoadAssignment => Endpoint, cluster_name;
    pb::envoy::config::listener::v3::Listener => Listener, name;
    pb::envoy::config::route::v3::RouteConfiguration => Route, name;
    pb::envoy::config::route::v3::ScopedRouteConfiguration => ScopedRoute, name;
    pb::envoy::extensions::transport_sockets::tls::v3::Secret => Secret, name;
    pb::envoy::service::runtime::v3::Runtime => Runtime, name;
    pb::envoy::config::core::v3::TypedExtensionConfig => ExtensionConfig, name;
}
