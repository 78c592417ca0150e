//! What a collector of traces receives: one trace for one write, across the processes.

use reqwest::Method;
use serde_json::{Value, json};
use weft_tests::mesh::{Mesh, Options};
use weft_tests::otlp::{Protocol, Sink, Span};
use weft_tests::wait;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_is_traced_over_grpc_and_over_http() {
    for protocol in [Protocol::Grpc, Protocol::Http] {
        let sink = Sink::start().await.unwrap();
        let mut environment = sink.environment(protocol);
        environment.push(("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=weft".into()));
        environment.push(("OTEL_RESOURCE_ATTRIBUTES", "deployment=test".into()));
        let options = Options {
            environment: &environment,
            ..Options::default()
        };
        let mesh = Mesh::start_with("traced", options).await.unwrap();
        let revision = put(&mesh, TRACE, &path("a"), &service_entry("a")).await;
        let what = [
            ("policy.type", "serviceentry"),
            ("policy.name", "a"),
            ("policy.namespace", "shop"),
            ("mesh.revision", revision.as_str()),
        ];

        let is = |span: &Span| span.service == "config-api" && span.parent == CALLER;
        let request = sink.span(TRACE, "of the request", is).await.unwrap();
        assert!(has(&request, &what), "{request:?}");
        let http = [
            ("http.request.method", "PUT"),
            ("http.response.status_code", "201"),
            ("url.path", &path("a")),
        ];
        assert!(has(&request, &http), "{request:?}");
        assert!(request.name.starts_with("PUT /apis/"), "{}", request.name);
        assert_eq!(request.protocol, protocol);
        assert_eq!(request.headers["x-tenant"], "weft");

        let is = of("config-api", "etcd transaction");
        let transaction = sink.span(TRACE, "of the transaction", is).await.unwrap();
        assert!(has(&transaction, &what), "{transaction:?}");
        assert_eq!(transaction.parent, request.id);

        // What is stored beside the value is the transaction's context, and what a log line says is the request's.
        let history = mesh.call(Method::GET, "/v1/history", None).await.unwrap();
        let stored = format!("00-{TRACE}-{}-01", transaction.id);
        assert!(history.body.contains(&stored), "{}", history.body);
        let line = format!(r#""trace_id":"{TRACE}","span_id":"{}""#, request.id);
        wait::until("the ids in the log", wait::PATIENCE, async || {
            let log = mesh.api.tail(200);
            log.contains(&line).then_some(()).ok_or(log)
        })
        .await
        .unwrap();
    }
}

/// The write, and that the service ends in order and soon, whatever the variables are.
async fn writes_and_ends(name: &str, environment: &[(&'static str, String)]) -> Mesh {
    let options = Options {
        environment,
        ..Options::default()
    };
    let mesh = Mesh::start_with(name, options).await.unwrap();
    put(&mesh, TRACE, &path("a"), &service_entry("a")).await;
    for process in [&mesh.api, &mesh.pusher] {
        assert!(process.stop().await.success(), "{}", process.tail(20));
    }
    mesh
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sampled_and_nothing_is_sent() {
    let sink = Sink::start().await.unwrap();
    for variable in [
        ("OTEL_TRACES_SAMPLER", "always_off"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_SDK_DISABLED", "true"),
    ] {
        let mut environment = sink.environment(Protocol::Grpc);
        environment.push((variable.0, variable.1.to_owned()));
        writes_and_ends("unsampled", &environment).await;
        assert!(sink.spans().is_empty(), "{variable:?}: {:?}", sink.spans());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_collector_changes_nothing() {
    // It listens and never answers: the worst that a collector can do.
    let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", dead.local_addr().unwrap());
    for protocol in [Protocol::Grpc, Protocol::Http] {
        let environment = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.clone()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.name().into()),
            ("OTEL_BSP_SCHEDULE_DELAY", "1".into()),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "1".into()),
        ];
        writes_and_ends("dead-collector", &environment).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_spans_are_sent_at_the_end() {
    let sink = Sink::start().await.unwrap();
    let mut environment = sink.environment(Protocol::Http);
    environment.retain(|(name, _)| *name != "OTEL_BSP_SCHEDULE_DELAY");
    environment.push(("OTEL_BSP_SCHEDULE_DELAY", "3600000".into()));
    writes_and_ends("last-spans", &environment).await;
    let spans = sink.trace(TRACE);
    assert!(
        spans.iter().any(|span| span.name == "etcd transaction"),
        "{spans:?}"
    );
}
