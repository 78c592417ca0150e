#![allow(clippy::unwrap_used)]

use pb::cluster::LbConfig;
use pb::http_upstream::http_protocol_options::UpstreamProtocolOptions;
use prost::Message;

use super::*;
use crate::translate::endpoint::Address;

pub(crate) const DEFAULTS: Defaults<'static> = Defaults {
    connect_timeout: Duration::from_secs(10),
    tcp_keepalive: None,
    locality: None,
    system_ca: "/etc/ssl/certs/ca-certificates.crt",
};

fn build(policy: &str, protocol: Protocol, discovery: Discovery<'_>) -> pb::Cluster {
    let policy: TrafficPolicy = serde_saphyr::from_str(policy).unwrap();
    outbound(&Input {
        name: "outbound|80||a.io",
        discovery,
        protocol,
        policy: &policy,
        subject_alt_names: &["from.entry".to_owned()],
        peers: None,
        uploaded: None,
        health_check: None,
        rule: None,
        defaults: DEFAULTS,
        caller: Caller {
            place: &Place::new("us/a"),
            labels: &BTreeMap::new(),
        },
    })
}

fn http(policy: &str) -> pb::Cluster {
    build(policy, Protocol::Http1, Discovery::Eds)
}

fn options(cluster: &pb::Cluster) -> Option<pb::http_upstream::HttpProtocolOptions> {
    let any = cluster.typed_extension_protocol_options.values().next()?;
    Some(pb::http_upstream::HttpProtocolOptions::decode(any.value.as_slice()).unwrap())
}

fn tls_context(cluster: &pb::Cluster) -> pb::tls::UpstreamTlsContext {
    let socket = cluster.transport_socket.as_ref().unwrap();
    assert_eq!(socket.name, "envoy.transport_sockets.tls");
    let Some(pb::transport_socket::ConfigType::TypedConfig(any)) = &socket.config_type else {
        panic!("typed")
    };
    pb::tls::UpstreamTlsContext::decode(any.value.as_slice()).unwrap()
}

