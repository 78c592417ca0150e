//! What one change costs among many services: counted, not timed.

use std::time::Duration;

use tonic::transport::Channel;
use weft_tests::http;
use weft_tests::mesh::{Mesh, Variant};
use weft_tests::wait;
use weft_tests::xds_client::{Client, Reaction, Settings, State, Type};

use crate::edge::service;

const SERVICES: usize = 10_000;
/// Documents in one transaction: etcd allows 128 comparisons, of which the change record and new hosts take one each.
const BATCH: usize = 100;
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_endpoint_among_ten_thousand_services_is_one_resource() {
    let mesh = Mesh::start("scale").await.unwrap();
    let names: Vec<String> = (0..SERVICES).map(|n| format!("s{n}")).collect();
    for batch in names.chunks(BATCH) {
        let documents: Vec<String> = batch
            .iter()
            .map(|name| service(name, &[mesh.net.at(2, 9000)]))
            .collect();
        mesh.apply(&documents.join("---\n")).await.unwrap();
    }
    let channel = Channel::from_shared(format!("http://{}", mesh.net.at(1, 18000)))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let (mut clients, mut before) = (Vec::new(), Vec::new());
    for variant in Variant::ALL {
        for n in 0..2 {
            let node = format!("sidecar~shop~{variant:?}{n}");
            // As an Envoy does: a stream that ends is opened anew.
            let open = async || {
                let settings = Settings {
                    node: node.clone(),
                    variant,
                    reaction: Reaction::Ack,
                };
                let client = Client::open(channel.clone(), settings).await?;
                let all =
                    |s: &State| s.holds(Type::Endpoint) >= SERVICES && s.holds(Type::Route) > 0;
                let state = client
                    .until("every service's endpoints", PATIENCE, all)
                    .await?;
                Ok::<_, anyhow::Error>((client, state))
            };
            let (client, state) = wait::until("a stream with everything", PATIENCE, open)
                .await
                .unwrap();
            clients.push((variant, client));
            before.push(state);
        }
    }
    let compiled = recompiled(&mesh).await;
    mesh.apply(&service("s4321", &[mesh.net.at(3, 9000)]))
        .await
        .unwrap();
    for ((variant, client), before) in clients.iter().zip(before) {
        let eds = before.tally(Type::Endpoint);
        let after = client.until("the change", PATIENCE, |s| {
            s.tally(Type::Endpoint).responses > eds.responses
        });
        let after = after.await.unwrap();
        assert_eq!(
            after.tally(Type::Endpoint).resources,
            eds.resources + 1,
            "{variant:?}"
        );
        for other in [Type::Cluster, Type::Listener, Type::Route] {
            assert_eq!(
                after.tally(other),
                before.tally(other),
                "{variant:?} {other:?}"
            );
        }
    }
    assert_eq!(recompiled(&mesh).await - compiled, 1, "units recompiled");
}

/// How many units of policy the pusher has compiled again since its start.
async fn recompiled(mesh: &Mesh) -> u64 {
    let metrics = http::get(format!("http://{}/metrics", mesh.net.at(1, 18001)))
        .await
        .unwrap()
        .ok()
        .unwrap()
        .body;
    let counters = metrics
        .lines()
        .filter(|line| line.starts_with("weft_units_recompiled_total"));
    counters
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64)
        .sum()
}
