//! The traffic policy of `DestinationRule`: load balancing, connection pools, outliers, TLS.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Duration, PortSelector};

/// How connections are made.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TrafficPolicy {
    /// How an endpoint is chosen.
    pub load_balancer: Option<LoadBalancerSettings>,
    /// How many connections and requests there may be.
    pub connection_pool: Option<ConnectionPoolSettings>,
    /// When an endpoint is ejected.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS to the endpoints.
    pub tls: Option<ClientTlsSettings>,
    /// Policies of single ports; each replaces this one entirely.
    pub port_level_settings: Vec<PortTrafficPolicy>,
    /// A tunnel to the endpoints. Not supported yet.
    pub tunnel: Option<TunnelSettings>,
    /// The PROXY protocol to the endpoints.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Retry budget of the cluster.
    pub retry_budget: Option<RetryBudget>,
}

/// The policy of one port.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PortTrafficPolicy {
    /// The port.
    pub port: PortSelector,
    /// How an endpoint is chosen.
    pub load_balancer: Option<LoadBalancerSettings>,
    /// How many connections and requests there may be.
    pub connection_pool: Option<ConnectionPoolSettings>,
    /// When an endpoint is ejected.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS to the endpoints.
    pub tls: Option<ClientTlsSettings>,
}

/// How an endpoint is chosen.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LoadBalancerSettings {
    /// By a simple algorithm.
    pub simple: Option<SimpleLb>,
    /// By a consistent hash of the request.
    pub consistent_hash: Option<ConsistentHashLb>,
    /// By locality.
    pub locality_lb_setting: Option<LocalityLoadBalancerSetting>,
    /// Deprecated form of warmup.
    pub warmup_duration_secs: Option<Duration>,
    /// New endpoints get their share step by step.
    pub warmup: Option<Warmup>,
}

/// The simple algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SimpleLb {
    /// The default: LEAST_REQUEST.
    Unspecified,
    /// Any endpoint.
    Random,
    /// The address the connection was meant for.
    Passthrough,
    /// One after the other.
    RoundRobin,
    /// The one of two random endpoints with fewer requests.
    LeastRequest,
    /// Deprecated name of LEAST_REQUEST.
    LeastConn,
}

/// By a consistent hash of the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConsistentHashLb {
    /// Of this header.
    pub http_header_name: Option<String>,
    /// Of this cookie.
    pub http_cookie: Option<HttpCookie>,
    /// Of the client's address.
    pub use_source_ip: Option<bool>,
    /// Of this query parameter.
    pub http_query_parameter_name: Option<String>,
    /// With a ring.
    pub ring_hash: Option<RingHash>,
    /// With Maglev's table.
    pub maglev: Option<Maglev>,
    /// Deprecated form of ringHash.minimumRingSize.
    pub minimum_ring_size: Option<u64>,
}

/// The cookie of a consistent hash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpCookie {
    /// Its name.
    pub name: String,
    /// Its path.
    pub path: Option<String>,
    /// How long it lives; Envoy makes it if it is absent.
    pub ttl: Option<Duration>,
    /// More attributes of the cookie. Not supported yet.
    #[serde(default)]
    pub attributes: Vec<CookieAttribute>,
}

/// An attribute of a cookie.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CookieAttribute {
    /// Its name.
    pub name: String,
    /// Its value.
    #[serde(default)]
    pub value: String,
}

/// A ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RingHash {
    /// How many places it has at least; 1024 by default.
    pub minimum_ring_size: Option<u64>,
}

/// Maglev's table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Maglev {
    /// How many places it has, a prime; 65537 by default.
    pub table_size: Option<u64>,
}

/// By locality.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LocalityLoadBalancerSetting {
    /// Shares by locality.
    pub distribute: Vec<Distribute>,
    /// Where to go when a region fails.
    pub failover: Vec<Failover>,
    /// Labels that order the endpoints, the most important first.
    pub failover_priority: Vec<String>,
    /// Whether it holds; true by default.
    pub enabled: Option<bool>,
}

/// Shares by locality.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Distribute {
    /// The locality of the client, `region/zone/subzone`, `*` allowed.
    pub from: String,
    /// The share in percent of each locality; together 100.
    pub to: BTreeMap<String, u32>,
}

/// Where to go when a region fails.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Failover {
    /// The region that fails.
    pub from: String,
    /// The region to go to.
    pub to: String,
}

/// New endpoints get their share step by step.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Warmup {
    /// How long it takes.
    pub duration: Duration,
    /// The share to begin with, in percent; 10 by default.
    pub minimum_percent: Option<f64>,
    /// How fast the share grows; 1.0 (evenly) by default.
    pub aggression: Option<f64>,
}