fn validation(cluster: &pb::Cluster) -> Option<pb::tls::CertificateValidationContext> {
    use pb::tls::common_tls_context::ValidationContextType::ValidationContext;
    match tls_context(cluster)
        .common_tls_context
        .unwrap()
        .validation_context_type
    {
        Some(ValidationContext(validation)) => Some(validation),
        None => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn defaults_of_a_cluster() {
    let cluster = http("{}");
    assert_eq!(cluster.lb_policy(), LbPolicy::LeastRequest);
    assert_eq!(cluster.connect_timeout.unwrap().seconds, 10);
    assert_eq!(
        cluster
            .common_lb_config
            .unwrap()
            .healthy_panic_threshold
            .unwrap()
            .value,
        0.0
    );
    assert_eq!(cluster.outlier_detection, None);
    let limits = &cluster.circuit_breakers.unwrap().thresholds[0];
    for limit in [
        limits.max_connections,
        limits.max_pending_requests,
        limits.max_requests,
        limits.max_retries,
    ] {
        assert_eq!(limit.unwrap().value, u32::MAX);
    }
    let eds = cluster.eds_cluster_config.unwrap();
    assert_eq!(eds.service_name, "outbound|80||a.io");
    assert_eq!(
        eds.eds_config
            .unwrap()
            .initial_fetch_timeout
            .unwrap()
            .seconds,
        5
    );
}

#[test]
fn discovery_by_resolution() {
    let endpoints = ["a.io", "b.io"].map(|host| Endpoint {
        address: Address::new(host, 443),
        ..Default::default()
    });
    let cases = [
        (Discovery::Eds, DiscoveryType::Eds, None),
        (
            Discovery::StrictDns(&endpoints),
            DiscoveryType::StrictDns,
            Some(2),
        ),
        (
            Discovery::LogicalDns(&endpoints),
            DiscoveryType::LogicalDns,
            Some(1),
        ),
        (Discovery::OriginalDst, DiscoveryType::OriginalDst, None),
    ];
    for (discovery, want, inline) in cases {
        let cluster = build("{}", Protocol::Tcp, discovery);
        assert_eq!(cluster.cluster_discovery_type, discovery_type(want));
        let count = cluster
            .load_assignment
            .map(|it| it.endpoints[0].lb_endpoints.len());
        assert_eq!(count, inline, "{want:?}");
    }
    let passthrough = http("{loadBalancer: {simple: PASSTHROUGH}}");
    assert_eq!(
        passthrough.cluster_discovery_type,
        discovery_type(DiscoveryType::OriginalDst)
    );
    assert_eq!(passthrough.lb_policy(), LbPolicy::ClusterProvided);
}

#[test]
fn load_balancers() {
    let cases = [
        ("simple: ROUND_ROBIN", LbPolicy::RoundRobin, None),
        ("simple: RANDOM", LbPolicy::Random, None),
        ("simple: LEAST_REQUEST", LbPolicy::LeastRequest, None),
        ("simple: LEAST_CONN", LbPolicy::LeastRequest, None),
        (
            "consistentHash: {useSourceIp: true}",
            LbPolicy::RingHash,
            Some(1024),
        ),
        (
            "consistentHash: {useSourceIp: true, minimumRingSize: 64}",
            LbPolicy::RingHash,
            Some(64),
        ),
        (
            "consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 32}}",
            LbPolicy::RingHash,
            Some(32),
        ),
        (
            "consistentHash: {httpHeaderName: x, maglev: {}}",
            LbPolicy::Maglev,
            None,
        ),
        (
            "consistentHash: {httpHeaderName: x, maglev: {tableSize: 101}}",
            LbPolicy::Maglev,
            Some(101),
        ),
    ];
    for (settings, want, size) in cases {
        let cluster = http(&format!("{{loadBalancer: {{{settings}}}}}"));
        let seen = match &cluster.lb_config {
            Some(LbConfig::RingHashLbConfig(config)) => config.minimum_ring_size.map(|it| it.value),
            Some(LbConfig::MaglevLbConfig(config)) => config.table_size.map(|it| it.value),
            _ => None,
        };
        assert_eq!((cluster.lb_policy(), seen), (want, size), "{settings}");
    }
    let warm = http("{loadBalancer: {simple: LEAST_REQUEST, warmupDurationSecs: 30s}}");
    let Some(LbConfig::LeastRequestLbConfig(config)) = warm.lb_config else {
        panic!("warm-up")
    };
    assert_eq!(
        config
            .slow_start_config
            .unwrap()
            .slow_start_window
            .unwrap()
            .seconds,
        30
    );
}

#[test]
fn localities_are_weighted_only_when_asked() {
    let cases = [
        ("{}", false),
        ("{outlierDetection: {}}", false),
        (
            "{loadBalancer: {localityLbSetting: {distribute: [{from: us/*, to: {us/*: 100}}]}}}",
            true,
        ),
        (
            "{loadBalancer: {localityLbSetting: {failover: [{from: us, to: eu}]}}}",
            false,
        ),
        (
            "{outlierDetection: {}, loadBalancer: {localityLbSetting: {failover: [{from: us, to: eu}]}}}",
            true,
        ),
    ];
    for (policy, want) in cases {
        let common = http(policy).common_lb_config.unwrap();
        assert_eq!(common.locality_config_specifier.is_some(), want, "{policy}");
    }
}

#[test]
fn connection_pool() {
    let cluster = http(
        "{connectionPool: {tcp: {maxConnections: 1, connectTimeout: 30ms, maxConnectionDuration: 60s, idleTimeout: 5s, \
                                 tcpKeepalive: {probes: 3, time: 7200s, interval: 75s}}, \
                           http: {http1MaxPendingRequests: 2, http2MaxRequests: 3, maxRetries: 4, \
                                  maxRequestsPerConnection: 5, idleTimeout: 6s}}}",
    );
    let limits = &cluster.circuit_breakers.as_ref().unwrap().thresholds[0];
    let limit = |limit: Option<pb::UInt32Value>| limit.unwrap().value;
    assert_eq!(limit(limits.max_connections), 1);
    assert_eq!(limit(limits.max_pending_requests), 2);
    assert_eq!(limit(limits.max_requests), 3);
    assert_eq!(limit(limits.max_retries), 4);
    assert_eq!(cluster.connect_timeout.unwrap().nanos, 30_000_000);
    let keepalive = cluster
        .upstream_connection_options
        .as_ref()
        .unwrap()
        .tcp_keepalive
        .unwrap();
    assert_eq!(limit(keepalive.keepalive_time), 7200);
    let common = options(&cluster)
        .unwrap()
        .common_http_protocol_options
        .unwrap();
    assert_eq!(limit(common.max_requests_per_connection), 5);
    assert_eq!(
        common.idle_timeout.unwrap().seconds,
        6,
        "http.idleTimeout before tcp.idleTimeout"
    );
    assert_eq!(common.max_connection_duration.unwrap().seconds, 60);
}

#[test]
fn http_version_by_protocol_and_policy() {
    use UpstreamProtocolOptions::{ExplicitHttpConfig, UseDownstreamProtocolConfig};
    use pb::http_upstream::http_protocol_options::explicit_http_config::ProtocolConfig::{
        Http2ProtocolOptions, HttpProtocolOptions,
    };
    let version = |protocol, policy: &str| {
        let options = options(&build(policy, protocol, Discovery::Eds))?;
        Some(match options.upstream_protocol_options.unwrap() {
            ExplicitHttpConfig(explicit) => match explicit.protocol_config.unwrap() {
                HttpProtocolOptions(_) => "1",
                Http2ProtocolOptions(_) => "2",
                other => panic!("{other:?}"),
            },
            UseDownstreamProtocolConfig(_) => "client",
            other => panic!("{other:?}"),
        })
    };
    let pool = |http: &str| format!("{{connectionPool: {{http: {{{http}}}}}}}");
    assert_eq!(version(Protocol::Http1, "{}"), Some("1"));
    assert_eq!(version(Protocol::Http2, "{}"), Some("2"));
    assert_eq!(version(Protocol::Tcp, "{}"), None);
    assert_eq!(
        version(Protocol::Http1, &pool("h2UpgradePolicy: UPGRADE")),
        Some("2")
    );
    assert_eq!(
        version(Protocol::Http2, &pool("h2UpgradePolicy: DO_NOT_UPGRADE")),
        Some("2")
    );
    assert_eq!(
        version(Protocol::Http1, &pool("useClientProtocol: true")),
        Some("client")
    );
}

#[test]
fn outlier_detection() {
    let cluster = http(
        "{outlierDetection: {consecutive5xxErrors: 7, consecutiveGatewayErrors: 0, interval: 5m, baseEjectionTime: 15m, \
          maxEjectionPercent: 50, minHealthPercent: 20, splitExternalLocalOriginErrors: true, \
          consecutiveLocalOriginFailures: 3}}",
    );
    let outlier = cluster.outlier_detection.unwrap();
    let value = |value: Option<pb::UInt32Value>| value.unwrap().value;
    assert_eq!(
        (
            value(outlier.consecutive_5xx),
            value(outlier.enforcing_consecutive_5xx)
        ),
        (7, 100)
    );
    assert_eq!(
        value(outlier.enforcing_consecutive_gateway_failure),
        0,
        "0 switches it off"
    );
    assert_eq!(value(outlier.consecutive_local_origin_failure), 3);
    assert_eq!(value(outlier.enforcing_local_origin_success_rate), 0);
    assert_eq!(value(outlier.enforcing_success_rate), 0);
    assert_eq!(value(outlier.max_ejection_percent), 50);
    assert_eq!(outlier.interval.unwrap().seconds, 300);
    assert_eq!(
        cluster
            .common_lb_config
            .unwrap()
            .healthy_panic_threshold
            .unwrap()
            .value,
        20.0
    );
    let quiet = http("{outlierDetection: {consecutiveLocalOriginFailures: 3}}");
    let quiet = quiet.outlier_detection.unwrap();
    assert_eq!(
        quiet.consecutive_local_origin_failure, None,
        "counts only when errors are split"
    );
}

/// The secret with the authorities that a policy verifies with.
fn authorities_of(policy: &str) -> String {
    use pb::tls::common_tls_context::ValidationContextType;
    let common = tls_context(&http(policy)).common_tls_context.unwrap();
    match common.validation_context_type {
        Some(ValidationContextType::CombinedValidationContext(combined)) => {
            combined.validation_context_sds_secret_config.unwrap().name
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn tls_to_a_site() {
    let simple = http("{tls: {mode: SIMPLE, sni: a.io}}");
    assert_eq!(tls_context(&simple).sni, "a.io");
    let validation_of = |policy: &str| validation(&http(policy)).unwrap();
    let ca = |policy: &str| match validation_of(policy).trusted_ca.unwrap().specifier {
        Some(pb::data_source::Specifier::Filename(path)) => path,
        other => panic!("{other:?}"),
    };
    assert_eq!(ca("{tls: {mode: SIMPLE}}"), DEFAULTS.system_ca);
    assert_eq!(
        ca("{tls: {mode: SIMPLE, caCertificates: system}}"),
        DEFAULTS.system_ca
    );
    assert_eq!(
        authorities_of("{tls: {mode: SIMPLE, caCertificates: /ca.pem}}"),
        "file-root:/ca.pem@outbound|80||a.io"
    );
    assert_eq!(
        authorities_of("{tls: {mode: SIMPLE, caCrl: /crl.pem}}"),
        format!(
            "file-root:{}~/crl.pem@outbound|80||a.io",
            DEFAULTS.system_ca
        )
    );
    let names = |policy: &str| {
        let names = validation_of(policy).match_typed_subject_alt_names;
        names
            .iter()
            .map(|it| (it.san_type().as_str_name(), it.matcher.clone().unwrap()))
            .collect::<Vec<_>>()
    };
    let exact = |name: &str| pb::StringMatcher {
        match_pattern: Some(pb::string_matcher::MatchPattern::Exact(name.into())),
        ..Default::default()
    };
    assert_eq!(
        names("{tls: {mode: SIMPLE}}"),
        [("DNS", exact("from.entry"))],
        "ServiceEntry.subjectAltNames"
    );
    assert_eq!(
        names("{tls: {mode: SIMPLE, subjectAltNames: ['spiffe://td/ns/a/sa/b', 10.0.0.1]}}"),
        [
            ("URI", exact("spiffe://td/ns/a/sa/b")),
            ("IP_ADDRESS", exact("10.0.0.1"))
        ]
    );
    assert_eq!(http("{tls: {mode: DISABLE}}").transport_socket, None);
}

#[test]
fn tls_verifies_unless_told_not_to() {
    assert_eq!(
        validation(&http("{tls: {mode: SIMPLE, insecureSkipVerify: true}}")),
        None
    );
    let upstream = |policy: &str| {
        options(&http(policy))
            .unwrap()
            .upstream_http_protocol_options
            .map(|it| (it.auto_sni, it.auto_san_validation))
    };
    assert_eq!(
        upstream("{tls: {mode: SIMPLE}}"),
        Some((true, true)),
        "the host of the request"
    );
    assert_eq!(
        upstream("{tls: {mode: SIMPLE, subjectAltNames: [a]}}"),
        Some((true, false))
    );
    assert_eq!(
        upstream("{tls: {mode: SIMPLE, insecureSkipVerify: true}}"),
        Some((true, false))
    );
    assert_eq!(upstream("{tls: {mode: SIMPLE, sni: a.io}}"), None);
}

#[test]
fn tls_mutual_brings_its_certificate() {
    let mutual = "{tls: {mode: MUTUAL, clientCertificate: /c.pem, privateKey: /k.pem, caCertificates: /ca.pem}}";
    let cluster = build(mutual, Protocol::Http2, Discovery::Eds);
    let common = tls_context(&cluster).common_tls_context.unwrap();
    let policy: TrafficPolicy = serde_saphyr::from_str(mutual).unwrap();
    let files = tls::files(
        policy.tls.as_ref().unwrap(),
        &cluster.name,
        DEFAULTS.system_ca,
    );
    let names: Vec<&str> = files.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "file-cert:/c.pem~/k.pem@outbound|80||a.io",
            "file-root:/ca.pem@outbound|80||a.io"
        ]
    );
    assert_eq!(common.tls_certificate_sds_secret_configs[0].name, names[0]);
    assert_eq!(authorities_of(mutual), names[1]);
    assert_eq!(common.alpn_protocols, ["h2"]);
    assert_eq!(
        tls_context(&http(mutual))
            .common_tls_context
            .unwrap()
            .alpn_protocols
            .len(),
        0
    );
}

#[test]
fn probes_become_health_checks() {
    use pb::health_check::HealthChecker::{GrpcHealthCheck, HttpHealthCheck, TcpHealthCheck};
    let check = |yaml: &str, protocol, tls| {
        let probe: model::spec::ReadinessProbe = serde_saphyr::from_str(yaml).unwrap();
        health::health_check(&probe, protocol, tls, "a.io")
    };
    let http = check(
        "{httpGet: {path: /ready, port: 8080, httpHeaders: [{name: Host, value: b.io}, {name: x, value: z}]}, \
          periodSeconds: 2, timeoutSeconds: 3, successThreshold: 4, failureThreshold: 5}",
        Protocol::Http1,
        false,
    )
    .unwrap();
    assert_eq!(
        (
            http.interval.unwrap().seconds,
            http.timeout.unwrap().seconds
        ),
        (2, 3)
    );
    assert_eq!(http.no_traffic_interval, http.interval);
    assert_eq!(
        (
            http.healthy_threshold.unwrap().value,
            http.unhealthy_threshold.unwrap().value
        ),
        (4, 5)
    );
    let Some(HttpHealthCheck(http)) = http.health_checker else {
        panic!("HTTP")
    };
    assert_eq!(
        (
            http.path.as_str(),
            http.host.as_str(),
            http.request_headers_to_add.len()
        ),
        ("/ready", "b.io", 1)
    );

    let tcp = check("{tcpSocket: {port: 8080}}", Protocol::Tcp, false).unwrap();
    assert_eq!(
        (
            tcp.interval.unwrap().seconds,
            tcp.unhealthy_threshold.unwrap().value
        ),
        (10, 3)
    );
    assert!(matches!(tcp.health_checker, Some(TcpHealthCheck(_))));
    let grpc = check("{grpc: {port: 8080, service: s}}", Protocol::Http2, false).unwrap();
    assert!(matches!(grpc.health_checker, Some(GrpcHealthCheck(_))));

    use health::Unsupported::{Exec, GrpcOverHttp1, HttpsOverPlaintext};
    assert_eq!(
        check("{grpc: {port: 8080}}", Protocol::Http1, false),
        Err(GrpcOverHttp1)
    );
    assert_eq!(
        check("{exec: {command: [x]}}", Protocol::Http1, false),
        Err(Exec)
    );
    let https = "{httpGet: {port: 1, scheme: HTTPS}}";
    assert_eq!(
        check(https, Protocol::Http1, false),
        Err(HttpsOverPlaintext)
    );
    assert!(check(https, Protocol::Http1, true).is_ok());
}
