//! What a collector of traces receives: one trace for one write, across the processes.

mod export;
mod issuer;
mod modes;
mod pushes;

use serde_json::{Value, json};
use weft_tests::envoy::Version;
use weft_tests::mesh::{Mesh, Options, Variant};
use weft_tests::otlp::{Sink, Span};

use crate::edge::Edge;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const OTHER: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "00f067aa0ba902b7";

fn service_entry(name: &str) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
        "metadata": { "name": name, "namespace": "shop" },
        "spec": {
            "hosts": [format!("{name}.shop.svc.cluster.local")], "location": "MESH_INTERNAL", "resolution": "STATIC",
            "ports": [{ "number": 80, "name": "http", "protocol": "HTTP" }],
            "endpoints": [{ "address": "127.0.0.1" }]
        }
    })
}

fn path(name: &str) -> String {
    format!("/apis/networking.istio.io/v1/namespaces/shop/serviceentries/{name}")
}

/// `PUT`s a resource in a trace of the caller; the revision that it got.
async fn put(mesh: &Mesh, trace: &str, path: &str, body: &Value) -> String {
    let url = format!("http://{}{path}", mesh.api_address());
    let request = weft_tests::http::client()
        .put(url)
        .json(body)
        .header("traceparent", format!("00-{trace}-{CALLER}-01"))
        .header("tracestate", "vendor=1");
    let answer = weft_tests::http::send(request).await.unwrap();
    let object = answer.ok().unwrap().json().unwrap();
    let revision = object["metadata"]["resourceVersion"].as_str();
    revision.unwrap().to_owned()
}

/// Whether it has these attributes.
fn has(span: &Span, attributes: &[(&str, &str)]) -> bool {
    attributes
        .iter()
        .all(|(name, value)| span.get(name) == *value)
}

fn of(service: &'static str, name: &'static str) -> impl Fn(&Span) -> bool {
    move |span| span.service == service && span.name == name
}

/// The spans of a push that name a proxy, by their names.
fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

/// Waits for the span of the request, the last of config-api, which sends its own when it likes.
async fn requested(sink: &Sink) {
    let is = |span: &Span| span.parent == CALLER;
    sink.span(TRACE, "of the request", is).await.unwrap();
}

async fn edge(name: &str, environment: &[(&'static str, String)], issuer: bool) -> Edge {
    let options = Options {
        environment,
        issuer: issuer.then_some(&[]),
        ..Options::default()
    };
    let kinds = [
        (Variant::Delta, Version::Newest),
        (Variant::Sotw, Version::Oldest),
    ];
    Edge::start_with(name, &kinds, options).await.unwrap()
}

/// Applies documents in a trace of the caller.
async fn apply(edge: &Edge, trace: &str, yaml: &str) {
    let request = weft_tests::http::client()
        .post(format!("http://{}/v1/apply", edge.mesh.api_address()))
        .header("content-type", "application/yaml")
        .header("traceparent", format!("00-{trace}-{CALLER}-01"))
        .body(yaml.to_owned());
    let answer = weft_tests::http::send(request).await.unwrap();
    answer.ok().unwrap();
}
