//! Watches the policy in the store, compiles it for each Envoy, and streams it over xDS.
//!
//! The parts: [`mesh`] owns the model and publishes snapshots; [`source`] connects streams to it; [`api`] answers config-api;
//! [`observe`] counts. The protocol is `xds`, the compilation `compile`, the watching `store`.
//!
//! *Invariant:* nothing here decides what an Envoy gets or when.

mod api;
mod config;
mod freshness;
mod guard;
mod mesh;
mod modes;
mod observe;
mod source;
mod state;

use std::sync::Arc;
use std::time::Duration;

use axum::middleware::from_fn_with_state;
use compile::Compiler;
use futures::{Stream, StreamExt};
use mtls::Own;
use pusher_api::v1::pusher_server::PusherServer;
use store::{Member, Scope, Store, Vault};
use telemetry::{Health, Metrics, TaskError, Tasks};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected, TcpIncoming};
use tracing::{info, warn};

pub use config::Config;

use crate::freshness::Freshness;
use crate::guard::Guard;
use crate::mesh::Mesh;
use crate::source::MeshSource;

/// The service name under which pushers register.
const SERVICE: &str = "xds-pusher";

/// How many questions and connecting proxies may wait for the owner of the model.
const COMMANDS: usize = 16_384;

/// How long a stream waits for the policy to be loaded and compiled for it, before it is asked to come again.
const LOAD: Duration = Duration::from_secs(10);

/// How many connections may wait between their handshake and being served.
const ACCEPTED: usize = 64;

/// How long open connections have to end when the service does.
const DRAIN: Duration = Duration::from_secs(1);

/// The sockets of a pusher, bound.
pub struct Listeners {
    grpc: TcpListener,
    admin: TcpListener,
}

impl Listeners {
    /// Binds the sockets; port 0 takes a free one.
    ///
    /// # Errors
    /// If an address is taken: it is named with its flag.
    pub async fn bind(config: &Config) -> Result<Self, BindError> {
        let bind = |flag, address| async move {
            TcpListener::bind(address)
                .await
                .map_err(|source| BindError {
                    flag,
                    address,
                    source,
                })
        };
        Ok(Self {
            grpc: bind("--listen", config.listen).await?,
            admin: bind("--admin-listen", config.admin_listen).await?,
        })
    }

    /// Where xDS is served.
    ///
    /// # Errors
    /// If the socket does not know.
    pub fn grpc(&self) -> std::io::Result<std::net::SocketAddr> {
        self.grpc.local_addr()
    }

    /// Where health and metrics are served.
    ///
    /// # Errors
    /// If the socket does not know.
    pub fn admin(&self) -> std::io::Result<std::net::SocketAddr> {
        self.admin.local_addr()
    }
}

/// An address cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("{address} cannot be bound; {flag} moves it")]
pub struct BindError {
    flag: &'static str,
    address: std::net::SocketAddr,
    source: std::io::Error,
}

