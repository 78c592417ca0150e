//! The backend's connections and answers.
//!
//! *Invariant:* a request is remembered before it is answered, so whoever holds an answer finds its request.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::HOST;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::plan::Plan;
use super::{Seen, Shared};
use crate::http;

type Body = BoxBody<Bytes, Infallible>;

/// What is known of a connection before its first request.
#[derive(Clone)]
struct Connection {
    peer: SocketAddr,
    tls: bool,
    sni: Option<String>,
}

pub(super) async fn accept(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let Ok((stream, peer)) = accepted else {
            continue;
        };
        let _best_effort = stream.set_nodelay(true);
        let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            let Some(acceptor) = acceptor else {
                return connection(
                    stream,
                    Connection {
                        peer,
                        tls: false,
                        sni: None,
                    },
                    shared,
                )
                .await;
            };
            match acceptor.accept(stream).await {
                Ok(stream) => {
                    let sni = stream.get_ref().1.server_name().map(str::to_owned);
                    connection(
                        stream,
                        Connection {
                            peer,
                            tls: true,
                            sni,
                        },
                        shared,
                    )
                    .await;
                }
                Err(error) => tracing::debug!("TLS with {peer}: {error}"),
            }
        }));
    }
}

async fn connection<S>(stream: S, about: Connection, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| answer(request, about.clone(), Arc::clone(&shared)));
    let builder = auto::Builder::new(TokioExecutor::new());
    if let Err(error) = builder
        .serve_connection(TokioIo::new(stream), service)
        .await
    {
        tracing::debug!("connection of {}: {error}", about.peer);
    }
}

async fn answer(
    request: Request<Incoming>,
    about: Connection,
    shared: Arc<Shared>,
) -> Result<Response<Body>, hyper::Error> {
    match request.uri().path() {
        "/healthz" => return Ok(health(&shared)),
        "/healthz/up" | "/healthz/down" => {
            shared
                .healthy
                .store(request.uri().path() == "/healthz/up", Ordering::Relaxed);
            return Ok(health(&shared));
        }
        path => {
            if let Some(key) = path.strip_prefix("/release/") {
                shared.released.send_modify(|keys| {
                    keys.insert(key.to_owned());
                });
                let body = Full::new("released\n".into()).boxed();
                return Ok(response(StatusCode::OK, "text/plain", body));
            }
        }
    }
    let (head, body) = request.into_parts();
    let body = String::from_utf8_lossy(&body.collect().await?.to_bytes()).into_owned();
    let authority = head
        .uri
        .authority()
        .map(ToString::to_string)
        .or_else(|| text(&head.headers, HOST.as_str()));
    let scheme = if head.version == Version::HTTP_2 {
        head.uri.scheme_str().map(str::to_owned)
    } else {
        None
    };
    let mut seen = Seen {
        service: shared.settings.service.clone(),
        version: shared.settings.version.clone(),
        method: head.method.to_string(),
        path: head
            .uri
            .path_and_query()
            .map_or("/", |p| p.as_str())
            .to_owned(),
        authority: authority.unwrap_or_default(),
        scheme: scheme.unwrap_or_else(|| if about.tls { "https" } else { "http" }.to_owned()),
        protocol: format!("{:?}", head.version),
        sni: about.sni,
        headers: head
            .headers
            .keys()
            .filter_map(|n| Some((n.to_string(), text(&head.headers, n.as_str())?)))
            .collect(),
        body,
        peer: about.peer.to_string(),
        count: shared.count.fetch_add(1, Ordering::Relaxed) + 1,
        calls: serde_json::Map::new(),
    };
    shared.remember(&seen);
    let plan = Plan::read(&seen.path, |name| head.headers.get(name)?.to_str().ok());
    if let Some(delay) = plan.delay {
        tokio::time::sleep(delay).await;
    }
    let must_fail = plan
        .fail
        .as_ref()
        .is_some_and(|(times, key)| shared.must_fail(key, *times));
    let always = Some(shared.status.load(Ordering::Relaxed)).filter(|status| *status != 0);
    let status = if must_fail {
        Some(503)
    } else {
        plan.status.or(always)
    };
    let status = status
        .and_then(|code| StatusCode::from_u16(code).ok())
        .unwrap_or(StatusCode::OK);
    if let Some((lines, pause)) = plan.drip {
        return Ok(response(
            status,
            "text/plain",
            drip(&seen.version, lines, pause),
        ));
    }
    if let Some(key) = plan.hold {
        let body = hold(&seen.version, key, shared.released.subscribe());
        return Ok(response(status, "text/plain", body));
    }
    for (name, url) in &shared.settings.calls {
        let reply = call(url, shared.settings.proxy.as_deref(), &head.headers).await;
        seen.calls.insert(name.clone(), reply);
    }
    let json = serde_json::to_vec(&seen).expect("strings and numbers can be written as JSON");
    Ok(response(
        status,
        "application/json",
        Full::new(json.into()).boxed(),
    ))
}

fn health(shared: &Shared) -> Response<Body> {
    let healthy = shared.healthy.load(Ordering::Relaxed);
    let (status, word) = if healthy {
        (StatusCode::OK, "up\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "down\n")
    };
    response(status, "text/plain", Full::new(word.into()).boxed())
}

fn response(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(
        hyper::header::CONTENT_TYPE,
        hyper::http::HeaderValue::from_static(content_type),
    );
    response
}

fn drip(version: &str, lines: u32, pause: Duration) -> Body {
    let version = version.to_owned();
    let lines = stream::unfold(0, move |n| {
        let version = version.clone();
        async move {
            if n == lines {
                return None;
            }
            tokio::time::sleep(pause).await;
            Some((
                Ok::<_, Infallible>(Frame::data(Bytes::from(format!("{version} {n}\n")))),
                n + 1,
            ))
        }
    });
    StreamBody::new(lines).boxed()
}

/// A line, and a last one when the key is released.
fn hold(version: &str, key: String, mut released: watch::Receiver<BTreeSet<String>>) -> Body {
    let line = |what| Ok(Frame::data(Bytes::from(format!("{version} {what}\n"))));
    let (first, last) = (line("held"), line("released"));
    let rest = stream::once(async move {
        // The backend lives as long as its connections, and it holds the other end.
        let _backend_gone = released.wait_for(|keys| keys.contains(&key)).await;
        last
    });
    StreamBody::new(futures::StreamExt::chain(
        stream::once(async { first }),
        rest,
    ))
    .boxed()
}

/// Calls another service with the request's trace and test headers, and returns its answer or what went wrong.
async fn call(url: &str, proxy: Option<&str>, headers: &HeaderMap) -> serde_json::Value {
    let client = match proxy.map(http::through).transpose() {
        Ok(client) => client.unwrap_or_else(|| http::client().clone()),
        Err(error) => return format!("{error:#}").into(),
    };
    let mut request = client.get(url);
    for (name, value) in headers {
        if [
            "traceparent",
            "tracestate",
            "x-request-id",
            "x-user",
            "x-version",
        ]
        .contains(&name.as_str())
        {
            request = request.header(name, value);
        }
    }
    match http::send(request).await {
        Ok(answer) => answer
            .json()
            .unwrap_or_else(|_| format!("{}: {}", answer.status, answer.body).into()),
        Err(error) => format!("{error:#}").into(),
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let values: Vec<_> = headers
        .get_all(name)
        .iter()
        .map(|v| String::from_utf8_lossy(v.as_bytes()))
        .collect();
    (!values.is_empty()).then(|| values.join(","))
}
