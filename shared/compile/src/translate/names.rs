//! The names of Envoy resources: Istio's, so that its tools, dashboards and habits read them.
//!
//! *Invariant:* no other file spells a cluster's name.

/// The cluster without endpoints: whatever is sent there gets 503.
pub(crate) const BLACK_HOLE: &str = "BlackHoleCluster";
/// The cluster that leads wherever an intercepted connection was going.
pub(crate) const PASSTHROUGH: &str = "PassthroughCluster";
/// The same for connections to the workload.
pub(crate) const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";
/// The cluster that leads to whatever host a request names, for applications that use the proxy as their HTTP proxy.
pub(crate) const FORWARD: &str = "ForwardCluster";

/// A cluster for calls to a service: `outbound|80|v1|reviews.default.svc.cluster.local`.
pub(crate) fn outbound(port: u16, subset: &str, host: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

/// A cluster for what arrives at the workload itself: `inbound|9080||`.
pub(crate) fn inbound(port: u16) -> String {
    format!("inbound|{port}||")
}

/// The server name of a cluster for calls to a service: `outbound_.80_.v1_.reviews.default.svc.cluster.local`.
pub(crate) fn outbound_sni(port: u16, subset: &str, host: &str) -> String {
    format!("outbound_.{port}_.{subset}_.{host}")
}

/// The host and port of a cluster's name, if it is one of ours.
pub(crate) fn host_and_port(cluster: &str) -> Option<(&str, &str)> {
    let mut parts = cluster.splitn(4, '|');
    let (_direction, port, _subset) = (parts.next()?, parts.next()?, parts.next()?);
    parts
        .next()
        .filter(|host| !host.is_empty())
        .map(|host| (host, port))
}

/// A virtual host: `reviews.default.svc.cluster.local:80`; an IPv6 address in brackets.
pub(crate) fn authority(host: &str, port: u16) -> String {
    format!("{}:{port}", bracketed(host))
}

/// A host as it stands in an authority: an IPv6 address in brackets, anything else as it is.
pub(crate) fn bracketed(host: &str) -> String {
    if host.parse::<std::net::Ipv6Addr>().is_ok() {
        format!("[{host}]")
    } else {
        host.into()
    }
}
