//! gRPC's own xDS client: `xds:///` resolved from an `api_listener`, with calls that reach the backend.

use std::process::Command;
use std::sync::Arc;

use tokio_stream::wrappers::TcpListenerStream;
use xds::{Resource, Server, Snapshot, SnapshotCache, make};

use crate::envoy::{root, tool};

/// Calls `/test/Hello` of `xds:///greeter` until it answers, and prints the answer.
const CLIENT: &str = r#"
import grpc
channel = grpc.insecure_channel("xds:///greeter")
call = channel.unary_unary("/test/Hello", request_serializer=lambda b: b, response_deserializer=lambda b: b)
print(call(b"", timeout=90, wait_for_ready=True).decode())
"#;

#[tokio::test(flavor = "multi_thread")]
async fn grpc_resolves_an_api_listener() {
    // A backend that answers every call with an empty-framed "hello".
    let backend = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = backend.local_addr().unwrap().port();
    let hello = axum::Router::new().fallback(async || {
        let frame: &[u8] = b"\0\0\0\0\x05hello";
        let body = tonic::body::Body::new(
            http_body_util::Full::new(bytes::Bytes::from_static(frame)).with_trailers(async {
                Some(Ok(http::HeaderMap::from_iter([(
                    "grpc-status".parse().unwrap(),
                    "0".parse().unwrap(),
                )])))
            }),
        );
        http::Response::builder()
            .header("content-type", "application/grpc")
            .body(body)
            .unwrap()
    });
    use http_body_util::BodyExt as _;
    tokio::spawn(async move { axum::serve(backend, hello).await });

    let cache = Arc::new(SnapshotCache::by_id());
    let snapshot = Snapshot::of(
        1,
        [
            Resource::new(&make::api_listener("greeter", make::rds("routes"))),
            Resource::new(&make::routes("routes", vec![make::route("", "backends")])),
            Resource::new(&make::eds_cluster("backends")),
            Resource::new(&make::endpoints("backends", &[("127.0.0.1", port)])),
        ],
    );
    cache.set("grpc", snapshot);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let xds = listener.local_addr().unwrap();
    let server = Server::new(cache);
    let router = tonic::transport::Server::builder().add_routes(server.routes());
    tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));

    tool("python/bin/python");
    let bootstrap = serde_json::json!({
        "xds_servers": [{
            "server_uri": xds.to_string(),
            "channel_creds": [{"type": "insecure"}],
            "server_features": ["xds_v3"],
        }],
        "node": {"id": "grpc"},
    });
    let output = tokio::task::spawn_blocking(move || {
        Command::new(root().join(".tools/python/bin/python"))
            .args(["-c", CLIENT])
            .env("GRPC_XDS_BOOTSTRAP_CONFIG", bootstrap.to_string())
            .output()
            .unwrap()
    })
    .await
    .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        said.trim(),
        "hello",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
