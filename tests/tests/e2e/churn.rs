//! Two hundred random changes under constant load: clusters appear, vanish and change weight, and no request fails.
//!
//! The second test runs the same changes against a pusher that removes clusters at once; it must lose requests, or the
//! first one proves nothing.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use weft_tests::backend::Backend;
use weft_tests::load::Load;
use weft_tests::mesh::Options;

use crate::edge::{Edge, every_kind, routes, rule, selecting_service, service, workload};

const CHANGES: usize = 200;
const VERSIONS: [&str; 4] = ["v1", "v2", "v3", "v4"];

/// What the policy says at the moment.
struct Policy {
    random: StdRng,
    /// Present services `extra-N`.
    extras: BTreeSet<u8>,
    /// Present subsets of `orders`.
    subsets: BTreeSet<&'static str>,
}

/// One change.
enum Change {
    Apply(String),
    Delete { extra: u8 },
}

impl Policy {
    fn new(seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            extras: BTreeSet::new(),
            subsets: BTreeSet::from(["v1"]),
        }
    }

    /// The next one or two changes; together they keep every route pointing at something that exists.
    fn next(&mut self, edge: &Edge) -> Vec<Change> {
        let absent: Vec<u8> = (0..6).filter(|n| !self.extras.contains(n)).collect();
        let present: Vec<u8> = self.extras.iter().copied().collect();
        match self.random.random_range(0..5) {
            // A service and the routes to it, in one revision.
            0 if !absent.is_empty() => {
                let n = *absent.choose(&mut self.random).unwrap();
                self.extras.insert(n);
                let entry = service(&format!("extra-{n}"), &[edge.mesh.net.at(20 + n, 9000)]);
                vec![Change::Apply([entry, self.routes()].join("---\n"))]
            }
            // The routes let go of a service, and at once it is deleted.
            1 if !present.is_empty() => {
                let n = *present.choose(&mut self.random).unwrap();
                self.extras.remove(&n);
                vec![Change::Apply(self.routes()), Change::Delete { extra: n }]
            }
            // Subsets come and go with the routes to them, in one revision.
            2 | 3 => {
                self.subsets = VERSIONS
                    .into_iter()
                    .filter(|_| self.random.random_bool(0.5))
                    .collect();
                if self.subsets.is_empty() {
                    self.subsets.insert("v2");
                }
                let subsets: Vec<&str> = self.subsets.iter().copied().collect();
                vec![Change::Apply(
                    [rule("orders", &subsets, ""), self.routes()].join("---\n"),
                )]
            }
            _ => vec![Change::Apply(self.routes())],
        }
    }

    /// Random weights over everything present.
    fn routes(&mut self) -> String {
        let subsets = self
            .subsets
            .iter()
            .map(|s| format!("host: orders, subset: {s}"));
        let targets: Vec<String> = subsets
            .chain(self.extras.iter().map(|n| format!("host: extra-{n}")))
            .collect();
        let mut list = "- route:".to_owned();
        let mut left = 100;
        for (i, target) in targets.iter().enumerate() {
            let weight = if i + 1 == targets.len() {
                left
            } else {
                self.random.random_range(0..=left)
            };
            left -= weight;
            write!(
                list,
                "\n  - {{ destination: {{ {target} }}, weight: {weight} }}"
            )
            .unwrap();
        }
        routes("churn", &list)
    }
}

/// Makes the changes under load; the reports by gateway.
async fn churn(edge: &Edge, seed: u64) -> Vec<(String, weft_tests::load::Report)> {
    let net = &edge.mesh.net;
    let mut backends: Vec<Backend> = Vec::new();
    let mut documents = vec![selecting_service("orders"), rule("orders", &["v1"], "")];
    for (version, n) in VERSIONS.into_iter().zip(2..) {
        backends.push(edge.backend(n, "orders", version).await.unwrap());
        documents.push(workload(
            "shop",
            &format!("orders-{version}"),
            net.at(n, 9000),
            &[("app", "orders"), ("version", version)],
        ));
    }
    for n in 0..6 {
        backends.push(edge.backend(20 + n, "extra", &n.to_string()).await.unwrap());
    }
    documents.push(routes(
        "churn",
        "- route: [{ destination: { host: orders, subset: v1 } }]",
    ));
    edge.mesh.apply(&documents.join("---\n")).await.unwrap();
    edge.all_answer("/", |answer| answer.status == 200)
        .await
        .unwrap();

    let loads = edge.load(|load| Load {
        per_second: 150,
        connections: 3,
        ..load
    });
    let mut policy = Policy::new(seed);
    let mut made = 0;
    while made < CHANGES {
        for change in policy.next(edge) {
            match change {
                Change::Apply(documents) => drop(edge.mesh.apply(&documents).await.unwrap()),
                Change::Delete { extra } => {
                    let path = format!(
                        "/apis/networking.istio.io/v1/namespaces/shop/serviceentries/extra-{extra}"
                    );
                    edge.mesh
                        .call(reqwest::Method::DELETE, &path, None)
                        .await
                        .unwrap()
                        .ok()
                        .unwrap();
                }
            }
            made += 1;
            // Some changes follow each other at once, some when the last one has arrived.
            let pause = Duration::from_millis(policy.random.random_range(0..60));
            tokio::time::sleep(pause).await;
        }
    }
    // The last change arrives under load too.
    edge.mesh
        .apply(&routes(
            "churn",
            "- directResponse: { status: 200, body: { string: done } }",
        ))
        .await
        .unwrap();
    edge.all_answer("/", |answer| answer.body == "done")
        .await
        .unwrap();
    loads.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_changes_lose_no_request() {
    let edge = Edge::start("churn").await.unwrap();
    for (name, report) in churn(&edge, 1).await {
        let report = report
            .flawless()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(report.answers.len() > 5, "{name}: {:?}", report.answers);
    }
    for gateway in &edge.gateways {
        let rejected = gateway.envoy.stats("update_rejected$").await.unwrap();
        assert!(
            rejected.values().all(|count| *count == 0),
            "{}: {rejected:?}",
            gateway.name
        );
    }
    edge.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_late_removal_the_same_changes_lose_requests() {
    let early = Options {
        pusher: &["--unsafe-remove-early"],
        ..Options::default()
    };
    let edge = Edge::start_with("early", &every_kind(), early)
        .await
        .unwrap();
    let mut lossy = BTreeSet::new();
    // A request has to meet the moment between a removal and the new routes: on a busy machine few are made.
    for _ in 0..5 {
        for (name, report) in churn(&edge, 1).await {
            if !report.failures.is_empty() {
                lossy.insert(if name.contains("sotw") {
                    "sotw"
                } else {
                    "delta"
                });
            }
        }
        if lossy.len() == 2 {
            return;
        }
    }
    panic!(
        "requests were lost by {lossy:?} alone, so the changes above prove nothing about late removal"
    );
}
