//! Puts the service together: state, routes, layers, background tasks.
//!
//! *Invariant:* every task runs under supervision; none outlives the server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use model::{Credential, Revision};
use mtls::Own;
use store::{Member, Store, Vault};
use telemetry::{Health, Metrics, TaskError, Tasks};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::{info, warn};

use crate::access::{self, Needs, Routes};
use crate::app::App;
use crate::config::{AccessConfig, AccessError, Config};
use crate::healthz::{self, Healthz};
use crate::http::limits::{self, Limits};
use crate::http::mesh::{self, Reach};
use crate::http::serve::{Heads, serve};
use crate::http::status::Status;
use crate::http::tls::{self, Wire};
use crate::identity::{Followers, Gate, Guard, PROOF, Proof, Sites};
use crate::liveness::{self, Freeze, Peers};
use crate::pushers::{self, Pushers, Transport};
use crate::view::{self, View};
use crate::{credentials, identity, k8s, modes, rollouts, trace, v1};

/// The service could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The flags about access do not go together, or a file of theirs cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The flags about identities do not go together, or the credential cannot be used.
    #[error("{0}")]
    Identity(String),
    /// The address cannot be listened on.
    #[error("--listen {address}: {source}; another address or port can be given there")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
}

/// Why a service ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The system namespace.
    #[error("--system-namespace cannot be part of an identity")]
    SystemNamespace(#[from] model::SpiffeIdError),
    /// A part of it ended by itself.
    #[error(transparent)]
    Task(#[from] TaskError),
}

/// A service that listens and does not answer yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    config: Config,
    store: Arc<dyn Store>,
    vault: Arc<dyn Vault>,
    credential: Option<Credential>,
    gate: Gate,
    followers: Followers,
    tls: Option<tls::Files>,
    http: reqwest::Client,
}

impl Server {
    /// Listens. The process must have a default TLS provider.
    ///
    /// # Errors
    /// If the flags would leave a door open by accident, a file of theirs cannot be used, or the address cannot be had.
    pub async fn bind<S: Store + Vault>(config: Config, store: Arc<S>) -> Result<Self, StartError> {
        let address = config.listen;
        (config.access).check(address, config.insecure_published_on_loopback_only)?;
        let credential = credential(&config).map_err(StartError::Identity)?;
        if config.access.https && credential.is_none() {
            return Err(AccessError::NoIdentity.into());
        }
        if config.access.peer_ca_file.is_some() && credential.is_some() {
            return Err(AccessError::PeersByIdentity.into());
        }
        let (gate, followers) = Gate::new(&config.access, credential.is_some())?;
        let tls = tls::files(&config.access)?;
        let http = peer_client(&config.access)?;
        let failed = |source| StartError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address,
            config,
            vault: store.clone(),
            store,
            credential,
            gate,
            followers,
            tls,
            http,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the shutdown.
    ///
    /// # Errors
    /// If the system namespace cannot be part of an identity, or one of its tasks ends before.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let Self {
            listener,
            address,
            config,
            store,
            vault,
            credential,
            gate,
            followers,
            tls,
            http,
        } = self;
        let (health, metrics) = (Health::default(), Metrics::install());
        limits::begin();
        liveness::begin();
        if config.insecure_plaintext_xds {
            warn!(
                "--insecure-plaintext-xds: bootstraps hold no credentials, and proxies talk to pushers in the clear"
            );
        }
        let mut tasks = Tasks::new(shutdown.clone());

