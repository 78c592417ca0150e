//! The xDS library alone, without policy or etcd: random snapshots into real Envoys under load.
//!
//! What the churn of policy shows of the whole, this shows of the protocol: order, late removal, endpoints re-sent.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tonic::transport::Channel;
use weft_tests::backend::{Backend, Settings};
use weft_tests::envoy::{Envoy, socket_address};
use weft_tests::load::{Load, Report};
use weft_tests::mesh::Variant;
use weft_tests::net::Block;
use weft_tests::run::Run;
use weft_tests::xds_client::{Client, Reaction, Settings as ClientSettings, State, Type};
use weft_tests::{envoy, http, wait};
use xds::{Resource, ResourceType, Server, Snapshot, SnapshotCache};

use crate::edge::every_kind;

const CLUSTERS: u8 = 8;

fn bootstrap(node: &str, net: &Block, variant: Variant) -> Value {
    let ads = json!({ "ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s" });
    let endpoint = json!({ "endpoint": { "address": socket_address(net.at(1, 18000)) } });
    json!({
        "node": { "id": node, "cluster": "test" },
        "admin": {},
        "dynamic_resources": {
            "ads_config": {
                "api_type": variant.api_type(), "transport_api_version": "V3", "set_node_on_first_message_only": true,
                "grpc_services": [{ "envoy_grpc": { "cluster_name": "weft-xds" } }]
            },
            "cds_config": ads, "lds_config": ads
        },
        "static_resources": { "clusters": [{
            "name": "weft-xds", "type": "STATIC", "connect_timeout": "1s",
            "load_assignment": { "cluster_name": "weft-xds", "endpoints": [{ "lb_endpoints": [endpoint] }] },
            "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http2_protocol_options": {} }
            } }
        }] }
    })
}

fn resource(ty: ResourceType, json: &Value) -> Resource {
    Resource::from_json(ty, json).unwrap()
}

/// A listener on this address whose routes are weighted over these clusters, each with one endpoint.
fn snapshot(revision: i64, net: &Block, listen: u8, clusters: &[(u8, u32)]) -> Snapshot {
    let ads = json!({ "ads": {}, "resource_api_version": "V3" });
    let mut resources = Vec::new();
    for (n, _) in clusters {
        let name = format!("c{n}");
        resources.push(resource(ResourceType::Cluster, &json!({
            "name": name, "type": "EDS", "connect_timeout": "1s",
            "eds_cluster_config": { "eds_config": { "ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "5s" } }
        })));
        let endpoint = json!({ "endpoint": { "address": socket_address(net.at(20 + n, 9000)) } });
        resources.push(resource(
            ResourceType::Endpoint,
            &json!({
                "cluster_name": name, "endpoints": [{ "lb_endpoints": [endpoint] }]
            }),
        ));
    }
    let weighted: Vec<Value> = clusters
        .iter()
        .map(|(n, weight)| json!({ "name": format!("c{n}"), "weight": weight }))
        .collect();
    resources.push(resource(ResourceType::Route, &json!({
        "name": "routes",
        "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [
            { "match": { "prefix": "/" }, "route": { "weighted_clusters": { "clusters": weighted } } }
        ] }]
    })));
    resources.push(resource(ResourceType::Listener, &json!({
        "name": "in", "address": socket_address(net.at(listen, 8000)),
        "filter_chains": [{ "filters": [{ "name": "http", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "in",
            "rds": { "route_config_name": "routes", "config_source": ads },
            "http_filters": [{ "name": "router", "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } }]
        } }] }]
    })));
    Snapshot::of(revision, resources)
}

