//! A proxy to an HTTPS site: Envoy listens on 12000 and forwards everything to <https://www.envoyproxy.io>, found by DNS,
//! over TLS with its server name, as if it had been asked for by that host and scheme.
//!
//! ```text
//! cargo run -p weft-xds --example https_site
//! envoy -c shared/xds/examples/https_site.yaml
//! curl localhost:12000
//! ```
//!
//! `XDS_PORT`, `LISTENER_HOST`, `LISTENER_PORT`, `SITE` (name), `SITE_HOST` (where to find it, if not by that name), `SITE_PORT` and
//! `SITE_CA` (a PEM file, /etc/ssl/certs/ca-certificates.crt unless set) change what leads where.

#![allow(clippy::print_stdout)]

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Context as _;
use xds::pb::envoy::config::core::v3::{
    SchemeHeaderTransformation, scheme_header_transformation::Transformation,
};
use xds::{Resource, Server, Snapshot, SnapshotCache, make};

const NODE: &str = "xds-node-id";

fn setting(variable: &str, default: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| default.to_owned())
}

fn port(variable: &str, default: &str) -> anyhow::Result<u16> {
    setting(variable, default)
        .parse()
        .with_context(|| format!("{variable} is no port"))
}

fn snapshot() -> anyhow::Result<Snapshot> {
    let site = setting("SITE", "www.envoyproxy.io");
    let ca = setting("SITE_CA", "/etc/ssl/certs/ca-certificates.crt");
    let ca = std::fs::read_to_string(&ca)
        .with_context(|| format!("cannot read {ca}; SITE_CA names another file"))?;
    let cluster = make::dns_cluster(
        "xds_demo_cluster",
        &setting("SITE_HOST", &site),
        port("SITE_PORT", "443")?,
    );
    let route = make::with_host(make::route("/", "xds_demo_cluster"), &site);
    let routes = make::RouteSpecifier::RouteConfig(make::routes("xds_demo_route", vec![route]));
    let mut http = make::http(routes);
    http.scheme_header_transformation = Some(SchemeHeaderTransformation {
        transformation: Some(Transformation::SchemeToOverwrite("https".to_owned())),
        ..Default::default()
    });
    let host = setting("LISTENER_HOST", "0.0.0.0");
    let listener = make::listener(
        "listener_xds_demo",
        &host,
        port("LISTENER_PORT", "12000")?,
        http,
    );
    let mut snapshot = Snapshot::of(
        1,
        [
            Resource::new(&make::with_tls(cluster, &site, Some(&ca))),
            Resource::new(&listener),
        ],
    );
    snapshot.set_version("1");
    Ok(snapshot)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cache = Arc::new(SnapshotCache::by_id());
    cache.set(NODE, snapshot()?);
    println!("set snapshot success");
    let address = (Ipv4Addr::LOCALHOST, port("XDS_PORT", "18000")?).into();
    println!("Starting control plane server on {address} …");
    let server =
        xds::keepalive(tonic::transport::Server::builder()).add_routes(Server::new(cache).routes());
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    server
        .serve_with_shutdown(address, stop)
        .await
        .with_context(|| format!("cannot serve on {address}"))
}