        let (views, view) = watch::channel(View::new(
            &config.domain,
            &config.root_namespace,
            !config.insecure_plaintext_xds,
        ));
        tasks.spawn_until_shutdown(
            "view",
            view::follow(store.clone(), views, health.check("store", "not read yet")),
        );
        let (members, pushers) = watch::channel(Vec::<Member>::new());
        tasks.spawn_until_shutdown(
            "pushers",
            store::follow_members(store.clone(), pushers::SERVICE, members),
        );
        tasks.spawn_until_shutdown(
            "pusher-check",
            watch_pushers(
                pushers.clone(),
                health.check("pushers", "not looked for yet"),
            ),
        );
        let mut wire = Wire {
            clients: tls.as_ref().map(tls::of_files),
            peers: None,
        };
        let identified = credential.is_some();
        let mut reach = Reach::Names(http);
        let (transport, signers) = match credential {
            None => (Transport::Plaintext, None),
            Some(credential) => {
                let flags = &config.identity;
                let own = Own::keep(flags, credential, &store, &vault, &mut tasks, &health)?;
                let service = flags.service(liveness::SERVICE)?.id();
                let (publish, mesh) = watch::channel(None);
                let follow = mesh::follow(own.current.clone(), service.clone(), publish);
                tasks.spawn_until_shutdown("certificate", follow);
                if config.access.https {
                    wire.clients = Some(tls::of_mesh(&mesh));
                }
                wire.peers = Some((mesh.clone(), service));
                reach = Reach::Mesh(mesh);
                let pusher = flags.service(pushers::SERVICE)?.id();
                (Transport::Mutual(own.current, pusher), Some(own.issuers))
            }
        };
        let (followed, modes) = watch::channel(None);
        tasks.spawn_until_shutdown("modes", modes::follow(vault.clone(), followed));
        let (members, issuers) = watch::channel(Vec::<Member>::new());
        tasks.spawn_until_shutdown(
            "issuers",
            store::follow_members(store.clone(), credentials::ISSUER, members),
        );
        tasks.spawn_until_shutdown(
            "revocation",
            credentials::revoke_orphans(
                vault.clone(),
                view.clone(),
                health.check("revocation", "the credentials were not read yet"),
            ),
        );
        let (members, peers) = watch::channel(Vec::<Member>::new());
        tasks.spawn_until_shutdown(
            "peers",
            store::follow_members(store.clone(), liveness::SERVICE, members),
        );
        tasks.spawn_until_shutdown("metrics", metrics.clone().upkeep());

        let heads = Heads {
            most_headers: config.max_headers,
            most_bytes: config.max_header_bytes,
        };
        let freeze = Freeze {
            percent: config.eviction_freeze_percent.into(),
            least: config.eviction_freeze_least,
        };
        let (beats, heard) = mpsc::channel(1024);
        followers.spawn(&mut tasks, &health);
        if let Some(files) = &tls {
            let check = health.check("tls", "not started yet");
            tasks.spawn_until_shutdown("tls", files.clone().follow(check));
        }
        let proof = Proof::default();
        let guard = Guard {
            gate: Arc::new(gate),
            sites: Arc::new(Sites::new(&config)),
            needs: Arc::new(access::routes()),
            peers: peers.clone(),
        };
        let app = Arc::new(App {
            peers: Peers {
                own: own(&config, address, &proof, identified),
                members: peers,
                proof,
                http: reach,
            },
            beats,
            limits: Limits::new(
                config.max_requests,
                config.max_watches,
                config.request_timeout,
            ),
            pushers: Pushers::new(pushers, config.pusher_deadline, transport),
            modes,
            issuers,
            healthz: Healthz::new(signers),
            config,
            store,
            vault,
            view,
            shutdown: shutdown.clone(),
            committed: AtomicI64::default(),
        });
        tasks.spawn_until_shutdown("history", prune(app.clone()));
        tasks.spawn("membership", liveness::join(app.clone()));
        let check = health.check("rollouts", "not started yet");
        tasks.spawn_until_shutdown("rollouts", rollouts::deliver::run(app.clone(), check));
        let check = health.check("liveness", "not started yet");
        tasks.spawn_until_shutdown("liveness", liveness::run(app.clone(), heard, freeze, check));
        let router = router(&app, guard, &health, metrics);
        tasks.spawn("http", serve(listener, wire, router, heads, shutdown));
        Ok(tasks.run().await?)
    }
}

