//! Simulated Envoys by the thousand: each asks for everything, acknowledges everything, and keeps nothing.
//!
//! *Invariant:* a response costs the machine what receiving it costs; no resource is decoded.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::Flags;
use crate::mesh::Variant;
use crate::xds_client::Type;

/// Responses with more resources than this are not searched for an expected change.
const SEARCHED: usize = 16;

/// How many Envoys may be waiting for their first configuration.
const CONNECTING: u32 = 50;

/// What an Envoy asks for by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub(super) endpoints: Vec<String>,
    pub(super) routes: Vec<String>,
}

/// What both variants' responses have in the same fields, undecoded.
#[derive(Clone, PartialEq, prost::Message)]
struct Response {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    resources: Vec<Bytes>,
    #[prost(string, tag = "4")]
    type_url: String,
    #[prost(string, tag = "5")]
    nonce: String,
}

/// What the Envoys of a fleet have in common.
struct Shared {
    names: Names,
    /// What a change that is waited for holds, and who is told when it was answered.
    expected: RwLock<Option<(String, mpsc::UnboundedSender<Instant>)>>,
    arrived: mpsc::UnboundedSender<()>,
}

/// Open streams; they end when this is dropped.
pub(super) struct Fleet {
    shared: Arc<Shared>,
    _streams: JoinSet<Result<()>>,
}

/// Moments at which Envoys acknowledged what was expected.
pub(super) struct Acks(mpsc::UnboundedReceiver<Instant>);

impl Acks {
    /// The first `count` of them.
    pub(super) async fn take(&mut self, count: u32, limit: Duration) -> Result<Vec<Instant>> {
        let mut times = Vec::new();
        let all = async {
            for _ in 0..count {
                times.push(self.0.recv().await.context("the Envoys are gone")?);
            }
            anyhow::Ok(())
        };
        match tokio::time::timeout(limit, all).await {
            Ok(done) => done.map(|()| times),
            Err(_) => bail!(
                "{} of {count} Envoys acknowledged it within {limit:?}",
                times.len()
            ),
        }
    }
}

/// A connection of its own to the pusher.
pub(super) async fn channel(xds: SocketAddr) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{xds}"))?
        .initial_stream_window_size(1 << 24)
        .initial_connection_window_size(1 << 24)
        .tcp_nodelay(true);
    endpoint.connect().await.context("connecting to the pusher")
}

impl Fleet {
    /// Opens streams, as many as `CONNECTING` at a time, and waits until each was given everything.
    pub(super) async fn open(
        xds: SocketAddr,
        flags: &Flags,
        names: &Names,
        count: u32,
        limit: Duration,
    ) -> Result<Self> {
        Self::open_by(CONNECTING, xds, flags, names, count, limit).await
    }

    /// The same, so many at a time.
    pub(super) async fn open_by(
        at_once: u32,
        xds: SocketAddr,
        flags: &Flags,
        names: &Names,
        count: u32,
        limit: Duration,
    ) -> Result<Self> {
        let (arrived, mut arrivals) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            names: names.clone(),
            expected: RwLock::default(),
            arrived,
        });
        let mut streams = JoinSet::new();
        let mut connection = None;
        let all = async {
            for number in 0..count {
                if number % flags.streams_per_connection == 0 || connection.is_none() {
                    connection = Some(channel(xds).await?);
                }
                let to = connection.clone().context("it was just made")?;
                let (shared, node) = (shared.clone(), format!("sidecar~shop~w{number}"));
                match flags.variant {
                    Variant::Sotw => streams.spawn(envoy::<DiscoveryRequest>(to, node, shared)),
                    Variant::Delta => {
                        streams.spawn(envoy::<DeltaDiscoveryRequest>(to, node, shared))
                    }
                };
                if number >= at_once {
                    arrivals.recv().await;
                }
            }
            for _ in 0..count.min(at_once) {
                tokio::select! {
                    _ = arrivals.recv() => {}
                    Some(ended) = streams.join_next() => bail!("a stream ended: {ended:?}"),
                }
            }
            Ok(())
        };
        tokio::time::timeout(limit, all)
            .await
            .context("opening streams")??;
        Ok(Self {
            shared,
            _streams: streams,
        })
    }

    /// From now on, responses that hold this are waited for.
    pub(super) fn expect(&self, marker: &str) -> Acks {
        let (tell, acks) = mpsc::unbounded_channel();
        *self
            .shared
            .expected
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some((marker.to_owned(), tell));
        Acks(acks)
    }
}

