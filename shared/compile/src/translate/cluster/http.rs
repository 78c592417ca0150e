//! What a cluster speaks: the HTTP version, and what goes with it.
//!
//! *Invariant:* a cluster has one explicit HTTP version unless its policy asks for the client's.

use std::collections::HashMap;

use model::spec::{ClientTlsSettings, ConnectionPoolSettings, H2UpgradePolicy};
use pb::http_upstream::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
    explicit_http_config::ProtocolConfig,
};

use super::tls;
use crate::translate::pb;

/// The protocol of a service port, as far as clusters differ by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Protocol {
    /// `HTTP`.
    Http1,
    /// `HTTP2`, `GRPC`, `GRPC-WEB`.
    Http2,
    /// Anything that is not HTTP to the proxy: `TCP`, `TLS`, `HTTPS`, `MONGO`, …
    Tcp,
}

/// The HTTP version a cluster is told to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// HTTP/1.1. Also what HTTP over a port that is not HTTP to the proxy is sent as, behind a gateway that originates TLS.
    Http1,
    /// HTTP/2.
    Http2,
    /// `useClientProtocol`: what the client speaks.
    Client,
    /// Not HTTP.
    None,
}

/// The version for a port: its protocol, unless the policy upgrades it or follows the client (`shouldH2Upgrade`).
pub(super) fn version(protocol: Protocol, pool: Option<&ConnectionPoolSettings>) -> Version {
    let http = pool.and_then(|it| it.http.as_ref());
    let upgrade = http.and_then(|it| it.h2_upgrade_policy);
    if http.is_some_and(|it| it.use_client_protocol == Some(true)) {
        return Version::Client;
    }
    match (protocol, upgrade) {
        (_, Some(H2UpgradePolicy::Upgrade)) | (Protocol::Http2, _) => Version::Http2,
        (Protocol::Http1, _) => Version::Http1,
        (Protocol::Tcp, _) => Version::None,
    }
}

/// The protocol options of a cluster; empty when it is not told to be HTTP.
pub(super) fn options(
    version: Version,
    pool: Option<&ConnectionPoolSettings>,
    tls: Option<&ClientTlsSettings>,
) -> HashMap<String, pb::Any> {
    let upstream = tls.and_then(tls::from_request);
    let common = common(pool);
    if version == Version::None && upstream.is_none() && common.is_none() {
        return HashMap::new();
    }
    let http2 = pb::Http2ProtocolOptions {
        max_concurrent_streams: pool
            .and_then(|it| it.http.as_ref()?.max_concurrent_streams)
            .filter(|it| *it > 0)
            .and_then(pb::u32_value),
        ..Default::default()
    };
    let explicit = |config| {
        UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(config),
        })
    };
    let protocol = match version {
        Version::Http2 => explicit(ProtocolConfig::Http2ProtocolOptions(http2)),
        Version::Client => {
            UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
                http_protocol_options: Some(Default::default()),
                http2_protocol_options: Some(http2),
                ..Default::default()
            })
        }
        Version::Http1 | Version::None => {
            explicit(ProtocolConfig::HttpProtocolOptions(Default::default()))
        }
    };
    wrapped(&pb::http_upstream::HttpProtocolOptions {
        common_http_protocol_options: common,
        upstream_http_protocol_options: upstream,
        upstream_protocol_options: Some(protocol),
        ..Default::default()
    })
}

/// Options to speak what the client speaks.
pub(super) fn downstream_protocol() -> HashMap<String, pb::Any> {
    let config = UseDownstreamHttpConfig {
        http_protocol_options: Some(Default::default()),
        http2_protocol_options: Some(Default::default()),
        ..Default::default()
    };
    wrapped(&pb::http_upstream::HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(
            config,
        )),
        ..Default::default()
    })
}

fn wrapped(options: &pb::http_upstream::HttpProtocolOptions) -> HashMap<String, pb::Any> {
    let name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    [(name.to_owned(), pb::any(options))].into()
}

/// `idleTimeout` of HTTP, else of TCP; `maxRequestsPerConnection`; `maxConnectionDuration`.
fn common(pool: Option<&ConnectionPoolSettings>) -> Option<pb::HttpProtocolOptions> {
    let http = pool.and_then(|it| it.http.as_ref());
    let tcp = pool.and_then(|it| it.tcp.as_ref());
    let idle = http
        .and_then(|it| it.idle_timeout)
        .or(tcp.and_then(|it| it.idle_timeout));
    let duration = tcp.and_then(|it| it.max_connection_duration);
    let requests = http
        .and_then(|it| it.max_requests_per_connection)
        .filter(|it| *it > 0);
    (idle.is_some() || duration.is_some() || requests.is_some()).then(|| pb::HttpProtocolOptions {
        idle_timeout: idle.map(|it| pb::duration(*it)),
        max_connection_duration: duration.map(|it| pb::duration(*it)),
        max_requests_per_connection: requests.and_then(pb::u32_value),
        ..Default::default()
    })
}
