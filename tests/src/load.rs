//! Constant load over several keep-alive connections, every failure recorded.
//!
//! *Invariant:* a request is retried only when hyper says it was never written; whatever may have reached the proxy and
//! was not answered with a 2xx is a failure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::wait::PATIENCE;

/// The protocol a load speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, one request at a time on each connection.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// A load to be put on an address.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where the connections go.
    pub target: SocketAddr,
    /// The host asked for.
    pub authority: String,
    /// Paths, asked for in turn.
    pub paths: Vec<String>,
    /// Headers of every request.
    pub headers: Vec<(String, String)>,
    /// How many connections.
    pub connections: u32,
    /// How many requests per second over all connections.
    pub per_second: u32,
    /// Ends after so many requests over all connections.
    pub at_most: u64,
    /// Ends after this time.
    pub within: Duration,
    /// What it speaks.
    pub protocol: Protocol,
}

impl Load {
    /// Four HTTP/1.1 connections, 200 requests per second, for at most twenty minutes.
    pub fn new(target: SocketAddr, authority: &str, path: &str) -> Self {
        Self {
            target,
            authority: authority.to_owned(),
            paths: vec![path.to_owned()],
            headers: Vec::new(),
            connections: 4,
            per_second: 200,
            at_most: u64::MAX,
            within: Duration::from_secs(1200),
            protocol: Protocol::Http1,
        }
    }

    /// Starts it.
    pub fn start(self) -> Running {
        let under_way = UnderWay {
            load: Arc::new(self),
            start: Instant::now(),
            stop: CancellationToken::new(),
            made: Arc::default(),
        };
        let connections =
            (0..under_way.load.connections).map(|n| one_connection(under_way.clone(), n));
        Running {
            tasks: connections.collect(),
            stop: under_way.stop,
            made: under_way.made,
        }
    }
}

/// A request that was not answered with a 2xx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When, since the load's start.
    pub at: Duration,
    /// The path and what happened.
    pub reason: String,
}

/// What came of a load.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Requests made.
    pub sent: u64,
    /// Successful answers by what the demo backend says it is: `service version`.
    pub answers: BTreeMap<String, u64>,
    /// Failures in the order of time.
    pub failures: Vec<Failure>,
}

impl Report {
    /// Itself if nothing failed and something was sent.
    ///
    /// # Errors
    /// With the first failures otherwise.
    pub fn flawless(self) -> Result<Self> {
        if self.sent == 0 {
            bail!("the load sent nothing");
        }
        if self.failures.is_empty() {
            return Ok(self);
        }
        let first: Vec<String> = self
            .failures
            .iter()
            .take(5)
            .map(|f| format!("{:?}: {}", f.at, f.reason))
            .collect();
        bail!(
            "{} of {} requests failed: {}",
            self.failures.len(),
            self.sent,
            first.join(" | ")
        )
    }
}

/// A load under way. Stops when dropped.
pub struct Running {
    tasks: JoinSet<Report>,
    stop: CancellationToken,
    made: Arc<AtomicU64>,
}

impl Running {
    /// How many requests have been answered, or have failed, so far.
    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Lets requests under way finish and reports.
    pub async fn stop(self) -> Report {
        self.stop.cancel();
        self.finish().await
    }

    /// Waits for the bounds of the load and reports.
    pub async fn finish(self) -> Report {
        let mut total = Report::default();
        for part in self.tasks.join_all().await {
            total.sent += part.sent;
            total.failures.extend(part.failures);
            for (who, count) in part.answers {
                *total.answers.entry(who).or_default() += count;
            }
        }
        total.failures.sort_by_key(|f| f.at);
        total
    }
}

/// What the connections of a load share.
#[derive(Clone)]
struct UnderWay {
    load: Arc<Load>,
    start: Instant,
    stop: CancellationToken,
    made: Arc<AtomicU64>,
}

