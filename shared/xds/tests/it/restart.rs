//! What an Envoy keeps when a cluster goes while its control plane is away, and comes back without a memory.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use xds::{ResourceType, Server, Snapshot, SnapshotCache};

use crate::envoy::{Envoy, by_ads, eventually, free_port, until};
use crate::live::{Load, backend, both, site};

/// A control plane with a runtime of its own, so that its connections end with it.
struct ControlPlane {
    server: Server,
    runtime: Runtime,
}

impl ControlPlane {
    fn start(port: u16, shown: Snapshot) -> Self {
        let cache = Arc::new(SnapshotCache::by_id());
        cache.set("n", shown);
        let server = Server::new(cache);
        let runtime = Runtime::new().unwrap();
        let router =
            xds::keepalive(tonic::transport::Server::builder()).add_routes(server.routes());
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::bind(("127.0.0.1", port))
                .await
                .unwrap();
            router
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
        });
        Self { server, runtime }
    }

    /// Ends it with all of its connections.
    async fn end(self) {
        let ending = move || self.runtime.shutdown_timeout(Duration::from_secs(30));
        tokio::task::spawn_blocking(ending).await.unwrap();
    }
}

/// Delta says what it holds when it comes back, so its routes move before the cluster goes. State of the world says no
/// names, and its answer is the full set: a cluster that the new control plane never knew is gone with it, and requests
/// fail until the routes come right after. Both end in the same state.
#[tokio::test(flavor = "multi_thread")]
async fn c1_a_cluster_that_went_while_the_control_plane_was_away() {
    both(async |version, api_type| {
        let (hello, listener, xds) = (backend("hello").await, free_port(), free_port());
        let first = ControlPlane::start(xds, site(1, listener, "c1", hello));
        let envoy = Envoy::start(version, &by_ads("n", api_type, xds));
        until(listener, "/", 200, "hello", &envoy).await;
        let load = Load::default();
        let story = async {
            load.goes_on().await;
            first.end().await;
            let second = ControlPlane::start(xds, site(2, listener, "c2", hello));
            eventually(
                "only the new cluster is left, and every type is at its revision",
                async || {
                    let streams = second.server.streams().of_node("n");
                    let at = |ty| {
                        streams
                            .iter()
                            .any(|s| s.types.get(&ty).and_then(|t| t.acked) == Some(2))
                    };
                    at(ResourceType::Cluster)
                        && at(ResourceType::Route)
                        && envoy.stat("cluster_manager.active_clusters").await == 2
                },
            )
            .await;
            until(listener, "/", 200, "hello", &envoy).await;
            load.goes_on().await;
            second
        };
        let second = tokio::select! {
            () = load.run(listener) => unreachable!("it never ends"),
            second = story => second,
        };
        if api_type == "DELTA_GRPC" {
            assert_eq!(load.failed(), 0, "{version}");
        }
        envoy.content();
        second.end().await;
    })
    .await;
}
