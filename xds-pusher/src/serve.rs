//! Being there for others: the membership in the store, and what is served on the port of xDS.
//!
//! *Invariant:* a replica is a member only while it can serve.

use std::sync::Arc;
use std::time::Duration;

use axum::middleware::from_fn_with_state;
use futures::Stream;
use mtls::Own;
use pusher_api::v1::pusher_server::PusherServer;
use store::{Member, Membership, Store, until_answered};
use telemetry::Health;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use tracing::{info, warn};
use xds::Streams;

use crate::guard::{self, Accounts, Guard};
use crate::pass::{self, Pass, Passing};
use crate::shards::{self, Shards};
use crate::{SERVICE, api};

/// How long open connections have to end when the service does.
const CLOSING: Duration = Duration::from_secs(1);

/// How long leaving may take.
const LEAVING: Duration = Duration::from_secs(1);

/// What one stream may have under way to us, and a connection in all: so many that no stream holds up another.
const WINDOWS: (u32, u32) = (64 << 10, 16 << 20);

/// Waits until there is something to serve, somebody known to serve it to, and something to prove oneself with.
pub(crate) fn able(
    mut accounts: watch::Receiver<Accounts>,
    guard: &Option<Guard>,
    own: &Option<Own>,
) -> impl Future<Output = ()> + Send + use<> {
    let credentials = guard.as_ref().map(|guard| guard.credentials.clone());
    let current = own.as_ref().map(|own| own.current.clone());
    async move {
        // Who publishes these ends with the service.
        drop(accounts.wait_for(Option::is_some).await);
        if let Some(mut credentials) = credentials {
            drop(credentials.wait_for(Option::is_some).await);
        }
        if let Some(mut current) = current {
            drop(current.wait_for(Option::is_some).await);
        }
    }
}

/// This replica among the others.
pub(crate) struct Replica {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) member: Member,
    pub(crate) ttl: Duration,
    pub(crate) shards: Shards,
    pub(crate) streams: Streams,
    pub(crate) passing: Passing,
    /// How long streams have to go elsewhere when it leaves.
    pub(crate) drain: Duration,
}

impl Replica {
    /// Is a member from when it is able to serve until the shutdown. Then it leaves, ends its streams one after the other, and
    /// ends the service.
    pub(crate) async fn be(
        self,
        able: impl Future<Output = ()>,
        shutdown: CancellationToken,
        end: CancellationToken,
    ) -> Result<(), store::Error> {
        let joining = async {
            able.await;
            let join = || self.store.join(SERVICE, self.member.clone(), self.ttl);
            until_answered("register this replica", join).await
        };
        let stop = async {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = end.cancelled() => {}
            }
        };
        tokio::pin!(stop);
        let membership = tokio::select! {
            () = &mut stop => None,
            membership = joining => {
                info!("is a member");
                stop.await;
                Some(membership)
            }
        };
        self.leave(membership, &end).await;
        Ok(())
    }

    async fn leave(&self, membership: Option<Box<dyn Membership>>, end: &CancellationToken) {
        if let Some(membership) = membership
            && (tokio::time::timeout(LEAVING, membership.leave()).await).is_err()
        {
            warn!("the store did not take the leave; the lease will expire");
        }
        // Where nobody else is, they have nowhere to go before this replica is back.
        let period = match self.shards.alone() {
            true => Duration::ZERO,
            false => self.drain,
        };
        tokio::select! {
            () = end.cancelled() => {}
            () = shards::drain(&self.streams, &self.passing, period) => end.cancel(),
        }
    }
}

/// xDS over gRPC and REST, the internal service, and gRPC's health protocol.
pub(crate) fn routes(
    server: &xds::Server,
    service: api::Service,
    guard: Option<Guard>,
    pass: Pass,
    health: &Health,
) -> axum::Router {
    let routes = server
        .routes()
        .add_service(PusherServer::new(service))
        .into_axum_router()
        .merge(server.rest())
        .layer(from_fn_with_state(pass, pass::pass))
        .merge(telemetry::grpc_health(health));
    let routes = match guard {
        None => routes,
        Some(guard) => routes.layer(from_fn_with_state(guard, guard::authorize)),
    };
    telemetry::counted(routes, &[pusher_api::v1::FILE_DESCRIPTOR_SET])
}

/// Serves on one port: accepts until the first of these, and ends a moment after the second.
pub(crate) async fn serve<C>(
    connections: impl Stream<Item = std::io::Result<C>>,
    routes: axum::Router,
    [shutdown, end]: [CancellationToken; 2],
) -> Result<(), tonic::transport::Error>
where
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let (stream, connection) = WINDOWS;
    let ending = end.clone();
    let serving = xds::keepalive(tonic::transport::Server::builder())
        .accept_http1(true)
        .initial_stream_window_size(stream)
        .initial_connection_window_size(connection)
        .add_routes(routes.into())
        .serve_with_incoming_shutdown(connections, async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = ending.cancelled() => {}
            }
        });
    telemetry::closed(serving, &end, CLOSING).await
}
