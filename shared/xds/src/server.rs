//! The server: gRPC services for the aggregated stream and for each type, on one generic implementation.
//!
//! *Invariant:* nothing here decides what is sent; [`crate::session`] does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::routing::post;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use tokio::sync::mpsc;
use tonic::service::Routes;
use tonic::transport::server::TcpConnectInfo;
use tonic::{Request, Response, Status};

use crate::callbacks::{Callbacks, StreamInfo};
use crate::codec::{Frame, XdsCodec};
use crate::framing::{LARGEST_REQUEST, Requests, Responses};
use crate::session::{Options, Session};
use crate::stream::{AnyRequest, Stream};
use crate::streams::Streams;
use crate::{Peer, ResourceType, SnapshotSource};

/// Each type's own service: its name, and what its methods are called after `Stream`, `Delta` and `Fetch`.
const SERVICES: [(ResourceType, &str, &str); ResourceType::COUNT] = [
    (
        ResourceType::Cluster,
        "envoy.service.cluster.v3.ClusterDiscoveryService",
        "Clusters",
    ),
    (
        ResourceType::Endpoint,
        "envoy.service.endpoint.v3.EndpointDiscoveryService",
        "Endpoints",
    ),
    (
        ResourceType::Listener,
        "envoy.service.listener.v3.ListenerDiscoveryService",
        "Listeners",
    ),
    (
        ResourceType::Route,
        "envoy.service.route.v3.RouteDiscoveryService",
        "Routes",
    ),
    (
        ResourceType::ScopedRoute,
        "envoy.service.route.v3.ScopedRoutesDiscoveryService",
        "ScopedRoutes",
    ),
    (
        ResourceType::Secret,
        "envoy.service.secret.v3.SecretDiscoveryService",
        "Secrets",
    ),
    (
        ResourceType::Runtime,
        "envoy.service.runtime.v3.RuntimeDiscoveryService",
        "Runtime",
    ),
    (
        ResourceType::ExtensionConfig,
        "envoy.service.extension.v3.ExtensionConfigDiscoveryService",
        "ExtensionConfigs",
    ),
];

/// The service of aggregated streams, and what its methods are called after `Stream` and `Delta`.
const ADS: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
const ALL: &str = "AggregatedResources";

/// What the streams of a service are called after `Stream` and `Delta`, if it is one of ours.
pub(crate) fn noun(service: &str) -> Option<&'static str> {
    let own = || SERVICES.iter().find(|(_, name, _)| *name == service);
    match service {
        ADS => Some(ALL),
        _ => own().map(|(_, _, noun)| *noun),
    }
}

/// An xDS server on a source of snapshots. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) source: Arc<dyn SnapshotSource>,
    pub(crate) callbacks: Arc<dyn Callbacks>,
    pub(crate) streams: Streams,
    pub(crate) load_timeout: Duration,
    pub(crate) options: Options,
}

impl Server {
    /// A server with nothing but a source.
    pub fn new(source: Arc<impl SnapshotSource>) -> Self {
        Self {
            shared: Arc::new(Shared {
                source,
                callbacks: Arc::new(()),
                streams: Streams::default(),
                load_timeout: Duration::from_secs(5),
                options: Options::default(),
            }),
        }
    }

    /// With hooks.
    #[must_use]
    pub fn callbacks(self, callbacks: Arc<impl Callbacks>) -> Self {
        self.with(|shared| shared.callbacks = callbacks)
    }
    /// With this `control_plane.identifier` in every response: the name of the replica, usually (rule C2).
    #[must_use]
    pub fn identifier(self, identifier: &str) -> Self {
        self.with(|shared| shared.options.control_plane = identifier.into())
    }
    /// How long a stream waits for its first snapshot before it ends with `UNAVAILABLE`. 5 s unless set.
    #[must_use]
    pub fn load_timeout(self, timeout: Duration) -> Self {
        self.with(|shared| shared.load_timeout = timeout)
    }
    /// Changes how streams behave; see [`Options`].
    #[must_use]
    pub fn options(self, change: impl FnOnce(&mut Options)) -> Self {
        self.with(|shared| change(&mut shared.options))
    }
    fn with(mut self, change: impl FnOnce(&mut Shared)) -> Self {
        change(Arc::make_mut(&mut self.shared));
        self
    }

