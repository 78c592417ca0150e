//! The mesh's certificate authority: SPIFFE identities for workloads, signed, renewed and rotated.
//!
//! The pure core: [`key`] and [`x509`] make keys and certificates, [`authority`] is what replicas share and how it
//! rotates, [`envelope`] encrypts it, [`jwt`] signs tokens. The shells: [`ca`] keeps the authority in the store, `uploads` opens what
//! people uploaded, `federation` fetches what other trust domains are known by, [`workloads`] keeps certificates of connected proxies, [`caller`] says who asks, [`sds`], [`api`] and [`admin`] answer.
//!
//! *Invariant:* a private key leaves this process only encrypted, or to the workload whose identity it is.

mod admin;
mod api;
pub mod authority;
pub mod ca;
pub mod caller;
mod config;
pub mod credential;
pub mod envelope;
mod federation;
pub mod jwt;
pub mod key;
mod pem;
mod replicas;
pub mod sds;
mod tls;
mod trace;
mod uploads;
pub mod workloads;
pub mod x509;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use issuer_api::v1::issuer_server::IssuerServer;
use metrics::counter;
use store::{Area, Entries, Member, Store, Vault, until_answered};
use telemetry::{Check, Health, Metrics, TaskError, Tasks};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tracing::info;

pub use config::{AuthorityFlags, Config, ConfigError};

use crate::ca::Ca;
use crate::caller::Gate;
use crate::federation::Troubles;
use crate::federation::refresh::Refresher;
use crate::sds::Sds;
use crate::workloads::{Beside, Terms, Workloads};

/// The service name under which issuers register.
pub const SERVICE: &str = "cert-issuer";

/// How many proxies may wait for their certificate.
const CONNECTING: usize = 16_384;

/// How many connections may wait between their handshake and being served.
const ACCEPTED: usize = 64;

/// How long open connections have to end when the service does.
const DRAIN: Duration = Duration::from_secs(1);

/// The sockets of an issuer, bound.
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

    /// Where identities are served.
    ///
    /// # Errors
    /// If the socket does not know.
    pub fn grpc(&self) -> std::io::Result<std::net::SocketAddr> {
        self.grpc.local_addr()
    }

    /// Where health, metrics and the bundle are served.
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

/// Why an issuer ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its flags.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A part of it ended by itself.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// A socket was lost.
    #[error("a socket does not know its address")]
    Socket(#[from] std::io::Error),
}