/// What this service proves itself with; nothing where xDS is in plaintext.
fn credential(config: &Config) -> Result<Option<Credential>, String> {
    match (
        config.insecure_plaintext_xds,
        &config.identity.credential_file,
    ) {
        (true, Some(_)) => Err(
            "--credential-file and --insecure-plaintext-xds exclude each other; drop one".into(),
        ),
        (true, None) => Ok(None),
        (false, _) => config.identity.credential().map(Some).map_err(|error| {
            format!("{error}; for development on one machine, --insecure-plaintext-xds needs none")
        }),
    }
}

/// This replica, as the others see it; by identities they reach it over TLS, however its clients do.
fn own(config: &Config, address: SocketAddr, proof: &Proof, identified: bool) -> Member {
    let scheme = match identified || config.access.tls_certificate_file.is_some() {
        true => "https",
        false => "http",
    };
    let url = format!("{scheme}://{}", config.advertise.unwrap_or(address));
    Member {
        instance: config
            .instance
            .clone()
            .unwrap_or_else(|| uuid::Uuid::now_v7().to_string()),
        addresses: [("http".to_owned(), url), (PROOF.to_owned(), proof.hash())].into(),
        since: Revision(0),
    }
}

/// Forgets change records that are older than they need be kept.
async fn prune(app: Arc<App>) {
    let mut hourly = tokio::time::interval(Duration::from_secs(3600));
    loop {
        hourly.tick().await;
        if app.config.history_age.is_zero() {
            continue;
        }
        match app.store.prune_history(app.config.history_age).await {
            Ok(0) => {}
            Ok(count) => info!(count, "old change records were pruned"),
            Err(error) => {
                warn!(%error, "old change records cannot be pruned; the next try is in an hour")
            }
        }
    }
}

/// A client for what is passed on to other replicas.
fn peer_client(config: &AccessConfig) -> Result<reqwest::Client, AccessError> {
    let failed = |why: String| AccessError::File("--peer-ca-file", why);
    let mut http = reqwest::Client::builder().no_proxy();
    if let Some(path) = &config.peer_ca_file {
        let pem = std::fs::read(path)
            .map_err(|error| failed(format!("{} cannot be read: {error}", path.display())))?;
        let authorities = reqwest::Certificate::from_pem_bundle(&pem)
            .map_err(|error| failed(error.to_string()))?;
        http = http.tls_certs_only(authorities);
    }
    http.build().map_err(|error| failed(error.to_string()))
}

/// Every route of this service, the telemetry's apart.
pub(crate) fn routes() -> Routes {
    let healthz = Routes::default().route("/healthz", Needs::Nothing, get(healthz::healthz));
    k8s::routes().and(v1::routes()).and(healthz)
}

fn router(app: &Arc<App>, guard: Guard, health: &Health, metrics: Metrics) -> Router {
    let (router, _) = routes().parts();
    let routes = router
        .fallback(|request: Request| async move { Status::no_such_path(request.uri().path()) })
        .method_not_allowed_fallback(|request: Request| async move {
            Status::method_not_allowed(
                format!(
                    "{} does not take {}",
                    request.uri().path(),
                    request.method()
                ),
                "GET, HEAD, POST, PUT, PATCH, DELETE",
            )
        })
        .with_state(app.clone())
        .merge(telemetry::router(health, metrics))
        .layer(from_fn_with_state(guard, identity::guard))
        .layer(from_fn_with_state(app.limits.clone(), limits::bound))
        .layer(CatchPanicLayer::custom(limits::panicked))
        .layer(from_fn(limits::log));
    telemetry::counted(routes, &[]).layer(from_fn(trace::traced))
}

/// Says whether there is anybody to bring policy to Envoys. Policy is taken all the same: it is not lost.
async fn watch_pushers(mut members: watch::Receiver<Vec<Member>>, check: telemetry::Check) {
    loop {
        if members.borrow_and_update().is_empty() {
            check.degraded(
                "no xds-pusher is registered: policy is stored, but reaches no Envoy until one is",
            );
        } else {
            check.ok();
        }
        if members.changed().await.is_err() {
            return;
        }
    }
}
