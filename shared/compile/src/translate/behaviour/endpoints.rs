//! Which endpoints of a cluster get requests.

#![allow(clippy::unwrap_used)]

use model::spec::ReadinessProbe;

use super::*;
use crate::translate::cluster::health::health_check;
use crate::translate::endpoint::load_assignment;

const TO_C: &str = "[{route: [{destination: {host: c}}]}]";

fn at(place: &str, endpoint: Endpoint) -> Endpoint {
    Endpoint {
        place: Place::new(place),
        ..endpoint
    }
}

/// The cluster `c` for a proxy in `us/a`.
fn input<'a>(
    policy: &'a TrafficPolicy,
    discovery: Discovery<'a>,
    place: &'a Place,
    labels: &'a BTreeMap<String, String>,
) -> Input<'a> {
    Input {
        name: "outbound|80||c",
        discovery,
        protocol: Protocol::Http1,
        policy,
        subject_alt_names: &[],
        peers: None,
        uploaded: None,
        health_check: None,
        rule: None,
        defaults: DEFAULTS,
        caller: Caller { place, labels },
    }
}

fn backend_of(answer: &str) -> Option<&str> {
    answer.split("backend ").nth(1)?.lines().next()
}

/// Sends until an answer is as wanted; the conditions waited for are Envoy's own timers.
fn until(proxy: &Proxy, wanted: impl Fn(&str) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let mut answer = proxy.get("/", &[]);
    while !wanted(&answer) {
        assert!(Instant::now() < deadline, "{answer}");
        answer = proxy.get("/", &[]);
    }
}

#[test]
fn an_endpoint_that_fails_its_check_gets_no_request() {
    let (good, bad) = (Backend::start("good"), Backend::start("bad"));
    let endpoints = [
        Endpoint {
            health_check_port: Some(good.port),
            ..good.endpoint()
        },
        // It serves, but nobody listens where its health is asked.
        Endpoint {
            health_check_port: Some(1),
            ..bad.endpoint()
        },
    ];
    let probe = "{httpGet: {path: /ready, port: 1}, periodSeconds: 1, timeoutSeconds: 60, failureThreshold: 1}";
    let probe: ReadinessProbe = serde_saphyr::from_str(probe).unwrap();
    let check = health_check(&probe, Protocol::Http1, false, "c.io").unwrap();
    let (policy, place, labels) = Default::default();
    let cluster = cluster::outbound(&Input {
        health_check: Some(check),
        ..input(&policy, Discovery::Static(&endpoints), &place, &labels)
    });
    on_every_envoy(&[cluster], &[shop(TO_C)], |proxy| {
        until(proxy, |answer| backend_of(answer) == Some("good"));
        for _ in 0..20 {
            assert_eq!(backend_of(&proxy.get("/", &[])), Some("good"));
        }
        let asked = good.requests.lock().unwrap();
        let asked = asked
            .iter()
            .find(|it| it.starts_with("GET /ready"))
            .unwrap();
        assert!(asked.to_ascii_lowercase().contains("host: c.io"), "{asked}");
    });
}

#[test]
fn a_locality_takes_over_when_the_nearer_one_is_ejected() {
    let (near, far) = (Backend::start("near"), Backend::start("far"));
    let endpoints = [at("us/a", near.endpoint()), at("eu/a", far.endpoint())];
    let policy = "{outlierDetection: {consecutive5xxErrors: 1, interval: 100ms, baseEjectionTime: 60s, maxEjectionPercent: 100}}";
    let policy: TrafficPolicy = serde_saphyr::from_str(policy).unwrap();
    let (place, labels) = (Place::new("us/a"), BTreeMap::new());
    for envoy in validate::envoys() {
        let cluster = cluster::outbound(&input(
            &policy,
            Discovery::Static(&endpoints),
            &place,
            &labels,
        ));
        let config = validate::Config {
            clusters: vec![cluster],
            virtual_hosts: vec![shop(TO_C)],
            ..Default::default()
        };
        let proxy = Proxy::start(&envoy, config);
        for _ in 0..10 {
            assert_eq!(backend_of(&proxy.get("/", &[])), Some("near"));
        }
        // Every other one of these fails.
        proxy.get("/flaky", &[]);
        proxy.get("/flaky", &[]);
        until(&proxy, |answer| backend_of(answer) == Some("far"));
    }
}

#[test]
fn distribute_sends_shares_to_localities() {
    let (near, far, other) = (
        Backend::start("near"),
        Backend::start("far"),
        Backend::start("other"),
    );
    let endpoints = [
        at("us/a", near.endpoint()),
        at("us/b", far.endpoint()),
        at("eu/a", other.endpoint()),
    ];
    let policy = "{loadBalancer: {localityLbSetting: {distribute: [{from: us/*, to: {us/a: 80, us/b: 20}}]}}}";
    let policy: TrafficPolicy = serde_saphyr::from_str(policy).unwrap();
    let (place, labels) = (Place::new("us/a"), BTreeMap::new());
    let cluster = cluster::outbound(&input(
        &policy,
        Discovery::Static(&endpoints),
        &place,
        &labels,
    ));
    on_every_envoy(&[cluster], &[shop(TO_C)], |proxy| {
        let seen: Vec<String> = (0..200).map(|_| proxy.get("/", &[])).collect();
        let count = |name| {
            seen.iter()
                .filter(|it| backend_of(it) == Some(name))
                .count()
        };
        // Envoy schedules localities by weight, not by chance.
        assert!(
            (150..=170).contains(&count("near")),
            "80 % of 200: {}",
            count("near")
        );
        assert_eq!((count("near") + count("far"), count("other")), (200, 0));
    });
}

#[test]
fn names_are_resolved_and_an_empty_assignment_serves_nobody() {
    let v1 = Backend::start("v1");
    let endpoints = [Endpoint {
        address: Address::new("localhost", v1.port),
        ..Default::default()
    }];
    let (policy, place, labels) = Default::default();
    for discovery in [
        Discovery::StrictDns(&endpoints),
        Discovery::LogicalDns(&endpoints),
    ] {
        let cluster = cluster::outbound(&input(&policy, discovery, &place, &labels));
        on_every_envoy(&[cluster], &[shop(TO_C)], |proxy| {
            assert_eq!(backend_of(&proxy.get("/", &[])), Some("v1"));
        });
    }
    let input = input(&policy, Discovery::Static(&[]), &place, &labels);
    assert_eq!(load_assignment("c", &[], &input.balance()).endpoints, []);
    on_every_envoy(&[cluster::outbound(&input)], &[shop(TO_C)], |proxy| {
        assert!(proxy.get("/", &[]).starts_with("HTTP/1.1 503"));
    });
}