/// Why a pusher ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its credential cannot be used.
    #[error("{0}")]
    Credential(String),
    /// The system namespace cannot be part of an identity.
    #[error("--system-namespace cannot be part of an identity")]
    SystemNamespace(#[from] model::SpiffeIdError),
    /// A part of it ended by itself.
    #[error(transparent)]
    Task(#[from] TaskError),
}

/// Runs a pusher until `shutdown` is cancelled.
///
/// # Errors
/// If its credential cannot be used, or a part of it ends by itself.
pub async fn run<S: Store + Vault>(
    config: Config,
    listeners: Listeners,
    store: Arc<S>,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let (store, vault): (Arc<dyn Store>, Arc<dyn Vault>) = (store.clone(), store);
    let health = Health::default();
    let metrics = Metrics::install();
    let instance = config
        .instance
        .clone()
        .unwrap_or_else(|| format!("pusher-{:08x}", rand::random::<u32>()));
    let compiler = Compiler::new(compile::Settings {
        domain: config.domain.clone(),
        root_namespace: config.root_namespace.clone(),
        identities: (!config.insecure_plaintext_xds)
            .then(|| compile::Identities::new(config.identity.trust_domain.clone())),
    });
    let (tell, told) = mpsc::unbounded_channel();
    let tell = (!config.insecure_plaintext_xds).then_some(tell);
    let mesh = Mesh::new(
        compiler,
        Freshness::new(store.clone()),
        &health,
        tell.clone(),
    );
    let revision = mesh.revision();
    let (commands, inbox) = mpsc::channel(COMMANDS);

    let mut tasks = Tasks::new(shutdown.clone());
    let (own, guard) = if config.insecure_plaintext_xds {
        (None, None)
    } else {
        let flags = &config.identity;
        let credential = flags.credential().map_err(RunError::Credential)?;
        let own = Own::keep(flags, credential, &store, &vault, &mut tasks, &health)?;
        let (publish, credentials) = watch::channel(None);
        let check = health.check("credentials", "not read yet");
        tasks.spawn_until_shutdown(
            "credentials",
            guard::follow_credentials(vault.clone(), publish, check),
        );
        let keeper = modes::Keeper {
            vault: vault.clone(),
            accounts: mesh.accounts(),
            told,
        };
        tasks.spawn_until_shutdown("modes", keeper.keep());
        let guard = Guard {
            trust_domain: config.identity.trust_domain.clone(),
            system_namespace: config.identity.system_namespace.as_str().into(),
            accounts: mesh.accounts(),
            credentials,
        };
        (Some(own), Some(guard))
    };
    let source = Arc::new(MeshSource {
        mesh: commands.clone(),
        guard: guard.clone(),
    });
    let server = xds::Server::new(source)
        .identifier(&instance)
        .load_timeout(LOAD)
        .callbacks(Arc::new(observe::Observer { tell }))
        .options(|options| options.late_removal = !config.unsafe_remove_early);
    let service = api::Service {
        instance: instance.clone(),
        streams: server.streams().clone(),
        revision: revision.clone(),
        watching: mesh.watching(),
        mesh: commands,
    };

    if let Some(guard) = guard.clone() {
        tasks.spawn_until_shutdown("expel", guard::expel(guard, server.streams().clone()));
    }
    tasks.spawn_until_shutdown("metrics", metrics.clone().upkeep());
    tasks.spawn_until_shutdown("mesh", {
        let (store, identities) = (store.clone(), guard.is_some());
        async move {
            let follow = || store.watch(Scope::default(), None, true);
            let watch = until_answered("watch the policy", follow).await;
            let modes = match identities {
                true => modes::follow(vault).await,
                false => futures::stream::pending().boxed(),
            };
            // Compilation takes the processor for as long as it needs, so it has a thread of its own.
            let owner = tokio::runtime::Handle::current();
            let ended =
                tokio::task::spawn_blocking(move || owner.block_on(mesh.run(watch, modes, inbox)))
                    .await;
            if let Err(error) = ended {
                tracing::error!(%error, "the owner of the model panicked");
            }
        }
    });
    let grpc = listeners
        .grpc
        .local_addr()
        .map_or(config.listen, |address| address);
    let admin = listeners
        .admin
        .local_addr()
        .map_or(config.admin_listen, |address| address);
    info!(%instance, xds = %grpc, %admin, "serving");
    let advertised = config.advertise.clone().unwrap_or_else(|| grpc.to_string());
    let member = Member {
        instance,
        addresses: [
            ("grpc".to_owned(), advertised),
            ("admin".to_owned(), admin.to_string()),
        ]
        .into(),
        since: model::Revision::default(),
    };
    tasks.spawn(
        "membership",
        membership(store, member, config.member_ttl, shutdown.clone()),
    );
    let routes = routes(&server, service, guard).await;
    let streams = server.streams().clone();
    match own {
        None => {
            let incoming = TcpIncoming::from(listeners.grpc).with_nodelay(Some(true));
            tasks.spawn("xds", serve(incoming, routes, streams, shutdown.clone()));
        }
        Some(own) => {
            let (accepted, connections) = mpsc::channel(ACCEPTED);
            tasks.spawn_until_shutdown(
                "accept",
                mtls::accept(listeners.grpc, own.serving, accepted),
            );
            let incoming = ReceiverStream::new(connections);
            tasks.spawn("xds", serve(incoming, routes, streams, shutdown.clone()));
        }
    }
    tasks.spawn("admin", {
        let router = telemetry::router(health, metrics);
        let shutdown = shutdown.clone();
        async move {
            axum::serve(listeners.admin, router)
                .with_graceful_shutdown(async move { shutdown.cancelled().await })
                .await
        }
    });
    Ok(tasks.run().await?)
}

/// Asks the store until it answers, with longer and longer pauses up to two seconds.
async fn until_answered<T, F>(what: &str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = store::Result<T>>,
{
    let mut pause = Duration::from_millis(50);
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => warn!(%error, "cannot {what} yet; trying again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

/// Is a member while the service runs.
async fn membership(
    store: Arc<dyn Store>,
    member: Member,
    ttl: Duration,
    shutdown: CancellationToken,
) -> Result<(), store::Error> {
    let join = || store.join(SERVICE, member.clone(), ttl);
    tokio::select! {
        () = shutdown.cancelled() => {}
        membership = until_answered("register this replica", join) => {
            shutdown.cancelled().await;
            membership.leave().await;
        }
    }
    Ok(())
}

/// xDS over gRPC and REST, the internal service, and gRPC's health protocol.
async fn routes(server: &xds::Server, service: api::Service, guard: Option<Guard>) -> axum::Router {
    let (reporter, grpc_health) = tonic_health::server::health_reporter();
    reporter
        .set_service_status("", tonic_health::ServingStatus::Serving)
        .await;
    let routes = server
        .routes()
        .add_service(PusherServer::new(service))
        .add_service(grpc_health)
        .into_axum_router()
        .merge(server.rest());
    match guard {
        None => routes,
        Some(guard) => routes.layer(from_fn_with_state(guard, guard::authorize)),
    }
}

/// Serves on one port.
async fn serve<C>(
    connections: impl Stream<Item = std::io::Result<C>>,
    routes: axum::Router,
    streams: xds::Streams,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error>
where
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let ending = shutdown.clone();
    let serving = xds::keepalive(tonic::transport::Server::builder())
        .accept_http1(true)
        .add_routes(routes.into())
        .serve_with_incoming_shutdown(connections, async move {
            ending.cancelled().await;
            streams.close_all(&tonic::Status::unavailable(
                "this replica is shutting down; connect to another",
            ));
        });
    tokio::select! {
        ended = serving => ended,
        // Watches and slow clients must not keep the process.
        () = async { shutdown.cancelled().await; tokio::time::sleep(DRAIN).await } => Ok(()),
    }
}