    /// The open streams.
    pub fn streams(&self) -> &Streams {
        &self.shared.streams
    }
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The gRPC services, for `tonic::transport::Server::builder().add_routes(…)`.
    pub fn routes(&self) -> Routes {
        let mut router = axum::Router::new()
            .route(
                &format!("/{ADS}/Stream{ALL}"),
                self.stream::<DiscoveryRequest>(None),
            )
            .route(
                &format!("/{ADS}/Delta{ALL}"),
                self.stream::<DeltaDiscoveryRequest>(None),
            );
        for (ty, service, noun) in SERVICES {
            router = router
                .route(
                    &format!("/{service}/Stream{noun}"),
                    self.stream::<DiscoveryRequest>(Some(ty)),
                )
                .route(
                    &format!("/{service}/Delta{noun}"),
                    self.stream::<DeltaDiscoveryRequest>(Some(ty)),
                )
                .route(&format!("/{service}/Fetch{noun}"), self.fetch_method(ty));
        }
        Routes::from(router)
    }

    fn stream<R: AnyRequest>(&self, only: Option<ResourceType>) -> axum::routing::MethodRouter {
        let shared = self.shared.clone();
        post(async move |request| {
            open::<R>(shared, only, request).unwrap_or_else(Status::into_http)
        })
    }

    fn fetch_method(&self, ty: ResourceType) -> axum::routing::MethodRouter {
        let server = self.clone();
        post(move |request: axum::extract::Request| async move {
            let fetch = Fetch { server, ty };
            let codec = XdsCodec::<DiscoveryRequest>::default();
            tonic::server::Grpc::new(codec)
                .max_decoding_message_size(LARGEST_REQUEST)
                .unary(fetch, request)
                .await
        })
    }
}

/// Settings of a tonic server that suit xDS: HTTP/2 keepalive every 30 s, given up after 5 s.
pub fn keepalive<L>(builder: tonic::transport::Server<L>) -> tonic::transport::Server<L> {
    builder
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .tcp_nodelay(true)
}

type BoxFuture<T> = std::pin::Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send>>;

/// Opens a stream.
#[allow(clippy::result_large_err, reason = "tonic's error type")]
fn open<R: AnyRequest>(
    shared: Arc<Shared>,
    only: Option<ResourceType>,
    request: axum::extract::Request,
) -> Result<http::Response<Body>, Status> {
    let (parts, body) = request.into_parts();
    let info = StreamInfo {
        id: shared.streams.next_id(),
        variant: R::VARIANT,
        only,
        opened: std::time::SystemTime::now(),
        peer: peer(parts.extensions),
        node: None,
    };
    shared.callbacks.on_stream_open(&info)?;
    let nonce = format!("{:x}-", rand::random::<u32>());
    let options = Options {
        nonce,
        only,
        ..shared.options.clone()
    };
    let session = Session::new(R::VARIANT, options, Instant::now());
    let closed = shared.streams.add(info.clone());
    let (outbound, frames) = mpsc::channel(1);
    let stream = Stream {
        shared,
        info,
        session,
        inbound: Requests::<R>::new(body),
        outbound,
        closed,
    };
    tokio::spawn(stream.run());
    let mut response = http::Response::new(Body::new(Responses::new(frames)));
    let grpc = http::HeaderValue::from_static("application/grpc");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, grpc);
    Ok(response)
}

/// Who opened a stream, from what the transport and interceptors attached. Over TLS, whoever terminates it attaches the
/// address.
pub fn peer(extensions: http::Extensions) -> Peer {
    let address = extensions
        .get::<TcpConnectInfo>()
        .and_then(TcpConnectInfo::remote_addr);
    let address = address.or_else(|| extensions.get::<std::net::SocketAddr>().copied());
    Peer {
        address,
        extensions,
    }
}

/// A request for a single answer.
struct Fetch {
    server: Server,
    ty: ResourceType,
}

impl tonic::server::UnaryService<DiscoveryRequest> for Fetch {
    type Response = Frame;
    type Future = BoxFuture<Frame>;

    fn call(&mut self, request: Request<DiscoveryRequest>) -> Self::Future {
        let (server, ty) = (self.server.clone(), self.ty);
        Box::pin(async move {
            let (_, extensions, request) = request.into_parts();
            let response = server.fetch(ty, &peer(extensions), &request).await?;
            Ok(Response::new(Frame(response.into_chunks())))
        })
    }
}