/// A request of one of the variants.
trait Ask: prost::Message + Default + 'static {
    const METHOD: &'static str;
    /// `news`: names that were not asked for before; `names`: all of them.
    fn new(of: &Response, news: &[String], names: &[String]) -> Self;
    fn of_node(self, node: Node) -> Self;
}

impl Ask for DiscoveryRequest {
    const METHOD: &'static str = "StreamAggregatedResources";
    fn new(of: &Response, _: &[String], names: &[String]) -> Self {
        Self {
            type_url: of.type_url.clone(),
            version_info: of.version.clone(),
            response_nonce: of.nonce.clone(),
            resource_names: names.to_vec(),
            ..Self::default()
        }
    }
    fn of_node(mut self, node: Node) -> Self {
        self.node = Some(node);
        self
    }
}

impl Ask for DeltaDiscoveryRequest {
    const METHOD: &'static str = "DeltaAggregatedResources";
    fn new(of: &Response, news: &[String], _: &[String]) -> Self {
        Self {
            type_url: of.type_url.clone(),
            response_nonce: of.nonce.clone(),
            resource_names_subscribe: news.to_vec(),
            ..Self::default()
        }
    }
    fn of_node(mut self, node: Node) -> Self {
        self.node = Some(node);
        self
    }
}

/// One Envoy, until its stream ends.
async fn envoy<R: Ask>(channel: Channel, id: String, shared: Arc<Shared>) -> Result<()> {
    let (requests, outgoing) = mpsc::channel(8);
    let ask = |ty: Type, names: &[String]| {
        let first = Response {
            type_url: ty.url().into(),
            ..Response::default()
        };
        R::new(&first, names, names)
    };
    let node = Node {
        id,
        ..Node::default()
    };
    requests.send(ask(Type::Cluster, &[]).of_node(node)).await?;
    requests.send(ask(Type::Listener, &[])).await?;
    let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(256 << 20);
    grpc.ready().await?;
    let path = format!(
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/{}",
        R::METHOD
    );
    let codec = ProstCodec::<R, Response>::default();
    let request = tonic::Request::new(ReceiverStream::new(outgoing));
    let mut responses = grpc
        .streaming(request, PathAndQuery::try_from(path)?, codec)
        .await?
        .into_inner();
    let (mut missing, mut opened) = (
        shared.names.endpoints.len() + shared.names.routes.len(),
        Vec::new(),
    );
    while let Some(response) = responses.message().await? {
        let ty = Type::of(&response.type_url).context("a type that nobody asked for")?;
        let told = shared.told(&response);
        let mut answers = vec![R::new(&response, &[], shared.names.of(ty))];
        if let Some(other) = ty.refers_to().filter(|other| !opened.contains(other)) {
            opened.push(other);
            answers.push(ask(other, shared.names.of(other)));
        }
        if missing > 0 && ty.refers_to().is_none() {
            missing = missing.saturating_sub(response.resources.len());
            if missing == 0 {
                shared.arrived.send(())?;
            }
        }
        drop(response);
        for answer in answers {
            requests.send(answer).await?;
        }
        if let Some(told) = told {
            // Nobody may be waiting any more.
            let _ = told.send(Instant::now());
        }
    }
    bail!("the pusher closed the stream")
}

impl Names {
    fn of(&self, ty: Type) -> &[String] {
        match ty {
            Type::Endpoint => &self.endpoints,
            Type::Route => &self.routes,
            Type::Cluster | Type::Listener => &[],
        }
    }
}

impl Shared {
    /// Who is to be told that this response was answered.
    fn told(&self, response: &Response) -> Option<mpsc::UnboundedSender<Instant>> {
        let expected = self.expected.read().unwrap_or_else(PoisonError::into_inner);
        let (marker, tell) = expected
            .as_ref()
            .filter(|_| response.resources.len() <= SEARCHED)?;
        let holds = |bytes: &Bytes| {
            bytes
                .windows(marker.len())
                .any(|at| at == marker.as_bytes())
        };
        response.resources.iter().any(holds).then(|| tell.clone())
    }
}
