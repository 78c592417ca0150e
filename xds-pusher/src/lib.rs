//! Watches the policy in the store, compiles it for each Envoy, and streams it over xDS.
//!
//! The parts: [`mesh`] owns the model and publishes snapshots; [`source`] connects streams to it; [`api`] answers config-api;
//! [`observe`] counts. The protocol is `xds`, the compilation `compile`, the watching `store`.
//!
//! *Invariant:* nothing here decides what an Envoy gets or when.

mod admit;
mod api;
mod config;
mod freshness;
mod guard;
mod link;
mod mesh;
mod modes;
mod observe;
mod pass;
mod reads;
mod serve;
mod shards;
mod source;
mod state;
mod trace;
mod views;

use std::sync::Arc;
use std::time::Duration;

use compile::Compiler;
use futures::StreamExt;
use mtls::Own;
use store::{Member, Scope, Store, Vault, until_answered};
use telemetry::{Health, Metrics, TaskError, Tasks};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tracing::info;

pub use config::Config;

use crate::admit::Admission;
use crate::freshness::Freshness;
use crate::guard::Guard;
use crate::link::{Links, Transport};
use crate::mesh::Mesh;
use crate::pass::{Pass, Passing};
use crate::reads::Reads;
use crate::serve::{Replica, routes, serve};
use crate::shards::Shards;
use crate::source::MeshSource;

/// The service name under which pushers register.
const SERVICE: &str = "xds-pusher";

/// How many questions and connecting proxies may wait for the owner of the model.
const COMMANDS: usize = 16_384;

/// How long a stream waits for the policy to be loaded and compiled for it, before it is asked to come again.
const LOAD: Duration = Duration::from_secs(10);

/// How many connections may wait between their handshake and being served.
const ACCEPTED: usize = 64;

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
    observe::begin();
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
    let (tracer, heard) = trace::Tracer::new().unzip();
    let commits = observe::Commits::default();
    // Who is told to stop drains first, and everything goes on while it does.
    let end = CancellationToken::new();
    let mut tasks = Tasks::new(end.clone());
    let (publish, members) = watch::channel(Vec::new());
    tasks.spawn_until_shutdown(
        "members",
        store::follow_members(store.clone(), SERVICE, publish),
    );
    let own = if config.insecure_plaintext_xds {
        None
    } else {
        let flags = &config.identity;
        let credential = flags.credential().map_err(RunError::Credential)?;
        Some(Own::keep(
            flags, credential, &store, &vault, &mut tasks, &health,
        )?)
    };
    let transport = match &own {
        None => Transport::Plaintext,
        Some(own) => {
            let pusher = config.identity.service(SERVICE)?.id();
            Transport::Mutual(own.current.clone(), pusher)
        }
    };
    let links = Arc::new(Links::new(transport, members.clone()));
    let shards = Shards {
        own: instance.as_str().into(),
        members,
    };
    let (publish_epoch, epoch) = watch::channel(String::new());
    let peers = freshness::Peers {
        shards: shards.clone(),
        links: links.clone(),
        epoch: epoch.clone(),
    };
    let mesh = Mesh::new(
        compiler,
        commits.clone(),
        Freshness::new(store.clone(), peers),
        &health,
        tell.clone(),
        tracer.clone(),
        publish_epoch,
    );
    let revision = mesh.revision();
    let (commands, inbox) = mpsc::channel(COMMANDS);
    let guard = own.is_some().then(|| {
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
        Guard {
            trust_domain: config.identity.trust_domain.clone(),
            system_namespace: config.identity.system_namespace.as_str().into(),
            accounts: mesh.accounts(),
            credentials,
        }
    });
    let passing = Passing::default();
    let admission = Admission::new(config.admit_at_once.into(), config.admission_queue.into());
    let source = Arc::new(MeshSource {
        mesh: commands.clone(),
        guard: guard.clone(),
    });
    let server = xds::Server::new(source)
        .identifier(&instance)
        .load_timeout(LOAD)
        .callbacks(Arc::new(xds::Metered::new(
            Arc::new(observe::Observer::new(tell, tracer.clone(), commits)),
            &xds::ResourceType::ALL,
        )))
        .options(|options| options.late_removal = !config.unsafe_remove_early);
    let service = api::Service {
        instance: instance.clone(),
        streams: server.streams().clone(),
        revision: revision.clone(),
        watching: mesh.watching(),
        sides: mesh.sides(),
        mesh: commands.clone(),
        shards: shards.clone(),
        passing: passing.clone(),
        admission: admission.clone(),
        epoch,
    };
    let able = serve::able(mesh.accounts(), &guard, &own);

    if let Some(guard) = guard.clone() {
        tasks.spawn_until_shutdown(
            "expel",
            guard::expel(guard, server.streams().clone(), passing.clone()),
        );
    }
    if let (Some(tracer), Some(heard)) = (tracer, heard) {
        let streams = server.streams().clone();
        tasks.spawn("traces", trace::run(tracer, heard, streams, end.clone()));
    }
    tasks.spawn_until_shutdown("metrics", metrics.clone().upkeep());
    tasks.spawn_until_shutdown("lag", observe::lag(store.clone(), revision.clone()));
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
    tasks.spawn_until_shutdown(
        "rebalance",
        shards::send_home(
            shards.clone(),
            links.clone(),
            server.streams().clone(),
            config.rebalance_period,
        ),
    );
    let pass = Pass {
        shards: shards.clone(),
        links,
        guard: guard.clone(),
        passing: passing.clone(),
        admission,
        mesh: commands,
        room: Arc::new(Reads::new(pass::ROOM)),
    };
    let routes = routes(&server, service, guard, pass, &health);
    let streams = server.streams().clone();
    let replica = Replica {
        store,
        member,
        ttl: config.member_ttl,
        shards,
        streams: streams.clone(),
        passing,
        drain: config.drain_period,
    };
    tasks.spawn(
        "membership",
        replica.be(able, shutdown.clone(), end.clone()),
    );
    let stops = [shutdown, end.clone()];
    match own {
        None => {
            let incoming = TcpIncoming::from(listeners.grpc).with_nodelay(Some(true));
            tasks.spawn("xds", serve(incoming, routes, stops));
        }
        Some(own) => {
            let (accepted, connections) = mpsc::channel(ACCEPTED);
            tasks.spawn_until_shutdown(
                "accept",
                mtls::accept(listeners.grpc, own.serving, accepted),
            );
            let incoming = ReceiverStream::new(connections);
            tasks.spawn("xds", serve(incoming, routes, stops));
        }
    }
    tasks.spawn("admin", {
        let router = telemetry::router(&health, metrics);
        async move {
            axum::serve(listeners.admin, router)
                .with_graceful_shutdown(async move { end.cancelled().await })
                .await
        }
    });
    Ok(tasks.run().await?)
}