/// Two hundred random snapshots under load; the reports by Envoy.
async fn churn(name: &str, late_removal: bool) -> Vec<(String, Report)> {
    let (net, run) = (Block::claim().unwrap(), Run::temporary(name).unwrap());
    let cache = Arc::new(SnapshotCache::by_id());
    let server =
        Server::new(Arc::clone(&cache)).options(|options| options.late_removal = late_removal);
    let serving = xds::keepalive(tonic::transport::Server::builder()).add_routes(server.routes());
    tokio::spawn(serving.serve(net.at(1, 18000)));
    let mut backends = Vec::new();
    for n in 0..CLUSTERS {
        let settings = Settings {
            service: "c".into(),
            version: n.to_string(),
            ..Settings::default()
        };
        backends.push(
            Backend::start(net.at(20 + n, 9000), settings)
                .await
                .unwrap(),
        );
    }
    let mut envoys = Vec::new();
    for ((variant, version), n) in every_kind().into_iter().zip(10..) {
        let node = format!("{variant:?}-{}", version.number());
        cache.set(&node, snapshot(1, &net, n, &[(0, 1)]));
        let envoy = Envoy::start(
            &run,
            &node,
            version,
            bootstrap(&node, &net, variant),
            net.at(n, 9901),
        )
        .await
        .unwrap();
        envoys.push((node, n, envoy));
    }
    let mut loads = Vec::new();
    for (node, n, envoy) in &envoys {
        envoy.ready().await.unwrap();
        let answers = wait::until("an answer", envoy::PATIENCE, async || {
            http::get(format!("http://{}/", net.at(*n, 8000)))
                .await?
                .ok()
        });
        answers.await.unwrap();
        let load = Load {
            per_second: 150,
            connections: 3,
            ..Load::new(net.at(*n, 8000), "any", "/")
        };
        loads.push((node.clone(), load.start()));
    }
    let mut random = StdRng::seed_from_u64(7);
    for revision in 2..202 {
        let present: Vec<u8> = (0..CLUSTERS).filter(|_| random.random_bool(0.5)).collect();
        let mut clusters: Vec<(u8, u32)> = present
            .into_iter()
            .map(|n| (n, random.random_range(1..100)))
            .collect();
        if clusters.is_empty() {
            clusters.push((0, 1));
        }
        for (node, n, _) in &envoys {
            cache.set(node, snapshot(revision, &net, *n, &clusters));
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..60))).await;
    }
    // The last snapshot arrives, and what it left out goes.
    for (node, n, envoy) in &envoys {
        cache.set(node, snapshot(1000, &net, *n, &[(0, 1)]));
        wait::until("the last snapshot", envoy::PATIENCE, async || {
            let dump = envoy.ask("/clusters").await?.body;
            if dump.contains("c0::") && !(1..CLUSTERS).any(|n| dump.contains(&format!("\nc{n}::")))
            {
                Ok(())
            } else {
                anyhow::bail!("{dump}")
            }
        })
        .await
        .unwrap();
    }
    let mut reports = Vec::new();
    for (node, load) in loads {
        reports.push((node, load.stop().await));
    }
    for (node, _, envoy) in &envoys {
        envoy.process.stop().await;
        assert_eq!(envoy.complaints(), Vec::<String>::new(), "{node}");
    }
    reports
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_simulated_clients_follow_and_count() {
    let net = Block::claim().unwrap();
    let cache = Arc::new(SnapshotCache::by(|_| String::new()));
    let server = Server::new(Arc::clone(&cache));
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_routes(server.routes())
            .serve(net.at(1, 18000)),
    );
    cache.set("", snapshot(1, &net, 10, &[(0, 1)]));
    let mut clients = Vec::new();
    for n in 0..20 {
        let endpoint = Channel::from_shared(format!("http://{}", net.at(1, 18000))).unwrap();
        let channel = wait::until("the server", envoy::PATIENCE, async || {
            endpoint.connect().await
        })
        .await
        .unwrap();
        for m in 0..50 {
            let variant = Variant::ALL[n % 2];
            let reaction = if m == 0 {
                Reaction::Nack(Type::Route)
            } else {
                Reaction::Ack
            };
            let settings = ClientSettings {
                node: format!("{n}-{m}"),
                variant,
                reaction,
            };
            clients.push((
                m == 0,
                Client::open(channel.clone(), settings).await.unwrap(),
            ));
        }
    }
    for (refuses, client) in &clients {
        let all = |s: &State| {
            Type::ALL
                .iter()
                .all(|ty| s.holds(*ty) == usize::from(!refuses || *ty != Type::Route))
        };
        client
            .until("all four types", envoy::PATIENCE, all)
            .await
            .unwrap();
    }
    assert_eq!(server.streams().len(), 1000);
    wait::until("the refusals to be known", envoy::PATIENCE, async || {
        let streams = server.streams().list();
        let refused = |s: &xds::StreamStatus| s.types.values().any(|ty| !ty.refused.is_empty());
        match streams.iter().filter(|s| refused(s)).count() {
            20 => Ok(()),
            other => Err(format!("{other} of {} streams refused", streams.len())),
        }
    })
    .await
    .unwrap();
    cache.set("", snapshot(2, &net, 10, &[(1, 1)]));
    for (refuses, client) in &clients {
        // A client that refuses the new routes keeps the old cluster: that is what late removal is.
        let clusters: &[&str] = if *refuses { &["c0", "c1"] } else { &["c1"] };
        let what = format!("the clusters to be {clusters:?}");
        let names = |s: &State| {
            s.held
                .get(&Type::Cluster)
                .is_some_and(|held| held.iter().eq(clusters))
        };
        client.until(&what, envoy::PATIENCE, names).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_snapshots_lose_no_request() {
    for (node, report) in churn("library", true).await {
        report
            .flawless()
            .unwrap_or_else(|error| panic!("{node}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_late_removal_random_snapshots_lose_requests() {
    let reports = churn("library-early", false).await;
    let failed: usize = reports
        .iter()
        .map(|(_, report)| report.failures.len())
        .sum();
    assert!(
        failed > 0,
        "nothing was lost, so the other test proves nothing about late removal"
    );
}