async fn one_connection(under_way: UnderWay, number: u32) -> Report {
    let UnderWay {
        load,
        start,
        stop,
        made,
    } = under_way;
    let mut report = Report::default();
    let mut pace =
        tokio::time::interval(Duration::from_secs(1) * load.connections / load.per_second.max(1));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let share = load.at_most / u64::from(load.connections)
        + u64::from(u64::from(number) < load.at_most % u64::from(load.connections));
    let mut connection = None;
    while report.sent < share && start.elapsed() < load.within {
        if stop.run_until_cancelled(pace.tick()).await.is_none() {
            break;
        }
        let path = &load.paths[usize::try_from(report.sent).unwrap_or_default() % load.paths.len()];
        report.sent += 1;
        match request(&load, path, &mut connection).await {
            Ok(who) => *report.answers.entry(who).or_default() += 1,
            Err(error) => {
                connection = None;
                report.failures.push(Failure {
                    at: start.elapsed(),
                    reason: format!("{path}: {error:#}"),
                });
            }
        }
        made.fetch_add(1, Ordering::Relaxed);
    }
    report
}

/// One request; returns who answered.
async fn request(load: &Load, path: &str, connection: &mut Option<Sender>) -> Result<String> {
    let answer = async {
        let response = send(load, path, connection).await?;
        let status = response.status();
        let flags = response
            .headers()
            .get("x-envoy-overloaded")
            .map(|_| " (overloaded)")
            .unwrap_or_default();
        let body = response
            .into_body()
            .collect()
            .await
            .context("reading the body")?
            .to_bytes();
        if !status.is_success() {
            bail!(
                "{}{flags}: {}",
                status.as_u16(),
                String::from_utf8_lossy(&body)
            );
        }
        Ok(who(&body))
    };
    tokio::time::timeout(PATIENCE, answer)
        .await
        .context("no answer in time")?
}

/// Sends on the connection, on a new one if there is none or it was closed before the request was written.
async fn send(
    load: &Load,
    path: &str,
    connection: &mut Option<Sender>,
) -> Result<Response<Incoming>> {
    for _ in 0..3 {
        let sender = match connection {
            Some(sender) => sender,
            None => connection.insert(Sender::connect(load).await?),
        };
        match sender.try_send(new_request(load, path)?).await {
            Ok(response) => return Ok(response),
            Err(Unsent::Yes) => *connection = None,
            Err(Unsent::No(error)) => return Err(anyhow!(error).context("sending")),
        }
    }
    bail!("three connections were closed before a request could be written")
}

fn new_request(load: &Load, path: &str) -> Result<Request<Empty<Bytes>>> {
    let mut request = match load.protocol {
        Protocol::Http1 => Request::get(path).header(hyper::header::HOST, &load.authority),
        Protocol::Http2 => Request::get(format!("http://{}{path}", load.authority).parse::<Uri>()?),
    };
    for (name, value) in &load.headers {
        request = request.header(name, value);
    }
    Ok(request.body(Empty::new())?)
}

fn who(body: &[u8]) -> String {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    format!(
        "{} {}",
        json["service"].as_str().unwrap_or("?"),
        json["version"].as_str().unwrap_or("?")
    )
}

enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

/// Why a request has no answer: it was never written, or something went wrong after.
enum Unsent {
    Yes,
    No(hyper::Error),
}

impl Sender {
    async fn connect(load: &Load) -> Result<Self> {
        let stream = TcpStream::connect(load.target)
            .await
            .context("connecting")?;
        stream.set_nodelay(true)?;
        let io = TokioIo::new(stream);
        match load.protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(io).await?;
                tokio::spawn(connection);
                Ok(Self::Http1(sender))
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
                tokio::spawn(connection);
                Ok(Self::Http2(sender))
            }
        }
    }

    async fn try_send(
        &mut self,
        request: Request<Empty<Bytes>>,
    ) -> Result<Response<Incoming>, Unsent> {
        let sent = match self {
            Self::Http1(sender) => {
                if sender.ready().await.is_err() {
                    return Err(Unsent::Yes);
                }
                sender.try_send_request(request).await
            }
            Self::Http2(sender) => {
                if sender.ready().await.is_err() {
                    return Err(Unsent::Yes);
                }
                sender.try_send_request(request).await
            }
        };
        sent.map_err(|mut error| match error.take_message() {
            Some(_never_written) => Unsent::Yes,
            None => Unsent::No(error.into_error()),
        })
    }
}
