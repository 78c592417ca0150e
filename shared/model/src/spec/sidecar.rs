//! `Sidecar`: what a sidecar proxy listens to and which services it sees.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{ConnectionPoolSettings, Port, ServerTlsSettings, WorkloadSelector};

/// Says what the sidecars of a namespace, or of selected workloads, listen to and see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Sidecar {
    /// The workloads; all of the namespace by default.
    pub workload_selector: Option<WorkloadSelector>,
    /// What comes in.
    pub ingress: Vec<IngressListener>,
    /// What goes out.
    pub egress: Vec<EgressListener>,
    /// The limits of what comes in.
    pub inbound_connection_pool: Option<ConnectionPoolSettings>,
    /// What happens to connections to unknown destinations.
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
}

/// A port that takes what comes in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IngressListener {
    /// The port.
    pub port: Port,
    /// The address to bind; the workload's by default.
    pub bind: Option<String>,
    /// How connections come here.
    #[serde(default)]
    pub capture_mode: CaptureMode,
    /// Where to send: `:PORT`, `127.0.0.1:PORT`, `[::1]:PORT`, `0.0.0.0:PORT` or `[::]:PORT` (the workload's address), or
    /// `unix:///path`.
    pub default_endpoint: Option<String>,
    /// TLS settings.
    pub tls: Option<ServerTlsSettings>,
    /// The limits of what comes in here.
    pub connection_pool: Option<ConnectionPoolSettings>,
}

/// Where an ingress listener sends to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultEndpoint {
    /// A port of the local host.
    Local(std::net::SocketAddr),
    /// A port of the workload's own address.
    Workload(u16),
    /// A Unix socket, as `unix:///path`.
    Unix(String),
}

impl std::str::FromStr for DefaultEndpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            "must be :PORT, 127.0.0.1:PORT, [::1]:PORT, 0.0.0.0:PORT, [::]:PORT or unix:///path"
                .to_owned()
        };
        if let Some(path) = text.strip_prefix("unix://") {
            let absolute = path.starts_with('/') || path.starts_with('@');
            return absolute
                .then(|| Self::Unix(text.to_owned()))
                .ok_or_else(wrong);
        }
        let address = if text.starts_with(':') {
            format!("127.0.0.1{text}")
        } else {
            text.to_owned()
        };
        match address.parse::<std::net::SocketAddr>() {
            Ok(address) if address.port() == 0 => Err(wrong()),
            Ok(address) if address.ip().is_unspecified() => Ok(Self::Workload(address.port())),
            Ok(address) if address.ip().is_loopback() => Ok(Self::Local(address)),
            _ => Err(wrong()),
        }
    }
}

impl IngressListener {
    /// Where it sends to, if it says; `None` too where that cannot be read, which validation refuses.
    pub fn endpoint(&self) -> Option<DefaultEndpoint> {
        self.default_endpoint.as_deref()?.parse().ok()
    }
}

/// What goes out, and from where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EgressListener {
    /// The port; without one, the hosts of this entry are seen on every port of their own.
    pub port: Option<Port>,
    /// The address to bind, or `unix:///path`; 127.0.0.1 by default if there is a port.
    pub bind: Option<String>,
    /// How connections come here.
    #[serde(default)]
    pub capture_mode: CaptureMode,
    /// The services that are seen: `namespace/host`, where namespace is a name, `.`, `*` or `~`.
    pub hosts: Vec<String>,
}

/// How connections come to a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CaptureMode {
    /// As the workload's environment does it.
    #[default]
    Default,
    /// Redirected by iptables.
    Iptables,
    /// The application connects to it.
    None,
}

/// What happens to connections to unknown destinations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OutboundTrafficPolicy {
    /// Whether they are allowed.
    pub mode: OutboundTrafficMode,
    /// A service that takes them. Not supported yet.
    pub egress_proxy: Option<super::Destination>,
}

/// Whether connections to unknown destinations are allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OutboundTrafficMode {
    /// Only known services.
    RegistryOnly,
    /// Everything; the default.
    #[default]
    AllowAny,
}
