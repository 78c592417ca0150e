//! How spans come to a collector, and that nothing else depends on it.

use reqwest::Method;
use weft_tests::mesh::{Mesh, Options};
use weft_tests::otlp::{Protocol, Sink, Span};
use weft_tests::run::Run;
use weft_tests::wait;

use super::{CALLER, TRACE, has, of, path, put, service_entry};

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
            ("OTEL_TRACES_SAMPLER", "traceidratio"),
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
        environment.push(("OTEL_TRACES_SAMPLER_ARG", "0".to_owned()));
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
