//! Rule D5 for filters that come by ECDS: what real Envoys make of one that is late, that goes, and that goes while
//! they are away.

use std::sync::{Arc, Mutex};

use serde_json::json;
use tonic::Status;
use xds::session::Absent;
use xds::{Resource, ResourceType, Server, Snapshot, SnapshotCache, make};

use crate::envoy::{Envoy, VERSIONS, by_ads, eventually, free_port, get};
use crate::live::{both, serve};

const ECDS: ResourceType = ResourceType::ExtensionConfig;
/// What the filter answers in place of the route.
const FILTERED: u16 = 418;

/// A listener whose route answers 200, with or without a filter by ECDS before it.
fn listener(port: u16, filter: bool) -> Resource {
    let routes = vec![make::direct_response("/", 200, "hello")];
    let routes = make::RouteSpecifier::RouteConfig(make::routes("i", routes));
    let mut json = Resource::new(&make::http_listener("l", "127.0.0.1", port, routes)).to_json();
    if filter {
        let fault = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";
        let source = json!({"ads": {}, "resourceApiVersion": "V3", "initialFetchTimeout": "1s"});
        let filters = &mut json["filterChains"][0]["filters"][0]["typedConfig"]["httpFilters"];
        filters.as_array_mut().unwrap().insert(
            0,
            json!({"name": "f", "configDiscovery": {"configSource": source, "typeUrls": [fault]}}),
        );
    }
    Resource::from_json(ResourceType::Listener, &json).unwrap()
}

/// The filter's configuration.
fn fault() -> Resource {
    let fault = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";
    let abort = json!({"httpStatus": FILTERED, "percentage": {"numerator": 100}});
    let config = json!({"name": "f", "typedConfig": {"@type": fault, "abort": abort}});
    Resource::from_json(ECDS, &config).unwrap()
}

async fn status(port: u16) -> Option<u16> {
    get(port, "/").await.ok().map(|(status, _)| status)
}

/// Whether the stream of `n` is at this revision with a type, and nothing was ever refused.
fn acked(server: &Server, ty: ResourceType, revision: i64) -> bool {
    let streams = server.streams().of_node("n");
    let refused: u64 = streams
        .iter()
        .flat_map(|s| s.types.values())
        .map(|t| t.nacks)
        .sum();
    assert_eq!(refused, 0, "{streams:?}");
    streams
        .iter()
        .any(|s| s.types.get(&ty).and_then(|t| t.acked) == Some(revision))
}

/// Every status that is answered, until it is aborted.
async fn watch(port: u16, seen: Arc<Mutex<Vec<u16>>>) {
    loop {
        let status = status(port).await;
        seen.lock().unwrap().extend(status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d5_a_filter_that_goes_is_kept_and_one_that_is_late_arrives() {
    both(async |version, api_type| {
        let (port, cache) = (free_port(), Arc::new(SnapshotCache::by_id()));
        cache.set("n", Snapshot::of(1, [listener(port, true)]));
        let server = Server::new(cache.clone());
        let envoy = Envoy::start(version, &by_ads("n", api_type, serve(&server).await));
        eventually("the filter is asked for", async || {
            let streams = server.streams().of_node("n");
            streams.iter().any(|s| s.types.contains_key(&ECDS))
        })
        .await;
        cache.set("n", Snapshot::of(2, [listener(port, true), fault()]));
        eventually("the filter answers", async || {
            status(port).await == Some(FILTERED)
        })
        .await;

        // It goes, though the listener names it: it stays in force.
        cache.set("n", Snapshot::of(3, [listener(port, true)]));
        eventually("the removal is looked at", async || acked(&server, ECDS, 3)).await;
        assert_eq!(status(port).await, Some(FILTERED), "{version} {api_type}");

        // The stream ends, and the next one finds that it is gone.
        let before = server.streams().of_node("n")[0].stream.id;
        server
            .streams()
            .close_all(&Status::unavailable("a restart"));
        eventually("a new stream is at the revision", async || {
            let streams = server.streams().of_node("n");
            streams.iter().all(|s| s.stream.id != before) && acked(&server, ECDS, 3)
        })
        .await;
        assert_eq!(status(port).await, Some(FILTERED), "{version} {api_type}");

        // It goes together with its use: no request may meet a listener without the filter it names.
        cache.set("n", Snapshot::of(4, [listener(port, true), fault()]));
        eventually("it is back", async || acked(&server, ECDS, 4)).await;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let watching = tokio::spawn(watch(port, seen.clone()));
        let has = |status: u16| seen.lock().unwrap().contains(&status);
        eventually("requests are made", async || has(FILTERED)).await;
        cache.set("n", Snapshot::of(5, [listener(port, false)]));
        eventually("the route answers", async || has(200)).await;
        watching.abort();
        let seen = seen.lock().unwrap().clone();
        let expected = |status: &u16| [FILTERED, 200].contains(status);
        assert!(seen.iter().all(expected), "{version} {api_type}: {seen:?}");
        envoy.content();
    })
    .await;
}

/// Why the rule has this exception: an Envoy that is told of the removal answers 500 as long as a listener names the filter.
#[tokio::test(flavor = "multi_thread")]
async fn d5_an_envoy_that_is_told_of_the_removal_fails_requests() {
    for version in VERSIONS {
        let (port, cache) = (free_port(), Arc::new(SnapshotCache::by_id()));
        cache.set("n", Snapshot::of(1, [listener(port, true), fault()]));
        let server =
            Server::new(cache.clone()).options(|options| options.absent = |_| Absent::Removed);
        let _envoy = Envoy::start(version, &by_ads("n", "DELTA_GRPC", serve(&server).await));
        eventually("the filter answers", async || {
            status(port).await == Some(FILTERED)
        })
        .await;
        cache.set("n", Snapshot::of(2, [listener(port, true)]));
        eventually("requests fail", async || status(port).await == Some(500)).await;
    }
}
