//! Two services by path: `/service-a` leads to A, `/service-b` to B, anything else is answered `404 Not Found`. ENTER
//! swaps the two and changes that answer, with Envoy running.
//!
//! ```text
//! cargo run -p weft-xds --example two_services
//! envoy -c shared/xds/examples/two_services.yaml
//! curl localhost:8080/service-a/path1
//! ```
//!
//! `XDS_PORT`, `LISTENER_HOST`, `LISTENER_PORT`, `SERVICE_A_PORT` and `SERVICE_B_PORT` move what listens where.

#![allow(clippy::print_stdout)]

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::http::Uri;
use tokio::io::AsyncBufReadExt as _;
use tokio::net::TcpListener;
use xds::session::{Event, Response};
use xds::{Callbacks, Request, Resource, Server, Snapshot, SnapshotCache, StreamInfo, make};

const NODE: &str = "test-id";

/// Prints what happens on the streams.
struct Log;

impl Callbacks for Log {
    fn on_stream_open(&self, stream: &StreamInfo) -> Result<(), tonic::Status> {
        println!("Stream open: {}, {}", stream.id, stream.variant);
        Ok(())
    }
    fn on_stream_closed(&self, stream: &StreamInfo) {
        println!("Stream closed: {}", stream.id);
    }
    fn on_request(&self, stream: &StreamInfo, request: Request<'_>) -> Result<(), tonic::Status> {
        println!(
            "Stream request: {}, Type: {}",
            stream.id,
            request.type_url()
        );
        Ok(())
    }
    fn on_response(&self, stream: &StreamInfo, response: &Response) {
        let (ty, count) = (response.ty().type_url(), response.resources().len());
        println!(
            "Stream response: {}, Type: {ty}, Version: {}, Resources: {count}",
            stream.id,
            response.version()
        );
    }
    fn on_event(&self, stream: &StreamInfo, event: &Event) {
        println!("Stream event: {}, {event:?}", stream.id);
    }
}

struct Ports {
    xds: u16,
    listener: u16,
    a: u16,
    b: u16,
}

fn port(variable: &str, default: u16) -> anyhow::Result<u16> {
    match std::env::var(variable) {
        Ok(value) => value
            .parse()
            .with_context(|| format!("{variable}={value} is no port")),
        Err(_) => Ok(default),
    }
}

fn snapshot(ports: &Ports, version: i64, (a, b): (&str, &str), not_found: &str) -> Snapshot {
    let host = std::env::var("LISTENER_HOST").unwrap_or_else(|_| "0.0.0.0".to_owned());
    let routes = vec![
        make::route("/service-a", a),
        make::route("/service-b", b),
        make::direct_response("/", 404, not_found),
    ];
    let mut snapshot = Snapshot::of(
        version,
        [
            Resource::new(&make::eds_cluster("service-a")),
            Resource::new(&make::eds_cluster("service-b")),
            Resource::new(&make::endpoints("service-a", &[("127.0.0.1", ports.a)])),
            Resource::new(&make::endpoints("service-b", &[("127.0.0.1", ports.b)])),
            Resource::new(&make::routes("http_route", routes)),
            Resource::new(&make::http_listener(
                "http_listener",
                &host,
                ports.listener,
                make::rds("http_route"),
            )),
        ],
    );
    snapshot.set_version(&format!("v{version}"));
    snapshot
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let ports = Ports {
        xds: port("XDS_PORT", 18000)?,
        listener: port("LISTENER_PORT", 8080)?,
        a: port("SERVICE_A_PORT", 9000)?,
        b: port("SERVICE_B_PORT", 9001)?,
    };
    let cache = Arc::new(SnapshotCache::by_id());
    let first = snapshot(&ports, 1, ("service-a", "service-b"), "Not Found");
    first
        .consistent()
        .map_err(|lost| anyhow::anyhow!("{lost:?}"))?;
    cache.set(NODE, first);
    println!("Snapshot version v1 set for node {NODE}");

    let routes = Server::new(cache.clone()).callbacks(Arc::new(Log)).routes();
    let server = xds::keepalive(tonic::transport::Server::builder()).add_routes(routes);
    tokio::spawn(backend("Service A", ports.a));
    tokio::spawn(backend("Service B", ports.b));
    let address = (Ipv4Addr::LOCALHOST, ports.xds).into();
    println!(
        "xDS server on {address}; Envoy will listen on {}",
        ports.listener
    );
    println!("Press ENTER to update the snapshot to version v2, or CTRL+C to exit …");
    let swap = async {
        let mut line = String::new();
        let read = tokio::io::BufReader::new(tokio::io::stdin())
            .read_line(&mut line)
            .await;
        if read.is_ok_and(|bytes| bytes > 0) {
            cache.set(
                NODE,
                snapshot(&ports, 2, ("service-b", "service-a"), "Not Found (v2)"),
            );
            println!("Snapshot version v2 updated for node {NODE}");
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        served = server.serve(address) => served.with_context(|| format!("cannot serve on {address}"))?,
        () = swap => {}
        stop = tokio::signal::ctrl_c() => stop?,
    }
    Ok(())
}

/// A small HTTP service that says who it is.
async fn backend(name: &'static str, port: u16) -> anyhow::Result<()> {
    let hello = move |uri: Uri| async move {
        println!("[{name}] Received request: {}", uri.path());
        format!(
            "Hello from {name} on port {port}! You requested path: {}\n",
            uri.path()
        )
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    println!("{name} server listening on :{port}");
    Ok(axum::serve(listener, axum::Router::new().fallback(hello)).await?)
}