/// Runs an issuer until `shutdown` is cancelled.
///
/// # Errors
/// If the flags cannot be used, or a part of it ends by itself.
pub async fn run<S: Store + Vault>(
    config: Config,
    listeners: Listeners,
    store: Arc<S>,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    config.authority.check()?;
    let policy = config.authority.policy();
    let trust_domain = config.authority.trust_domain.clone();
    let identity = config.identity()?;
    let web = config.bundle_endpoint_authorities()?;
    let ca = Ca::new(
        store.clone(),
        config.authority.keys()?,
        trust_domain.clone(),
        policy,
    );
    let (health, metrics) = (Health::default(), Metrics::install());
    begin();
    let instance = config.instance.clone();
    let instance = instance.unwrap_or_else(|| format!("issuer-{:08x}", rand::random::<u32>()));
    let (grpc, admin) = (listeners.grpc()?, listeners.admin()?);
    let advertised = config.advertise.clone().unwrap_or_else(|| grpc.to_string());
    let member = Member {
        instance: instance.clone(),
        addresses: [
            ("grpc".to_owned(), advertised),
            ("admin".to_owned(), admin.to_string()),
        ]
        .into(),
        since: model::Revision::default(),
    };

    let mut tasks = Tasks::new(shutdown.clone());
    tasks.spawn_until_shutdown("metrics", metrics.clone().upkeep());

    let (publish, current) = watch::channel(None);
    let check = health.check("authority", "the certificate authority was not read yet");
    let causes = trace::Causes::default();
    let answers = causes.answers.clone();
    tasks.spawn_until_shutdown(
        "authority",
        ca.clone().follow(publish, causes.authority.clone(), check),
    );

    let (publish, credentials) = watch::channel(None);
    let check = health.check("credentials", "the credentials were not read yet");
    tasks.spawn_until_shutdown(
        "credentials",
        follow_credentials(store.clone(), publish, check),
    );

    let troubles = Troubles::new(health.check("federation", "MeshConfig was not read yet"));
    let refresher = federation(&mut tasks, &store, &config, web, troubles.into());
    let federated = refresher.federated.clone();
    tasks.spawn(
        "federation refresh",
        refresher.lead(instance.clone(), shutdown.clone()),
    );

    let gate = Gate::new(trust_domain, credentials.clone(), store.clone());
    let (workloads, connecting) = mpsc::channel(CONNECTING);
    let (publish, uploads) = watch::channel(None);
    let check = health.check("uploads", "the TlsSecrets were not read yet");
    tasks.spawn_until_shutdown(
        "uploads",
        uploads::follow(
            store.clone(),
            current.clone(),
            publish,
            causes.uploads.clone(),
            check,
        ),
    );
    let check = health.check("signing", "not started");
    let terms = Terms {
        ttl: policy.jwt_ttl,
        issuer_url: config.issuer_url.clone(),
    };
    let beside = Beside {
        uploads,
        federated: federated.clone(),
    };
    let owner = Workloads::new(
        current.clone(),
        beside,
        causes,
        policy.svid_ttl,
        terms,
        check,
    );
    tasks.spawn_until_shutdown("workloads", owner.run(connecting));

    let sds = Arc::new(Sds {
        gate: gate.clone(),
        federated,
        workloads,
        answers,
    });
    let server = xds::Server::new(sds.clone())
        .identifier(&instance)
        .callbacks(Arc::new(xds::Metered::new(
            sds,
            &[xds::ResourceType::Secret],
        )));
    let streams = server.streams().clone();
    tasks.spawn_until_shutdown(
        "expel",
        sds::expel(gate.clone(), streams.clone(), credentials),
    );

    let (replicas, cut) = watch_replicas(&mut tasks, store.clone());
    let overlap = policy.overlap.unsigned_abs();
    let own = Arc::new(replicas::Own::new(streams.clone(), cut, overlap));
    let (publish, said) = watch::channel(None);
    tasks.spawn_until_shutdown(
        "acknowledged",
        replicas::say(current.clone(), own.clone(), publish),
    );
    let seen = {
        let instance = instance.clone();
        move || replicas::together(own.acknowledged(), &instance, replicas.borrow().as_deref())
    };
    tasks.spawn(
        "leader",
        ca.lead(instance.clone(), current.clone(), seen, shutdown.clone()),
    );

    let (publish, serving) = watch::channel(None);
    let own = tls::Own {
        identity,
        server_names: config.server_names.clone(),
        ttl: policy.svid_ttl,
    };
    let check = health.check("tls", "the issuer has no certificate of its own yet");
    tasks.spawn_until_shutdown("tls", own.keep(current.clone(), publish, check));
    let (accepted, connections) = mpsc::channel(ACCEPTED);
    tasks.spawn_until_shutdown("accept", mtls::accept(listeners.grpc, serving, accepted));

    let api = api::Api {
        current: current.clone(),
        policy,
        issuer_url: config.issuer_url.clone(),
        named: Arc::new((config.api()?, config.api_server_names.clone())),
    };
    let routes = server
        .routes()
        .add_service(IssuerServer::new(api.clone()))
        .into_axum_router()
        .merge(server.rest())
        .merge(api.rest())
        .layer(axum::middleware::from_fn_with_state(
            gate,
            caller::authenticate,
        ))
        // A bundle endpoint of the profile https_spiffe must not ask who asks (Federation 5.2.2.3).
        .merge(admin::bundle_endpoint(current.clone(), policy))
        .merge(telemetry::grpc_health(&health));
    let routes = telemetry::counted(routes, &[issuer_api::v1::FILE_DESCRIPTOR_SET]);
    info!(%instance, grpc = %grpc, %admin, "serving");
    tasks.spawn("grpc", {
        let shutdown = shutdown.clone();
        serve(connections, routes, streams, shutdown)
    });
    tasks.spawn("membership", {
        let ttl = Duration::from_secs(config.member_ttl);
        membership(store, member, ttl, said, shutdown.clone())
    });
    tasks.spawn("admin", {
        let router = telemetry::router(&health, metrics)
            .merge(admin::bundle_endpoint(current.clone(), policy))
            .merge(admin::router(current, config.issuer_url.clone()));
        let router = telemetry::counted(router, &[]);
        async move {
            axum::serve(listeners.admin, router)
                .with_graceful_shutdown(async move { shutdown.cancelled().await })
                .await
        }
    });
    Ok(tasks.run().await?)
}

