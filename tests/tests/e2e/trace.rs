//! What a collector of traces receives: one trace for one write, across the processes.

use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};
use weft_tests::envoy::Version;
use weft_tests::mesh::{Mesh, Options, Variant};
use weft_tests::otlp::{Protocol, Sink, Span, drawn};
use weft_tests::run::Run;
use weft_tests::wait;

use crate::edge::{Edge, gateway, selecting_service, service, workload};

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

/// The write, and that the services end in order, whatever the variables are; what history says of it.
async fn writes_and_ends(name: &str, environment: &[(&'static str, String)]) -> String {
    let options = Options {
        environment,
        ..Options::default()
    };
    let mesh = Mesh::start_with(name, options).await.unwrap();
    put(&mesh, TRACE, &path("a"), &service_entry("a")).await;
    let history = mesh.call(Method::GET, "/v1/history", None).await.unwrap();
    for process in [&mesh.api, &mesh.pusher] {
        assert!(process.stop().await.success(), "{}", process.tail(20));
    }
    history.body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sampled_and_nothing_is_sent() {
    let sink = Sink::start().await.unwrap();
    // The trace goes on all the same: as what was not sampled, in a span of our own, or in the caller's.
    for (variable, stored, flags) in [
        (
            ("OTEL_TRACES_SAMPLER", "always_off"),
            format!("00-{TRACE}-"),
            "-00",
        ),
        (
            ("OTEL_TRACES_EXPORTER", "none"),
            format!("00-{TRACE}-"),
            "-01",
        ),
        (
            ("OTEL_SDK_DISABLED", "true"),
            format!("00-{TRACE}-{CALLER}"),
            "-01",
        ),
    ] {
        let mut environment = sink.environment(Protocol::Grpc);
        environment.push((variable.0, variable.1.to_owned()));
        let history = writes_and_ends("unsampled", &environment).await;
        let (_, rest) = history.split_once(&stored).expect(&history);
        assert!(
            rest.split('"').next().unwrap().ends_with(flags),
            "{history}"
        );
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
async fn a_collector_behind_tls_must_be_one_of_the_systems() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap().pem();
    let identity = (certificate.as_str(), key.serialize_pem());
    let run = Run::temporary("collector").unwrap();
    let roots = run.path("roots.pem");
    std::fs::write(&roots, &certificate).unwrap();
    for known in [true, false] {
        let sink = Sink::start_as(Some((identity.0, &identity.1))).await;
        let sink = sink.unwrap();
        let mut environment = sink.environment(Protocol::Grpc);
        if known {
            environment.push(("SSL_CERT_FILE", roots.display().to_string()));
        }
        writes_and_ends("collector-tls", &environment).await;
        assert_eq!(!sink.trace(TRACE).is_empty(), known);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_write_is_one_trace_to_the_acknowledgement_of_each_envoy() {
    let sink = Sink::start().await.unwrap();
    let edge = edge("pushed", &sink.environment(Protocol::Grpc), false).await;
    let backend = edge.mesh.net.at(30, 9000);
    apply(&edge, OTHER, &service("a", &[backend])).await;
    let body = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": { "name": "a", "namespace": "shop" },
        "spec": { "hosts": ["*"], "gateways": ["edge"], "http": [{ "route": [{ "destination": { "host": "a" } }] }] }
    });
    let path = "/apis/networking.istio.io/v1/namespaces/shop/virtualservices/a";
    let revision = put(&edge.mesh, TRACE, path, &body).await;
    let push = sink.span(TRACE, "of the push", of("xds-pusher", "push"));
    let push = push.await.unwrap();
    requested(&sink).await;
    // Children are told before their parents end, but may come with the next batch.
    let acks = |spans: &[Span]| named(spans, "ACK").len();
    wait::until("the ACK of each Envoy", wait::PATIENCE, async || {
        let spans = sink.trace(TRACE);
        if acks(&spans) >= 2 {
            Ok(())
        } else {
            Err(drawn(&spans))
        }
    })
    .await
    .unwrap();
    let spans = sink.trace(TRACE);
    let drawn = drawn(&spans);
    let revision = ("mesh.revision", revision.as_str());

    // From each acknowledgement up to the request, and the caller's span.
    for gateway in &edge.gateways {
        let id = format!("gateway~istio-system~{}", gateway.name);
        let about = [("proxy.id", id.as_str()), ("xds.type", "RDS"), revision];
        let ack = (named(&spans, "ACK").into_iter()).find(|span| has(span, &about));
        let mut above = vec![ack.expect(&drawn)];
        while let Some(parent) =
            (spans.iter()).find(|span| span.id == above[above.len() - 1].parent)
        {
            above.push(parent);
        }
        let names: Vec<&str> = above.iter().map(|span| span.name.as_str()).collect();
        let expected = [
            "ACK",
            "push response",
            "proxy",
            "push class",
            "push",
            "watch",
            "etcd transaction",
        ];
        assert_eq!(names[..7], expected, "{drawn}");
        assert_eq!(above[7].parent, CALLER, "{drawn}");
        assert_eq!(above.len(), 8, "{drawn}");
        let response = above[1];
        assert!(
            has(response, &about) && has(response, &[("xds.resources", "1")]),
            "{drawn}"
        );
        assert!(
            response.get("xds.bytes").parse::<u64>().unwrap() > 0,
            "{drawn}"
        );
        assert!(!response.get("xds.version").is_empty(), "{drawn}");
    }
    assert!(
        has(
            &push,
            &[("proxies.total", "2"), ("proxies.acked", "2"), revision]
        ),
        "{drawn}"
    );
    let what = [
        ("policy.type", "virtualservice"),
        ("policy.name", "a"),
        ("policy.namespace", "shop"),
        revision,
    ];
    for name in ["watch", "etcd transaction"] {
        assert!(has(named(&spans, name)[0], &what), "{drawn}");
    }
    let compile = named(&spans, "compile")[0];
    assert!(
        has(compile, &[("proxies.changed", "2"), revision]),
        "{drawn}"
    );
    assert!(spans.iter().all(|span| span.error.is_none()), "{drawn}");
    edge.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_refuses_is_named_with_the_reason() {
    let sink = Sink::start().await.unwrap();
    let edge = edge("refused", &sink.environment(Protocol::Http), false).await;
    // The first Envoy cannot listen where somebody else does.
    let [refusing, other] = &edge.gateways[..] else {
        panic!()
    };
    let taken = tokio::net::TcpListener::bind((refusing.address.ip(), 8001))
        .await
        .unwrap();
    apply(&edge, TRACE, &gateway("taken", 8001)).await;
    let nack = sink.span(TRACE, "of the refusal", of("xds-pusher", "NACK"));
    let nack = nack.await.unwrap();
    let id = format!("gateway~istio-system~{}", refusing.name);
    assert!(
        has(&nack, &[("proxy.id", id.as_str()), ("xds.type", "LDS")]),
        "{nack:?}"
    );
    assert!(nack.get("xds.nack.reason").contains("8001"), "{nack:?}");
    assert!(nack.error.is_some());
    let is = of("xds-pusher", "push");
    let push = sink.span(TRACE, "of the push", is).await.unwrap();
    assert!(
        has(&push, &[("proxies.nacked", "1"), ("proxies.acked", "1")]),
        "{push:?}"
    );
    assert!(push.error.is_some(), "{push:?}");
    let id = format!("gateway~istio-system~{}", other.name);
    let is = |span: &Span| {
        span.name == "ACK" && has(span, &[("proxy.id", id.as_str()), ("xds.type", "LDS")])
    };
    sink.span(TRACE, "of the other's ACK", is).await.unwrap();
    drop(taken);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_merges_writes_links_all_of_them() {
    let sink = Sink::start().await.unwrap();
    let edge = edge("merged", &sink.environment(Protocol::Grpc), false).await;
    // While the pusher is stopped, writes pile up in its watch.
    edge.mesh.pusher.signal(Signal::SIGSTOP);
    let traces: Vec<String> = (1..=5).map(|n| format!("{n:032x}")).collect();
    for (n, trace) in traces.iter().enumerate() {
        let name = format!("m{n}");
        put(&edge.mesh, trace, &path(&name), &service_entry(&name)).await;
    }
    edge.mesh.pusher.signal(Signal::SIGCONT);
    let (mut written, mut compiled) = (Vec::new(), Vec::new());
    for trace in &traces {
        let is = of("config-api", "etcd transaction");
        written.push(sink.span(trace, "of the write", is).await.unwrap());
        // Each write arrives in its own trace.
        let is = of("xds-pusher", "watch");
        let watch = sink.span(trace, "of the arrival", is).await.unwrap();
        assert_eq!(watch.parent, written[written.len() - 1].id);
        compiled.push(watch);
    }
    // What was done for several at once is in the trace of one, and links the others; their arrivals link it.
    let spans = sink.spans();
    let merges: Vec<&Span> = (named(&spans, "compile").into_iter())
        .filter(|span| traces.contains(&span.trace) && !span.links.is_empty())
        .collect();
    assert!(!merges.is_empty(), "{}", drawn(&spans));
    let linked: usize = merges.iter().map(|span| span.links.len()).sum();
    let alone = (named(&spans, "compile").into_iter())
        .filter(|span| traces.contains(&span.trace) && span.links.is_empty());
    assert_eq!(merges.len() + linked + alone.count(), traces.len());
    for merge in merges {
        for link in &merge.links {
            assert!(
                written
                    .iter()
                    .any(|it| (&it.trace, &it.id) == (&link.0, &link.1))
            );
            let back = compiled.iter().find(|it| it.trace == link.0).unwrap();
            assert!(
                back.links
                    .contains(&(merge.trace.clone(), merge.id.clone()))
            );
        }
    }
}

/// A Gateway that needs a certificate which is not there yet.
const SECURE: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: secure, namespace: shop }
spec:
  selector: { istio: ingressgateway }
  servers:
  - { port: { number: 8443, name: https, protocol: HTTPS }, hosts: ['*'], tls: { mode: SIMPLE, credentialName: web } }
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_was_uploaded_is_traced_through_all_three_services() {
    let sink = Sink::start().await.unwrap();
    let edge = edge("uploaded-traced", &sink.environment(Protocol::Grpc), true).await;
    apply(&edge, OTHER, SECURE).await;
    let is = |span: &Span| span.name == "ACK" && has(span, &[("xds.type", "LDS")]);
    sink.span(OTHER, "of the gateway's ACK", is).await.unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["shop.example".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap().pem();
    let body = json!({
        "apiVersion": "weft.mesh/v1", "kind": "TlsSecret",
        "metadata": { "name": "web", "namespace": "istio-system" },
        "spec": { "certificate": certificate, "privateKey": key.serialize_pem() }
    });
    let path = "/apis/weft.mesh/v1/namespaces/istio-system/tlssecrets/web";
    let revision = put(&edge.mesh, TRACE, path, &body).await;
    let is = of("cert-issuer", "push secret");
    let push = sink.span(TRACE, "of the issuer's push", is).await.unwrap();
    assert!(has(&push, &[("proxies.total", "2")]), "{push:?}");
    for gateway in &edge.gateways {
        let id = format!("gateway~istio-system~{}", gateway.name);
        let about = [("proxy.id", id.as_str()), ("xds.type", "SDS")];
        let is = |span: &Span| span.name == "ACK" && has(span, &about);
        sink.span(TRACE, "of the secret's ACK", is).await.unwrap();
    }
    let is = of("xds-pusher", "compile");
    sink.span(TRACE, "of the pusher", is).await.unwrap();
    let is = of("cert-issuer", "open secret");
    sink.span(TRACE, "of the opening", is).await.unwrap();
    requested(&sink).await;
    let spans = sink.trace(TRACE);
    let transaction = named(&spans, "etcd transaction")[0];
    let what = [
        ("policy.type", "tlssecret"),
        ("policy.name", "web"),
        ("mesh.revision", revision.as_str()),
    ];
    for watch in named(&spans, "watch") {
        assert_eq!(watch.parent, transaction.id);
        assert!(has(watch, &what), "{watch:?}");
    }
    let mut services: Vec<&str> = spans.iter().map(|span| span.service.as_str()).collect();
    services.sort_unstable();
    services.dedup();
    assert_eq!(services, ["cert-issuer", "config-api", "xds-pusher"]);

    // What an operator asks of the authority is done, and signed anew, in the operator's trace.
    let request = weft_tests::http::client()
        .post(format!("http://{}/v1/ca", edge.mesh.api_address()))
        .header("traceparent", format!("00-{OTHER}-{CALLER}-01"))
        .json(&json!({ "step": "rotateIssuing" }));
    weft_tests::http::send(request).await.unwrap().ok().unwrap();
    let is = |span: &Span| span.name == "rotate" && has(span, &[("ca.step", "rotateIssuing")]);
    sink.span(OTHER, "of the rotation", is).await.unwrap();
    let is = |span: &Span| span.name == "sign all" && has(span, &[("svids.signed", "2")]);
    sink.span(OTHER, "of signing", is).await.unwrap();
    let is =
        |span: &Span| span.name == "sign" && span.get("spiffe.id").contains("/ns/istio-system/");
    sink.span(OTHER, "of one signature", is).await.unwrap();
    edge.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_when_a_sidecar_takes_mutual_tls_only_is_in_the_same_trace() {
    let sink = Sink::start().await.unwrap();
    let options = Options {
        environment: &sink.environment(Protocol::Grpc),
        issuer: Some(&[]),
        ..Options::default()
    };
    let mesh = Mesh::start_with("mode-traced", options).await.unwrap();
    let at = mesh.net.at(20, 9000);
    let entry = workload("shop", "orders-1", at, &[("app", "orders")]);
    let documents = format!("{}---\n{entry}", selecting_service("orders"));
    mesh.apply(&documents).await.unwrap();
    let (variant, version) = (Variant::Delta, Version::Newest);
    let envoy = mesh.envoy("shop", "orders-1", variant, version, 20).await;
    let envoy = envoy.unwrap();
    envoy.ready().await.unwrap();
    let body = json!({
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": { "name": "default", "namespace": "shop" },
        "spec": { "mtls": { "mode": "STRICT" } }
    });
    let path = "/apis/security.istio.io/v1/namespaces/shop/peerauthentications/default";
    put(&mesh, TRACE, path, &body).await;
    let is = |span: &Span| span.name == "watch" && span.get("policy.type") == "peerauthentication";
    sink.span(TRACE, "of its arrival", is).await.unwrap();
    let is = |span: &Span| span.name == "store mode" && span.get("policy.name") == "orders-1";
    let stored = sink.span(TRACE, "of storing it", is).await.unwrap();
    let is = |span: &Span| span.name == "watch" && span.parent == stored.id;
    let watch = sink.span(TRACE, "of who learns it", is).await.unwrap();
    assert_eq!(watch.get("policy.name"), "orders-1");
    let is = |span: &Span| span.name == "compile" && span.parent == watch.id;
    sink.span(TRACE, "of what follows", is).await.unwrap();
}
