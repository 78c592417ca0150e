//! Rich policies, asked of real Envoys.
#![allow(clippy::unwrap_used)]

mod grammars;

use std::collections::BTreeMap;

use model::spec::{Destination, HttpRoute, ReadinessProbe, TcpRoute, TlsRoute, TrafficPolicy};

use super::cluster::tests::DEFAULTS;
use super::cluster::{Caller, Discovery, Input, Protocol, health};
use super::endpoint::{Address, Endpoint};
use super::locality::Place;
use super::policy::Upstream;
use super::validate::{Config, assert_valid};
use super::{cluster, names, pb, policy, route, tcp};

const HTTP: &str = r"
- name: everything
  match:
  - uri: {prefix: /a}
    method: {exact: GET}
    authority: {prefix: reviews}
    scheme: {exact: http}
    headers: {x-tester: {exact: 'yes'}, x-any: {}, x-re: {regex: 'v[0-9]+'}}
    withoutHeaders: {x-no: {prefix: p}, x-none: {}}
    queryParams: {debug: {exact: '1'}, trace: {}}
    ignoreUriCase: true
    statPrefix: everything
  route:
  - {destination: {host: a, subset: v1}, weight: 90, headers: {request: {set: {host: a.io, x: y}}, response: {remove: [server]}}}
  - {destination: {host: b}, weight: 10}
  rewrite: {uri: /b, authority: b.io}
  timeout: 5s
  retries: {attempts: 3, perTryTimeout: 2s, retryOn: '5xx,409', retryRemoteLocalities: true, backoff: 25ms}
  headers: {request: {set: {a: b}, add: {a: c}, remove: [d]}, response: {add: {e: f}}}
  fault: {delay: {fixedDelay: 1s, percentage: {value: 0.1}}, abort: {grpcStatus: UNAVAILABLE, percentage: {value: 50}}}
  corsPolicy:
    allowOrigins: [{exact: 'https://a.io'}, {prefix: 'https://b'}, {regex: 'https://c.*'}]
    allowMethods: [GET, POST]
    allowHeaders: [x]
    exposeHeaders: [z]
    maxAge: 24h
    allowCredentials: true
    unmatchedPreflights: IGNORE
  mirrors: [{destination: {host: m}, percentage: {value: 12.5}}]
- match: [{uri: {regex: '/r/.*'}}]
  redirect: {uri: /x, authority: a.io, scheme: https, derivePort: FROM_REQUEST_PORT, redirectCode: 308}
- match: [{uri: {prefix: /old}}]
  redirect: {uri: '%PREFIX()%/new'}
- match: [{uri: {exact: /gone}}]
  directResponse: {status: 404, body: {string: Not Found}}
- match: [{uri: {prefix: /regex}}]
  rewrite: {uriRegexRewrite: {match: '^/regex/(.*)$', rewrite: '/\1'}}
  retries: {attempts: 0}
  route: [{destination: {host: a}}]
- route: [{destination: {host: a}}]
";

const POLICIES: [&str; 9] = [
    "{}",
    "{loadBalancer: {simple: ROUND_ROBIN, warmupDurationSecs: 30s}}",
    "{loadBalancer: {simple: LEAST_REQUEST, warmup: {duration: 30s, minimumPercent: 10, aggression: 1.5}}, \
      retryBudget: {percent: 20, minRetryConcurrency: 3}}",
    "{loadBalancer: {simple: PASSTHROUGH}}",
    "{loadBalancer: {consistentHash: {httpHeaderName: x, maglev: {tableSize: 101}}}}",
    "{loadBalancer: {consistentHash: {httpCookie: {name: user, ttl: 0s}}}}",
    "{loadBalancer: {localityLbSetting: {distribute: [{from: us/*, to: {us/*: 100}}]}}, \
      connectionPool: {http: {useClientProtocol: true}}}",
    "{tls: {mode: SIMPLE}, connectionPool: {http: {h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 7}}, \
      proxyProtocol: {version: V2}}",
    "{connectionPool: {tcp: {maxConnections: 1, connectTimeout: 30ms, maxConnectionDuration: 60s, idleTimeout: 5s, \
                             tcpKeepalive: {probes: 3, time: 7200s, interval: 75s}}, \
                       http: {http1MaxPendingRequests: 2, http2MaxRequests: 3, maxRetries: 4, maxRequestsPerConnection: 5}}, \
      outlierDetection: {consecutive5xxErrors: 7, consecutiveGatewayErrors: 0, interval: 1s, baseEjectionTime: 180s, \
                         maxEjectionPercent: 100, minHealthPercent: 20, splitExternalLocalOriginErrors: true, \
                         consecutiveLocalOriginFailures: 3}, \
      tls: {mode: SIMPLE, sni: a.io, subjectAltNames: [a.io, 'spiffe://td/ns/a/sa/b'], insecureSkipVerify: false}}",
];

const PROBES: [(&str, Protocol); 3] = [
    (
        "{httpGet: {path: /ready, port: 8080, httpHeaders: [{name: a, value: b}]}}",
        Protocol::Http1,
    ),
    ("{grpc: {port: 8080, service: s}}", Protocol::Http2),
    ("{tcpSocket: {port: 8080}}", Protocol::Tcp),
];