/// Begins series at nothing, so that the first event is a rise and not an appearance.
fn begin() {
    for kind in ["x509", "jwt"] {
        drop(counter!("weft_issuer_svids_total", "kind" => kind));
    }
    for reason in ["authentication", "authorization", "request", "tokens"] {
        drop(counter!("weft_issuer_refusals_total", "reason" => reason));
    }
    drop(counter!("weft_issuer_upload_failures_total"));
}

/// Publishes the credentials, for ever.
async fn follow_credentials(
    vault: Arc<impl Vault>,
    publish: watch::Sender<Option<Entries>>,
    check: Check,
) {
    let follow = || vault.follow(Area::Tokens);
    let mut sets = until_answered("read the credentials", follow).await;
    while let Some(set) = sets.next().await {
        check.ok();
        publish.send_replace(Some(set));
    }
}

/// Follows what is configured and stored of federated trust domains; what it returns fetches them.
fn federation<S: Store + Vault>(
    tasks: &mut Tasks,
    store: &Arc<S>,
    config: &Config,
    web: Option<Arc<[u8]>>,
    troubles: Arc<Troubles>,
) -> Refresher<S> {
    let (publish, domains) = watch::channel(None);
    tasks.spawn_until_shutdown(
        "federation",
        federation::follow_config(
            store.clone(),
            config.root_namespace.clone(),
            config.authority.trust_domain.clone(),
            publish,
            troubles.clone(),
        ),
    );
    let (publish, federated) = watch::channel(None);
    tasks.spawn_until_shutdown(
        "federated bundles",
        federation::follow_bundles(store.clone(), domains.clone(), publish),
    );
    Refresher {
        vault: store.clone(),
        domains,
        federated,
        troubles,
        web,
    }
}

/// Follows the live replicas, and when proxies were last cut off from one.
fn watch_replicas(
    tasks: &mut Tasks,
    store: Arc<impl Store>,
) -> (replicas::Replicas, watch::Receiver<Instant>) {
    let (publish, replicas) = watch::channel(None::<Vec<Member>>);
    let (cuts, cut) = watch::channel(Instant::now());
    tasks.spawn_until_shutdown("members", async move {
        let follow = || store.members(SERVICE);
        let mut sets = until_answered("watch the issuer's replicas", follow).await;
        while let Some(set) = sets.next().await {
            // First when, then who: nobody may see the set without the replica and take its proxies for gone.
            let left = |before: &Vec<Member>| replicas::left(before, &set);
            if publish.borrow().as_ref().is_some_and(left) {
                cuts.send_replace(Instant::now());
            }
            publish.send_replace(Some(set));
        }
    });
    (replicas, cut)
}

/// Is a member while the service runs.
async fn membership(
    store: Arc<impl Store>,
    member: Member,
    ttl: Duration,
    mut said: watch::Receiver<Option<u64>>,
    shutdown: CancellationToken,
) -> Result<(), store::Error> {
    let join = || store.join(SERVICE, member.clone(), ttl);
    let membership = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        membership = until_answered("register this replica", join) => membership,
    };
    loop {
        let news = *said.borrow_and_update();
        membership.set_addresses(replicas::with(news, member.addresses.clone()));
        tokio::select! {
            () = shutdown.cancelled() => break,
            Ok(()) = said.changed() => {}
        }
    }
    membership.leave().await;
    Ok(())
}

async fn serve(
    connections: mpsc::Receiver<std::io::Result<mtls::Stream>>,
    routes: axum::Router,
    streams: xds::Streams,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let ending = shutdown.clone();
    let serving = xds::keepalive(tonic::transport::Server::builder())
        .accept_http1(true)
        .add_routes(routes.into())
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), async move {
            ending.cancelled().await;
            streams.close_all(&tonic::Status::unavailable(
                "this replica is shutting down; connect to another",
            ));
        });
    telemetry::closed(serving, &shutdown, DRAIN).await
}