/// How many connections and requests there may be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConnectionPoolSettings {
    /// Of connections.
    pub tcp: Option<TcpSettings>,
    /// Of requests.
    pub http: Option<HttpSettings>,
}

/// The limits of connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TcpSettings {
    /// How many at most.
    pub max_connections: Option<u32>,
    /// How long opening one may take; 10 s by default.
    pub connect_timeout: Option<Duration>,
    /// Keepalive probes of the kernel.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// How long one may live.
    pub max_connection_duration: Option<Duration>,
    /// How long one may be idle.
    pub idle_timeout: Option<Duration>,
}

/// Keepalive probes of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TcpKeepalive {
    /// How many probes without an answer end the connection.
    pub probes: Option<u32>,
    /// How long it is idle before the first.
    pub time: Option<Duration>,
    /// The time between them.
    pub interval: Option<Duration>,
}

/// The limits of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpSettings {
    /// How many requests may wait for a connection.
    pub http1_max_pending_requests: Option<u32>,
    /// How many requests may be under way.
    pub http2_max_requests: Option<u32>,
    /// How many requests a connection carries.
    pub max_requests_per_connection: Option<u32>,
    /// How many retries may be under way.
    pub max_retries: Option<u32>,
    /// How long a connection may be idle.
    pub idle_timeout: Option<Duration>,
    /// Whether HTTP/1.1 is upgraded to HTTP/2.
    pub h2_upgrade_policy: Option<H2UpgradePolicy>,
    /// Use the protocol of the client.
    pub use_client_protocol: Option<bool>,
    /// How many streams an HTTP/2 connection carries at a time.
    pub max_concurrent_streams: Option<u32>,
}

/// Whether HTTP/1.1 is upgraded to HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum H2UpgradePolicy {
    /// As the mesh says.
    Default,
    /// No.
    DoNotUpgrade,
    /// Yes.
    Upgrade,
}

/// When an endpoint is ejected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OutlierDetection {
    /// Deprecated form of consecutive5xxErrors.
    pub consecutive_errors: Option<u32>,
    /// Count failures to connect apart from failures of the endpoint.
    pub split_external_local_origin_errors: bool,
    /// Failures to connect in a row.
    pub consecutive_local_origin_failures: Option<u32>,
    /// Gateway errors (502, 503, 504) in a row.
    pub consecutive_gateway_errors: Option<u32>,
    /// Errors (5xx) in a row; 5 by default, 0 switches it off.
    #[serde(rename = "consecutive5xxErrors")]
    pub consecutive_5xx_errors: Option<u32>,
    /// How often endpoints are looked at; 10 s by default.
    pub interval: Option<Duration>,
    /// How long the first ejection lasts; 30 s by default.
    pub base_ejection_time: Option<Duration>,
    /// How many endpoints may be ejected at a time, in percent; 10 by default.
    pub max_ejection_percent: Option<u32>,
    /// With fewer healthy endpoints, in percent, ejections are ignored; 0 by default.
    pub min_health_percent: Option<u32>,
}

/// TLS to the endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClientTlsSettings {
    /// Whether, and with which certificate.
    pub mode: TlsMode,
    /// The file of the client's certificate (MUTUAL).
    pub client_certificate: Option<String>,
    /// The file of its key (MUTUAL).
    pub private_key: Option<String>,
    /// The file of the authorities that are trusted; those of the system by default.
    pub ca_certificates: Option<String>,
    /// The file of the revocation list.
    pub ca_crl: Option<String>,
    /// A secret that holds certificate, key and authorities.
    pub credential_name: Option<String>,
    /// The names that the server may have.
    pub subject_alt_names: Vec<String>,
    /// The server name to ask for.
    pub sni: Option<String>,
    /// Do not verify the server.
    pub insecure_skip_verify: Option<bool>,
}

/// Whether TLS is used, and with which certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TlsMode {
    /// No TLS.
    #[default]
    Disable,
    /// TLS.
    Simple,
    /// TLS with a client certificate.
    Mutual,
    /// TLS with the mesh's certificate.
    IstioMutual,
}

/// A tunnel to the endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TunnelSettings {
    /// CONNECT or POST.
    pub protocol: Option<String>,
    /// The host to tunnel to.
    pub target_host: String,
    /// The port to tunnel to.
    pub target_port: u16,
}

/// The PROXY protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ProxyProtocol {
    /// Its version.
    pub version: ProxyProtocolVersion,
}

/// The versions of the PROXY protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum ProxyProtocolVersion {
    /// As text.
    #[default]
    V1,
    /// Binary.
    V2,
}

/// A budget of retries.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RetryBudget {
    /// In percent of the requests under way; 20 by default.
    pub percent: Option<f64>,
    /// How many are always allowed; 3 by default.
    pub min_retry_concurrency: Option<u32>,
}