fn virtual_hosts() -> Vec<pb::VirtualHost> {
    let rules: Vec<HttpRoute> = serde_saphyr::from_str(HTTP).unwrap();
    let gateways = ["mesh".to_owned()];
    let labels = BTreeMap::new();
    let hashed: TrafficPolicy = serde_saphyr::from_str(POLICIES[5]).unwrap();
    let hash = policy::consistent_hash(&hashed).cloned();
    let scope = route::Scope {
        name: "reviews",
        namespace: "shop",
        port: 80,
        tls: false,
        gateways: &gateways,
        proxy_labels: &labels,
        proxy_namespace: "shop",
        default_retry: None,
        resolve: &|destination| Upstream {
            host: destination.host.to_string(),
            ports: vec![80],
            hash: hash.clone(),
        },
    };
    let routes = route::routes(&rules, &scope);
    assert_eq!(routes.len(), 6);
    let domains = [
        "reviews",
        "*.wikipedia.org",
        "*.wikipedia.org:80",
        "[fd00::1]:80",
    ];
    let default = route::default_route("outbound|80||b.io", hash.as_ref(), None);
    vec![
        route::virtual_host("reviews", 80, domains.map(str::to_owned).into(), routes),
        route::virtual_host("b.io", 80, vec!["b.io".into()], vec![default]),
        route::virtual_host(
            "in",
            80,
            vec!["in".into()],
            vec![route::inbound_route(&names::inbound(80), "in".into())],
        ),
        route::allow_any("PassthroughCluster"),
    ]
}

fn clusters() -> Vec<pb::Cluster> {
    let policies = POLICIES.map(|it| serde_saphyr::from_str::<TrafficPolicy>(it).unwrap());
    let place = Place::new("us/a/1");
    let labels = BTreeMap::new();
    let endpoint = Endpoint {
        address: Address::new("localhost", 443),
        place: place.clone(),
        health_check_port: Some(8080),
        workload: "shop/a".into(),
        ..Default::default()
    };
    let endpoints = [endpoint];
    let of = |discovery| match discovery {
        0 => Discovery::Eds,
        1 => Discovery::StrictDns(&endpoints),
        2 => Discovery::LogicalDns(&endpoints),
        _ => Discovery::OriginalDst,
    };
    let local = Endpoint {
        address: Address::new("127.0.0.1", 80),
        ..Default::default()
    };
    let mut clusters = vec![
        cluster::passthrough("PassthroughCluster", DEFAULTS),
        cluster::black_hole("BlackHoleCluster", DEFAULTS),
        cluster::inbound(
            &names::inbound(80),
            Protocol::Http1,
            &local,
            &policies[8],
            DEFAULTS,
        ),
    ];
    for (at, policy) in policies.iter().enumerate() {
        for discovery in 0..4 {
            for (probe, protocol) in PROBES {
                let probe: ReadinessProbe = serde_saphyr::from_str(probe).unwrap();
                // Only real endpoints are asked for their health.
                let check = health::health_check(&probe, protocol, false, "a.io");
                clusters.push(cluster::outbound(&Input {
                    name: &format!("outbound|80|{at}-{discovery}-{protocol:?}|a.io"),
                    discovery: of(discovery),
                    protocol,
                    policy,
                    subject_alt_names: &[],
                    peers: None,
                    uploaded: None,
                    health_check: (discovery < 3 && at != 3 && at != 6).then(|| check.unwrap()),
                    rule: Some(("shop", "a")),
                    defaults: DEFAULTS,
                    caller: Caller {
                        place: &place,
                        labels: &labels,
                    },
                }));
            }
        }
    }
    clusters
}

fn tcp_proxies() -> Vec<pb::tcp_proxy::TcpProxy> {
    let gateways = ["mesh".to_owned()];
    let labels = BTreeMap::new();
    let connections = tcp::Connections {
        idle_timeout: Some(std::time::Duration::from_secs(7)),
        max_duration: Some(std::time::Duration::from_secs(70)),
        hash_source_ip: true,
        access_log: Vec::new(),
    };
    let scope = tcp::Scope {
        name: "db",
        namespace: "shop",
        port: 3306,
        gateways: &gateways,
        proxy_labels: &labels,
        proxy_namespace: "shop",
        resolve: &|to: &Destination| {
            (
                Upstream {
                    host: to.host.to_string(),
                    ..Default::default()
                },
                connections.clone(),
            )
        },
    };
    let weighted =
        "[{route: [{destination: {host: a}, weight: 20}, {destination: {host: b}, weight: 80}]}]";
    let tcp: Vec<TcpRoute> = serde_saphyr::from_str(weighted).unwrap();
    let by_name = "[{match: [{sniHosts: [a.io]}], route: [{destination: {host: a}}]}]";
    let tls: Vec<TlsRoute> = serde_saphyr::from_str(by_name).unwrap();
    let chains = tcp::tcp_chains(&tcp, &scope)
        .into_iter()
        .chain(tcp::tls_chains(&tls, &scope));
    chains.map(|chain| chain.proxy).collect()
}

#[test]
fn envoy_takes_everything_that_is_made_here_without_a_warning() {
    assert_valid(
        "translate",
        Config {
            clusters: clusters(),
            virtual_hosts: virtual_hosts(),
            tcp_proxies: tcp_proxies(),
            ..Default::default()
        },
    );
}

#[test]
#[allow(deprecated)]
fn a_deprecated_field_would_be_noticed() {
    let clusters = vec![pb::Cluster {
        track_timeout_budgets: true,
        ..clusters().remove(1)
    }];
    let config = Config {
        clusters,
        ..Default::default()
    };
    let refused = std::panic::catch_unwind(|| assert_valid("deprecated", config));
    assert!(refused.is_err());
}
