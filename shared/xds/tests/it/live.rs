//! What Envoy itself makes of absence, refusal, and removals.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio_stream::wrappers::TcpListenerStream;
use xds::{Resource, ResourceType, Server, Snapshot, SnapshotCache, make};

use crate::envoy::{Envoy, VERSIONS, by_ads, eventually, free_port, http, until};

pub(crate) async fn serve(server: &Server) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = xds::keepalive(tonic::transport::Server::builder()).add_routes(server.routes());
    tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
    port
}

/// A backend that says its name.
pub(crate) async fn backend(name: &'static str) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = axum::Router::new().fallback(async move || name);
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

pub(crate) async fn both(run: impl AsyncFn(&str, &str)) {
    for version in VERSIONS {
        for api_type in ["GRPC", "DELTA_GRPC"] {
            run(version, api_type).await;
        }
    }
}

pub(crate) fn site(revision: i64, listener: u16, cluster: &str, port: u16) -> Snapshot {
    Snapshot::of(
        revision,
        [
            Resource::new(&make::eds_cluster(cluster)),
            Resource::new(&make::endpoints(cluster, &[("127.0.0.1", port)])),
            Resource::new(&make::routes("r", vec![make::route("/", cluster)])),
            Resource::new(&make::http_listener(
                "l",
                "127.0.0.1",
                listener,
                make::rds("r"),
            )),
        ],
    )
}

/// How many requests were made, and how many of them failed.
#[derive(Default)]
pub(crate) struct Load {
    made: AtomicU32,
    failed: AtomicU32,
}

impl Load {
    /// Requests on three connections for as long as this is awaited.
    pub(crate) async fn run(&self, port: u16) {
        let one = async || {
            let client = http();
            loop {
                let answer = client.get(format!("http://127.0.0.1:{port}/")).send().await;
                if !answer.is_ok_and(|a| a.status().is_success()) {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                }
                self.made.fetch_add(1, Ordering::Relaxed);
            }
        };
        tokio::join!(one(), one(), one());
    }

    pub(crate) fn failed(&self) -> u32 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Waits for some more requests.
    pub(crate) async fn goes_on(&self) {
        let goal = self.made.load(Ordering::Relaxed) + 10;
        eventually("requests go on", async || {
            self.made.load(Ordering::Relaxed) >= goal
        })
        .await;
    }
}

/// Moves traffic from cluster to cluster, each time removing the one before, at most so often and while no request has
/// failed; how many have.
async fn moves(version: &str, api_type: &str, late_removal: bool, at_most: i64) -> u32 {
    let port = backend("hello").await;
    let listener = free_port();
    let cache = Arc::new(SnapshotCache::by_id());
    cache.set("moves", site(1, listener, "c1", port));
    let server = Server::new(cache.clone()).options(|options| options.late_removal = late_removal);
    let envoy = Envoy::start(version, &by_ads("moves", api_type, serve(&server).await));
    until(listener, "/", 200, "hello", &envoy).await;
    let load = Load::default();
    let story = async {
        for revision in 2..2 + at_most {
            if load.failed() > 0 {
                break;
            }
            cache.set(
                "moves",
                site(revision, listener, &format!("c{revision}"), port),
            );
            eventually("every type is at the newest revision", async || {
                let streams = server.streams().of_node("moves");
                streams.iter().any(|s| {
                    let at = |ty| s.types.get(&ty).and_then(|t| t.acked) == Some(revision);
                    at(ResourceType::Cluster)
                        && at(ResourceType::Route)
                        && at(ResourceType::Listener)
                })
            })
            .await;
            load.goes_on().await;
        }
    };
    tokio::select! {
        () = load.run(listener) => unreachable!("it never ends"),
        () = story => {}
    }
    if late_removal {
        eventually("only the last cluster is left", async || {
            envoy.stat("cluster_manager.active_clusters").await == 2
        })
        .await;
        envoy.content();
    }
    load.failed()
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_no_request_is_lost_while_clusters_come_and_go() {
    both(async |version, api_type| {
        assert_eq!(
            moves(version, api_type, true, 38).await,
            0,
            "{version} {api_type}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_without_late_removal_requests_are_lost() {
    // A request has to meet the moment between the removal and the new routes; sooner or later one does.
    assert!(moves(VERSIONS[0], "DELTA_GRPC", false, 2000).await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn s18_the_last_endpoint_goes_and_returns() {
    both(async |version, api_type| {
        let (port, listener, cache) = (
            backend("hello").await,
            free_port(),
            Arc::new(SnapshotCache::by_id()),
        );
        cache.set("n", site(1, listener, "c", port));
        let envoy = Envoy::start(
            version,
            &by_ads("n", api_type, serve(&Server::new(cache.clone())).await),
        );
        until(listener, "/", 200, "hello", &envoy).await;
        let mut without = site(2, listener, "c", port);
        without.remove(ResourceType::Endpoint, "c");
        cache.set("n", without);
        until(listener, "/", 503, "no healthy upstream", &envoy).await;
        cache.set("n", site(3, listener, "c", port));
        until(listener, "/", 200, "hello", &envoy).await;
        envoy.content();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c12_an_updated_cluster_keeps_serving() {
    both(async |version, api_type| {
        let (port, listener, cache) = (
            backend("hello").await,
            free_port(),
            Arc::new(SnapshotCache::by_id()),
        );
        cache.set("n", site(1, listener, "c", port));
        let envoy = Envoy::start(
            version,
            &by_ads("n", api_type, serve(&Server::new(cache.clone())).await),
        );
        until(listener, "/", 200, "hello", &envoy).await;
        let mut changed = site(2, listener, "c", port);
        let mut cluster = make::eds_cluster("c");
        cluster.alt_stat_name = "other".into();
        // Without its endpoints it would warm for ever.
        let eds = cluster.eds_cluster_config.as_mut().unwrap();
        eds.eds_config.as_mut().unwrap().initial_fetch_timeout = Some(Default::default());
        changed.insert(Resource::new(&cluster));
        cache.set("n", changed);
        eventually("the changed cluster takes the traffic", async || {
            until(listener, "/", 200, "hello", &envoy).await;
            envoy.stat("cluster.other.upstream_rq_total").await > 0
        })
        .await;
        envoy.content();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c7_a_refused_cluster_stays_out_alone() {
    both(async |version, api_type| {
        let (port, listener, cache) = (
            backend("hello").await,
            free_port(),
            Arc::new(SnapshotCache::by_id()),
        );
        cache.set("n", site(1, listener, "c", port));
        let server = Server::new(cache.clone());
        let envoy = Envoy::start(version, &by_ads("n", api_type, serve(&server).await));
        until(listener, "/", 200, "hello", &envoy).await;
        let mut next = site(2, listener, "good", port);
        // A static cluster cannot have a name for an address.
        let mut bad = make::static_cluster("bad", &[("no address", 1)]);
        bad.alt_stat_name = "bad".into();
        next.insert(Resource::new(&bad));
        next.insert(Resource::new(&make::static_cluster(
            "also-good",
            &[("127.0.0.1", port)],
        )));
        cache.set("n", next);
        eventually("the culprit is known", async || {
            server.streams().of_node("n").iter().any(|s| {
                let clusters = &s.types[&ResourceType::Cluster];
                clusters.refused.keys().map(|k| &**k).eq(["bad"]) && clusters.acked == Some(2)
            })
        })
        .await;
        until(listener, "/", 200, "hello", &envoy).await;
        eventually("the good ones are there", async || {
            envoy.stat("cluster.also-good.membership_total").await == 1
        })
        .await;
    })
    .await;
}

/// A listener with a certificate by SDS over ADS.
fn with_secret(revision: i64, listener: u16, secrets: &[(&str, &str)]) -> Snapshot {
    let routes = make::RouteSpecifier::RouteConfig(make::routes(
        "i",
        vec![make::direct_response("/", 200, "hello")],
    ));
    let plain = make::http_listener("l", "127.0.0.1", listener, routes);
    let mut json = Resource::new(&plain).to_json();
    let tls = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
    let source =
        serde_json::json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "1s"});
    json["filterChains"][0]["transportSocket"] = serde_json::json!({"name": "tls", "typedConfig": {"@type": tls,
        "commonTlsContext": {"tlsCertificateSdsSecretConfigs": [{"name": "cert", "sdsConfig": source}]}}});
    let mut snapshot = Snapshot::of(
        revision,
        [Resource::from_json(ResourceType::Listener, &json).unwrap()],
    );
    snapshot.extend(
        secrets
            .iter()
            .map(|(chain, key)| Resource::new(&make::tls_secret("cert", chain, key))),
    );
    snapshot
}

#[tokio::test(flavor = "multi_thread")]
async fn d5_a_secret_that_goes_is_kept_and_one_that_is_late_arrives() {
    both(async |version, api_type| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let (listener, cache) = (free_port(), Arc::new(SnapshotCache::by_id()));
        cache.set("n", with_secret(1, listener, &[]));
        let server = Server::new(cache.clone());
        let envoy = Envoy::start(version, &by_ads("n", api_type, serve(&server).await));
        let nacks = || {
            server
                .streams()
                .of_node("n")
                .iter()
                .flat_map(|s| s.types.values())
                .map(|t| t.nacks)
                .sum::<u64>()
        };
        eventually("the secret is asked for", async || {
            server
                .streams()
                .of_node("n")
                .iter()
                .any(|s| s.types.contains_key(&ResourceType::Secret))
        })
        .await;
        cache.set("n", with_secret(2, listener, &[(&chain, &key)]));
        let ca = reqwest::Certificate::from_pem(chain.as_bytes()).unwrap();
        drop(http());
        let client = reqwest::Client::builder()
            .tls_certs_only([ca])
            .build()
            .unwrap();
        let url = format!("https://localhost:{listener}/");
        let serves = async || {
            client
                .get(&url)
                .send()
                .await
                .is_ok_and(|a| a.status().is_success())
        };
        eventually("the listener serves", serves).await;
        cache.set("n", with_secret(3, listener, &[]));
        eventually("the removal is looked at", async || {
            server
                .streams()
                .of_node("n")
                .iter()
                .any(|s| s.types[&ResourceType::Secret].acked == Some(3))
        })
        .await;
        assert!(serves().await);
        assert_eq!(nacks(), 0, "{version} {api_type}");
        envoy.content();
    })
    .await;
}
