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
use model::Revision;
use store::{Member, Store};
use telemetry::{Health, Metrics, TaskError, Tasks};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::{info, warn};

use crate::app::App;
use crate::config::Config;
use crate::http::limits::{self, Limits};
use crate::http::serve::{Heads, serve};
use crate::http::status::Status;
use crate::liveness::{self, Freeze, Peers};
use crate::pushers::{self, Pushers};
use crate::view::{self, View};
use crate::{identity, k8s, members, v1};

/// The service could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is not loopback, and callers are not authenticated.
    #[error(
        "--listen {0}: callers are not authenticated yet, so only a loopback address is taken; where the port is published \
         to loopback alone, say so with --insecure-published-on-loopback-only"
    )]
    Exposed(SocketAddr),
    /// The address cannot be listened on.
    #[error("--listen {address}: {source}; another address or port can be given there")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
}

/// A service that listens and does not answer yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    config: Config,
    store: Arc<dyn Store>,
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    /// If the address is not loopback and nothing says that this is wanted, or it cannot be had.
    pub async fn bind(config: Config, store: Arc<dyn Store>) -> Result<Self, StartError> {
        let address = config.listen;
        if !address.ip().is_loopback() && !config.insecure_published_on_loopback_only {
            return Err(StartError::Exposed(address));
        }
        let failed = |source| StartError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address,
            config,
            store,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the shutdown.
    ///
    /// # Errors
    /// If one of its tasks ends before.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), TaskError> {
        let Self {
            listener,
            address,
            config,
            store,
        } = self;
        let (health, metrics) = (Health::default(), Metrics::install());
        let mut tasks = Tasks::new(shutdown.clone());

        let (views, view) = watch::channel(View::new(&config.domain, &config.root_namespace));
        tasks.spawn_until_shutdown(
            "view",
            view::follow(store.clone(), views, health.check("store", "not read yet")),
        );
        let (members, pushers) = watch::channel(Vec::<Member>::new());
        tasks.spawn_until_shutdown(
            "pushers",
            members::follow(store.clone(), pushers::SERVICE, members),
        );
        tasks.spawn_until_shutdown(
            "pusher-check",
            watch_pushers(
                pushers.clone(),
                health.check("pushers", "not looked for yet"),
            ),
        );
        let (members, peers) = watch::channel(Vec::<Member>::new());
        tasks.spawn_until_shutdown(
            "peers",
            members::follow(store.clone(), liveness::SERVICE, members),
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
        let app = Arc::new(App {
            peers: Peers {
                own: own(&config, address),
                members: peers,
            },
            beats,
            limits: Limits::new(
                config.max_requests,
                config.max_watches,
                config.request_timeout,
            ),
            pushers: Pushers::new(pushers, config.pusher_deadline),
            config,
            store,
            view,
            shutdown: shutdown.clone(),
            committed: AtomicI64::default(),
        });
        tasks.spawn_until_shutdown("history", prune(app.clone()));
        tasks.spawn("membership", liveness::join(app.clone()));
        let check = health.check("liveness", "not started yet");
        tasks.spawn_until_shutdown("liveness", liveness::run(app.clone(), heard, freeze, check));
        let router = router(&app, health, metrics);
        tasks.spawn("http", serve(listener, router, heads, shutdown));
        tasks.run().await
    }
}

/// This replica, as the others see it.
fn own(config: &Config, address: SocketAddr) -> Member {
    let http = config.advertise.unwrap_or(address).to_string();
    Member {
        instance: config
            .instance
            .clone()
            .unwrap_or_else(|| uuid::Uuid::now_v7().to_string()),
        addresses: [("http".to_owned(), http)].into(),
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

fn router(app: &Arc<App>, health: Health, metrics: Metrics) -> Router {
    Router::new()
        .merge(k8s::router())
        .merge(v1::router())
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
        .layer(from_fn(identity::identify))
        .layer(from_fn_with_state(app.limits.clone(), limits::bound))
        .layer(CatchPanicLayer::custom(limits::panicked))
        .layer(from_fn(limits::observe))
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
