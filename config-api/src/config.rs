//! What an operator can set: flags, each with an environment variable `WEFT_*`.
//!
//! *Invariant:* there is no configuration file and no hidden setting; every value here has an effect.

mod access;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Args;
use mtls::IdentityFlags;

pub use access::{AccessConfig, AccessError};

/// The flags of config-api.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Where to listen; port 0 takes a free one
    #[arg(long, env = "WEFT_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Accept an address to listen on that is not loopback although callers are not authenticated, or send their tokens
    /// in the clear: only where the port is published to loopback alone, as by `docker run -p 127.0.0.1:8080:8080`
    #[arg(long, env = "WEFT_INSECURE_PUBLISHED_ON_LOOPBACK_ONLY")]
    pub insecure_published_on_loopback_only: bool,
    /// The names by which clients may call while callers are not authenticated, beside IP addresses, localhost and
    /// config-api.<system namespace>: any other may be of a web page that has its name resolve to this address
    #[arg(
        long,
        env = "WEFT_ALLOWED_HOSTS",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub allowed_hosts: Vec<String>,
    /// The address by which other replicas of config-api reach this one; the one it listens on if absent
    #[arg(long, env = "WEFT_ADVERTISE")]
    pub advertise: Option<SocketAddr>,
    /// The name of this replica among the members of config-api; random if absent
    #[arg(long, env = "WEFT_INSTANCE")]
    pub instance: Option<String>,
    /// The namespace whose policies hold for the whole mesh
    #[arg(long, env = "WEFT_ROOT_NAMESPACE", default_value = "istio-system")]
    pub root_namespace: String,
    /// The domain that completes short host names
    #[arg(long, env = "WEFT_DOMAIN", default_value = "svc.cluster.local")]
    pub domain: String,
    /// The most bytes of a request's body
    #[arg(long, env = "WEFT_MAX_BODY_BYTES", default_value_t = 3 * 1024 * 1024)]
    pub max_body_bytes: usize,
    /// The most headers of a request
    #[arg(long, env = "WEFT_MAX_HEADERS", default_value_t = 100)]
    pub max_headers: usize,
    /// The most bytes of a request's headers
    #[arg(long, env = "WEFT_MAX_HEADER_BYTES", default_value_t = 64 * 1024)]
    pub max_header_bytes: usize,
    /// How long a request may take, watches apart
    #[arg(long, env = "WEFT_REQUEST_TIMEOUT", default_value = "30s", value_parser = duration)]
    pub request_timeout: Duration,
    /// How many requests may be under way at once; more are refused with 429
    #[arg(long, env = "WEFT_MAX_REQUESTS", default_value_t = 256)]
    pub max_requests: usize,
    /// How many watches may be open at once; more are refused with 429
    #[arg(long, env = "WEFT_MAX_WATCHES", default_value_t = 1024)]
    pub max_watches: usize,
    /// How long to wait for each pusher's answer about proxies and status
    #[arg(long, env = "WEFT_PUSHER_DEADLINE", default_value = "500ms", value_parser = duration)]
    pub pusher_deadline: Duration,
    /// How long history is kept; 0s keeps it for ever
    #[arg(long, env = "WEFT_HISTORY_AGE", default_value = "720h", value_parser = duration)]
    pub history_age: Duration,
    /// Freeze the eviction of workloads when more than this share of them, in percent, falls silent within one TTL
    #[arg(long, env = "WEFT_EVICTION_FREEZE_PERCENT", default_value_t = 20)]
    pub eviction_freeze_percent: u8,
    /// Never freeze eviction for fewer silent workloads than this
    #[arg(long, env = "WEFT_EVICTION_FREEZE_LEAST", default_value_t = 5)]
    pub eviction_freeze_least: usize,
    /// Who this service is, and whom bootstraps trust.
    #[command(flatten)]
    pub identity: IdentityFlags,
    /// Give out bootstraps for pushers that serve xDS without TLS: without a credential, to everybody who may ask
    #[arg(long, env = "WEFT_INSECURE_PLAINTEXT_XDS")]
    pub insecure_plaintext_xds: bool,
    /// Where proxies reach any pusher whichever are running, as host:port, such as a name with an address for every replica;
    /// bootstraps name it after the pushers that live when they are made
    #[arg(long, env = "WEFT_BOOTSTRAP_PUSHERS", value_name = "HOST:PORT", value_delimiter = ',', value_parser = mtls::place)]
    pub bootstrap_pushers: Vec<String>,
    /// Where proxies reach any issuer, likewise
    #[arg(long, env = "WEFT_BOOTSTRAP_ISSUERS", value_name = "HOST:PORT", value_delimiter = ',', value_parser = mtls::place)]
    pub bootstrap_issuers: Vec<String>,
    /// Who may call.
    #[command(flatten)]
    pub access: AccessConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            insecure_published_on_loopback_only: false,
            allowed_hosts: Vec::new(),
            advertise: None,
            instance: None,
            root_namespace: "istio-system".into(),
            domain: "svc.cluster.local".into(),
            max_body_bytes: 3 * 1024 * 1024,
            max_headers: 100,
            max_header_bytes: 64 * 1024,
            request_timeout: Duration::from_secs(30),
            max_requests: 256,
            max_watches: 1024,
            pusher_deadline: Duration::from_millis(500),
            history_age: Duration::from_secs(720 * 3600),
            eviction_freeze_percent: 20,
            eviction_freeze_least: 5,
            identity: IdentityFlags::default(),
            insecure_plaintext_xds: false,
            bootstrap_pushers: Vec::new(),
            bootstrap_issuers: Vec::new(),
            access: AccessConfig::default(),
        }
    }
}

/// A duration such as `500ms`, `30s` or `1h30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|d| Duration::try_from(d).ok())
        .ok_or_else(|| format!("{text:?} is not a duration such as 500ms, 30s or 1h30m"))
}

#[cfg(test)]
mod tests;
