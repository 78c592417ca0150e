//! Requests, errors and latency by route, counted alike in every service: over HTTP by the route's pattern, over gRPC by the
//! method.
//!
//! *Invariant:* whatever callers send, there are no more series than routes, methods and codes.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use http_body::{Frame, SizeHint};
use metrics::{Counter, Histogram, counter, gauge, histogram};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Code;

/// Whether a path is of probes and scrapes, which do not count.
pub fn is_probe(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz" | "/healthz" | "/metrics")
        || path.starts_with("/grpc.health.v1.Health/")
}

/// The route of a path that is nobody's.
const NONE: &str = "none";

/// The methods of gRPC services whose routes are patterns, by their full paths.
type Methods = Arc<BTreeSet<String>>;

/// Counts the requests to these routes. `services` are the descriptors of generated gRPC services among them.
///
/// # Panics
/// If a descriptor is none.
pub fn counted(routes: Router, services: &[&[u8]]) -> Router {
    let methods: BTreeSet<String> = services.iter().flat_map(|it| methods(it)).collect();
    for method in &methods {
        drop(grpc_total(method, Code::Ok));
        drop(grpc_seconds(method));
    }
    drop(http_total("GET", NONE, "404".to_owned()));
    drop(http_seconds("GET", NONE));
    drop(gauge!("weft_http_requests_under_way"));
    routes.layer(from_fn_with_state(Arc::new(methods), count))
}

fn methods(descriptors: &[u8]) -> Vec<String> {
    let set = FileDescriptorSet::decode(descriptors).expect("protoc wrote it into this program");
    let files = set.file.iter().flat_map(|file| {
        let package = file.package();
        file.service.iter().map(move |service| (package, service))
    });
    let methods = files.flat_map(|(package, service)| {
        let method = move |name| format!("/{package}.{}/{name}", service.name());
        service.method.iter().map(move |it| method(it.name()))
    });
    methods.collect()
}

async fn count(State(methods): State<Methods>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if is_probe(path) {
        return next.run(request).await;
    }
    let route = request.extensions().get::<MatchedPath>();
    // A path of nobody is one route: callers must not make series.
    let route = route.map_or(NONE, MatchedPath::as_str);
    let kind = request.headers().get(header::CONTENT_TYPE);
    let begun = Instant::now();
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        let method = if methods.contains(path) { path } else { route };
        let call = Call {
            method: method.to_owned(),
            code: None,
        };
        let response = next.run(request).await;
        grpc_seconds(&call.method).record(begun.elapsed());
        return call.follow(response);
    }
    let (method, route) = (method(request.method()), route.to_owned());
    let under_way = UnderWay::begin();
    let response = next.run(request).await;
    drop(under_way);
    let code = response.status().as_u16().to_string();
    http_total(method, &route, code).increment(1);
    http_seconds(method, &route).record(begun.elapsed());
    response
}

fn http_total(method: &'static str, route: &str, code: String) -> Counter {
    counter!("weft_http_requests_total", "method" => method, "route" => route.to_owned(), "code" => code)
}

fn http_seconds(method: &'static str, route: &str) -> Histogram {
    histogram!("weft_http_request_seconds", "method" => method, "route" => route.to_owned())
}

/// The method as a label: callers may send any word.
fn method(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let known = KNOWN.into_iter().find(|known| *known == method.as_str());
    known.unwrap_or("other")
}

/// A request that is not answered yet, and that the client may give up.
struct UnderWay;

impl UnderWay {
    fn begin() -> Self {
        gauge!("weft_http_requests_under_way").increment(1.0);
        Self
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        gauge!("weft_http_requests_under_way").decrement(1.0);
    }
}

fn grpc_total(method: &str, code: Code) -> Counter {
    counter!("weft_grpc_requests_total", "method" => method.to_owned(), "code" => name(code))
}

fn grpc_seconds(method: &str) -> Histogram {
    histogram!("weft_grpc_request_seconds", "method" => method.to_owned())
}

/// A call over gRPC. It counts when it is over, by the status it ended with; who goes away before has cancelled it.
struct Call {
    method: String,
    code: Option<Code>,
}

impl Call {
    /// Looks for the status: beside the headers, or behind the body.
    fn follow(mut self, response: Response) -> Response {
        self.code = status(response.headers());
        if self.code.is_some() {
            return response;
        }
        response.map(|body| Body::new(Followed { body, call: self }))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        grpc_total(&self.method, self.code.unwrap_or(Code::Cancelled)).increment(1);
    }
}

fn status(headers: &HeaderMap) -> Option<Code> {
    let status = headers.get("grpc-status")?;
    Some(Code::from_bytes(status.as_bytes()))
}

/// The body of an answer whose end is awaited.
struct Followed {
    body: Body,
    call: Call,
}

impl HttpBody for Followed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            self.call.code = status(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A code as gRPC's documents call it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
