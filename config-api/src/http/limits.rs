//! What one caller, or all of them together, may take: requests under way, watches, time; and what happens after a panic.
//!
//! *Invariant:* a refused request has had no effect and is told when to come back.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode};
use metrics::counter;
use telemetry::is_probe;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{error, info};

use super::status::{Result, Status};

/// The limits of one server.
#[derive(Clone)]
pub(crate) struct Limits {
    requests: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    time: Duration,
}

impl Limits {
    /// At most this many requests and watches, each request at most this long.
    pub(crate) fn new(requests: usize, watches: usize, time: Duration) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(requests)),
            watches: Arc::new(Semaphore::new(watches)),
            time,
        }
    }

    /// A place for one more watch; it is held as long as the permit.
    pub(crate) fn watch(&self) -> Result<OwnedSemaphorePermit> {
        self.watches
            .clone()
            .try_acquire_owned()
            .map_err(|_| too_many("watches are open"))
    }
}

fn too_many(what: &str) -> Status {
    Status::new(
        StatusCode::TOO_MANY_REQUESTS,
        "TooManyRequests",
        format!("too many {what}; try again in a moment"),
    )
    .retry_after(1)
}

/// Bounds the number of requests under way and the time of each. Probes and scrapes are answered however busy the service is.
pub(crate) async fn bound(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    if is_probe(request.uri().path()) {
        return next.run(request).await;
    }
    let Ok(_place) = limits.requests.clone().try_acquire_owned() else {
        counter!("weft_http_refused_total").increment(1);
        return too_many("requests are under way").into_response();
    };
    let read_only = request.method().is_safe();
    match tokio::time::timeout(limits.time, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let effect = if read_only {
                ""
            } else {
                "; whether the write took effect is unknown"
            };
            let message = format!("the request took longer than {:?}{effect}", limits.time);
            Status::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message)
                .retry_after(1)
                .into_response()
        }
    }
}

/// Names a request in logs and answers.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Begins series at nothing, so that the first event is a rise and not an appearance.
pub(crate) fn begin() {
    drop(counter!("weft_http_refused_total"));
    drop(counter!("weft_http_panics_total"));
}

/// Gives every request an id, and logs its outcome.
pub(crate) async fn log(mut request: Request, next: Next) -> Response {
    let id = request
        .headers()
        .get(&REQUEST_ID)
        .filter(|v| v.len() <= 128 && v.to_str().is_ok())
        .cloned()
        .unwrap_or_else(|| {
            HeaderValue::from_str(&uuid::Uuid::now_v7().to_string())
                .expect("a UUID is a valid header value")
        });
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let start = Instant::now();
    let mut response = next.run(request).await;
    let (code, elapsed) = (response.status().as_u16(), start.elapsed());
    if !is_probe(&path) {
        info!(
            %method,
            path,
            code,
            ms = elapsed.as_millis() as u64,
            id = id.to_str().unwrap_or_default(),
            "request"
        );
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// What a panic in a handler is answered with.
#[expect(clippy::needless_pass_by_value, reason = "tower-http's signature")]
pub(crate) fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let what = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("(no message)");
    error!(panic = what, "a handler panicked");
    counter!("weft_http_panics_total").increment(1);
    Status::internal("a defect in config-api: the request was given up; its log has the details")
        .into_response()
}
