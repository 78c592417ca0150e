//! Requests are counted by route, calls by method, and nobody can make more series of them.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use axum::routing::{get, post};
use futures::stream;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use metrics::with_local_recorder;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use prost::Message as _;
use prost_types::{
    FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto,
};
use tower::ServiceExt as _;
use weft_telemetry::counted;

/// What is counted while this runs, on this thread.
fn counting(
    services: &[&[u8]],
    routes: Router,
    act: impl AsyncFnOnce(Router, PrometheusHandle),
) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.build().unwrap();
    with_local_recorder(&recorder, || {
        runtime.block_on(act(counted(routes, services), handle.clone()));
    });
    handle.render()
}

async fn send(routes: &Router, method: &str, path: &str, kind: &str) -> Response {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, kind);
    let request = request.body(Body::empty()).unwrap();
    routes.clone().oneshot(request).await.unwrap()
}

fn descriptors() -> Vec<u8> {
    let method = MethodDescriptorProto {
        name: Some("Ask".into()),
        ..Default::default()
    };
    let service = ServiceDescriptorProto {
        name: Some("S".into()),
        method: vec![method],
        ..Default::default()
    };
    let file = FileDescriptorProto {
        package: Some("p".into()),
        service: vec![service],
        ..Default::default()
    };
    FileDescriptorSet { file: vec![file] }.encode_to_vec()
}

/// One message, and then the trailers.
fn told(code: Option<&'static str>) -> Response {
    let mut frames = vec![Ok::<_, axum::Error>(Frame::data(Bytes::from("message")))];
    frames.extend(code.map(|code| {
        let trailers =
            HeaderMap::from_iter([("grpc-status".parse().unwrap(), code.parse().unwrap())]);
        Ok(Frame::trailers(trailers))
    }));
    Response::new(Body::new(StreamBody::new(stream::iter(frames))))
}

#[test]
fn a_route_is_a_pattern_and_words_of_callers_are_none() {
    let routes = Router::new()
        .route(
            "/things/{name}",
            get(|| async { "" }).put(|| async { axum::http::StatusCode::CONFLICT }),
        )
        .route("/livez", get(|| async { "" }));
    let text = counting(&[], routes, async |routes, _| {
        for n in 0..20 {
            send(&routes, "GET", &format!("/things/n{n}?q=n{n}"), "").await;
            send(&routes, "PUT", &format!("/things/n{n}"), "").await;
            send(&routes, &format!("WORD{n}"), &format!("/things/n{n}"), "").await;
            send(&routes, "GET", &format!("/n{n}"), "application/grpc").await;
            send(&routes, "GET", &format!("/n{n}"), "").await;
        }
        send(&routes, "GET", "/livez", "").await;
    });
    for series in [
        "weft_http_requests_total{method=\"GET\",route=\"/things/{name}\",code=\"200\"} 20",
        "weft_http_requests_total{method=\"PUT\",route=\"/things/{name}\",code=\"409\"} 20",
        "weft_http_requests_total{method=\"other\",route=\"/things/{name}\",code=\"405\"} 20",
        "weft_http_requests_total{method=\"GET\",route=\"none\",code=\"404\"} 20",
        "weft_http_request_seconds_count{method=\"GET\",route=\"/things/{name}\"} 20",
        "weft_grpc_requests_total{method=\"none\",code=\"CANCELLED\"} 20",
        "weft_http_requests_under_way 0",
    ] {
        assert!(
            text.lines().any(|line| line == series),
            "no {series} in\n{text}"
        );
    }
    assert!(
        !text.contains("n1") && !text.contains("WORD") && !text.contains("livez"),
        "{text}"
    );
}

#[test]
fn a_call_counts_by_its_method_and_by_what_it_ended_with() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let ask = post(|| async {
        match ASKED.fetch_add(1, Ordering::Relaxed) {
            0 => told(Some("0")),
            1 => told(Some("14")),
            2 => tonic::Status::permission_denied("no").into_http(),
            _ => told(None),
        }
    });
    let routes = Router::new().route("/p.S/{*rest}", ask);
    let text = counting(&[&descriptors()], routes, async |routes, seen| {
        let none = "weft_grpc_requests_total{method=\"/p.S/Ask\",code=\"OK\"} 0";
        assert!(seen.render().contains(none), "{}", seen.render());
        let ask = async || send(&routes, "POST", "/p.S/Ask", "application/grpc+proto").await;
        for _ in 0..3 {
            let answer = ask().await;
            answer.into_body().collect().await.unwrap();
        }
        let held = ask().await;
        assert!(!seen.render().contains("CANCELLED"), "it is not over");
        drop(held);
        send(&routes, "POST", "/p.S/Guess1", "application/grpc").await;
    });
    for (method, code) in [
        ("/p.S/Ask", "OK"),
        ("/p.S/Ask", "UNAVAILABLE"),
        ("/p.S/Ask", "PERMISSION_DENIED"),
        ("/p.S/Ask", "CANCELLED"),
        ("/p.S/{*rest}", "CANCELLED"),
    ] {
        let series = format!("weft_grpc_requests_total{{method=\"{method}\",code=\"{code}\"}} 1");
        assert!(
            text.lines().any(|line| line == series),
            "no {series} in\n{text}"
        );
    }
    let four = "weft_grpc_request_seconds_count{method=\"/p.S/Ask\"} 4";
    assert!(text.contains(four) && !text.contains("Guess"), "{text}");
}

#[test]
fn who_goes_away_is_not_under_way() {
    let routes = Router::new().route("/slow", get(std::future::pending::<&str>));
    let text = counting(&[], routes, async |routes, seen| {
        let mut asked = Box::pin(send(&routes, "GET", "/slow", ""));
        assert!(futures::poll!(&mut asked).is_pending());
        let text = seen.render();
        assert!(text.contains("weft_http_requests_under_way 1"), "{text}");
    });
    assert!(text.contains("weft_http_requests_under_way 0"), "{text}");
}
