//! Active health checks: the readiness probe of a WorkloadGroup, asked by every proxy that calls its workloads.
//!
//! A probe's own port is told per endpoint ([`crate::translate::endpoint::Endpoint::health_check_port`]). `initialDelaySeconds`
//! has no counterpart: a workload that is not ready yet fails its check and is not called.
//!
//! *Invariant:* a probe that Envoy cannot perform is refused here, never sent to be rejected.

use std::time::Duration;

use model::spec::{GrpcProbe, HttpProbe, ProbeScheme, ReadinessProbe};
use pb::health_check::{GrpcHealthCheck, HealthChecker, HttpHealthCheck, TcpHealthCheck};

use super::Protocol;
use crate::translate::endpoint::TLS_MODE;
use crate::translate::pb;

/// Why a probe cannot be an active health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unsupported {
    /// A command runs where the workload runs; other proxies cannot run it.
    #[error(
        "spec.probe.exec: a command cannot be run by the proxies that call the workload; use httpGet, tcpSocket or grpc"
    )]
    Exec,
    /// Envoy checks over gRPC only where the cluster is HTTP/2.
    #[error(
        "spec.probe.grpc: needs a service port with protocol GRPC or HTTP2; name one, or use httpGet or tcpSocket"
    )]
    GrpcOverHttp1,
    /// The check uses the cluster's own transport, which is plaintext.
    #[error(
        "spec.probe.httpGet.scheme: HTTPS needs a DestinationRule that turns on TLS to the service; or use HTTP or tcpSocket"
    )]
    HttpsOverPlaintext,
}

/// The check asked in plaintext where transport sockets are chosen by endpoint.
pub(crate) fn in_plaintext(check: pb::HealthCheck) -> pb::HealthCheck {
    pb::HealthCheck {
        transport_socket_match_criteria: Some(pb::Struct {
            fields: [(TLS_MODE.to_owned(), pb::string("disabled"))].into(),
        }),
        ..check
    }
}

/// The health check of a cluster whose workloads have this probe. `host` is the service's, the `Host` header unless the
/// probe names one; `tls` says whether the cluster talks TLS.
///
/// # Errors
/// When Envoy cannot perform the probe.
pub(crate) fn health_check(
    probe: &ReadinessProbe,
    protocol: Protocol,
    tls: bool,
    host: &str,
) -> Result<pb::HealthCheck, Unsupported> {
    let or = |value: Option<u32>, default: u32| value.filter(|it| *it > 0).unwrap_or(default);
    let seconds = |seconds: u32| Some(pb::duration(Duration::from_secs(seconds.into())));
    let interval = seconds(or(probe.period_seconds, 10));
    Ok(pb::HealthCheck {
        timeout: seconds(or(probe.timeout_seconds, 1)),
        interval,
        // Envoy asks only every minute while nothing is sent: an idle service would be found ill late.
        no_traffic_interval: interval,
        healthy_threshold: pb::u32_value(or(probe.success_threshold, 1)),
        unhealthy_threshold: pb::u32_value(or(probe.failure_threshold, 3)),
        health_checker: Some(checker(probe, protocol, tls, host)?),
        ..Default::default()
    })
}

/// The port that is asked, where the probe names one.
pub(crate) fn port(probe: &ReadinessProbe) -> Option<u16> {
    let http = probe.http_get.as_ref().map(|it| it.port);
    let tcp = probe.tcp_socket.as_ref().map(|it| it.port);
    http.or(tcp).or(probe.grpc.as_ref().and_then(|it| it.port))
}

fn checker(
    probe: &ReadinessProbe,
    protocol: Protocol,
    tls: bool,
    host: &str,
) -> Result<HealthChecker, Unsupported> {
    if let Some(get) = &probe.http_get {
        if get.scheme == ProbeScheme::Https && !tls {
            return Err(Unsupported::HttpsOverPlaintext);
        }
        return Ok(HealthChecker::HttpHealthCheck(http(get, host)));
    }
    if probe.tcp_socket.is_some() {
        return Ok(HealthChecker::TcpHealthCheck(TcpHealthCheck::default()));
    }
    match &probe.grpc {
        Some(_) if protocol != Protocol::Http2 => Err(Unsupported::GrpcOverHttp1),
        Some(probe) => Ok(HealthChecker::GrpcHealthCheck(grpc(probe, host))),
        None => Err(Unsupported::Exec),
    }
}

/// 200 to 399 is healthy, as for the kubelet and Istio's agent.
fn http(get: &HttpProbe, host: &str) -> HttpHealthCheck {
    let header = |name: &str, value: &str| pb::HeaderValueOption {
        header: Some(pb::HeaderValue {
            key: name.into(),
            value: value.into(),
            ..Default::default()
        }),
        append_action: pb::header_value_option::HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..Default::default()
    };
    let is_host = |name: &str| name.eq_ignore_ascii_case("host");
    let named = get
        .http_headers
        .iter()
        .find(|it| is_host(&it.name))
        .map(|it| it.value.as_str());
    let others = get.http_headers.iter().filter(|it| !is_host(&it.name));
    HttpHealthCheck {
        host: named.or(get.host.as_deref()).unwrap_or(host).into(),
        path: get.path.clone().unwrap_or_else(|| "/".into()),
        request_headers_to_add: others.map(|it| header(&it.name, &it.value)).collect(),
        expected_statuses: vec![pb::Int64Range {
            start: 200,
            end: 400,
        }],
        ..Default::default()
    }
}

fn grpc(probe: &GrpcProbe, host: &str) -> GrpcHealthCheck {
    GrpcHealthCheck {
        service_name: probe.service.clone().unwrap_or_default(),
        authority: host.into(),
        ..Default::default()
    }
}
