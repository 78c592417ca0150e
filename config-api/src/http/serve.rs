//! The server loop: connections with bounded headers and header time, over TLS or not, and an orderly end.
//!
//! *Invariant:* after the shutdown no new connection is taken, and requests under way may finish.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::util::MapRequest;
use tracing::{debug, warn};

use super::tls::{Taken, Wire};
use crate::identity::Certificate;

/// How long requests may take to finish once the shutdown was asked for.
const GRACE: Duration = Duration::from_secs(10);

/// The bounds of a request's head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    pub(crate) most_headers: usize,
    pub(crate) most_bytes: usize,
}

/// How long a connection may take until its first byte is there and its TLS handshake done.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What is known of the connection that a request came by; in its extensions.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) remote: SocketAddr,
    /// The client's certificate, if it has one and TLS verified it: whom it names, or why nobody.
    pub(crate) certificate: Option<Arc<Result<Certificate, String>>>,
    /// Whether the client is another replica, which proved that by its certificate.
    pub(crate) replica: bool,
}

/// Serves until the shutdown.
pub(crate) async fn serve(
    listener: TcpListener,
    wire: Wire,
    router: Router,
    heads: Heads,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let connections = TaskTracker::new();
    loop {
        let (stream, remote) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: others must close before another can be taken.
                    warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        stream.set_nodelay(true).ok();
        let (router, shutdown) = (router.clone(), shutdown.clone());
        let wire = wire.clone();
        connections.spawn(async move {
            let mut connection = Connection {
                remote,
                certificate: None,
                replica: false,
            };
            // The configuration of now: what was renewed holds for every connection after.
            let taken = tokio::time::timeout(HANDSHAKE, wire.take(stream)).await;
            match taken.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
                Ok(Taken::Plain(stream)) => {
                    serve_one(stream, router, connection, heads, shutdown).await;
                }
                Ok(Taken::Secure(stream, replica)) => {
                    connection.replica = replica;
                    let chain = stream.get_ref().1.peer_certificates();
                    connection.certificate = chain
                        .and_then(|chain| chain.first())
                        .map(|leaf| Arc::new(Certificate::of(leaf)));
                    serve_one(stream, router, connection, heads, shutdown).await;
                }
                Err(error) => debug!(%remote, %error, "a connection is not served"),
            }
        });
    }
    connections.close();
    if tokio::time::timeout(GRACE, connections.wait())
        .await
        .is_err()
    {
        warn!(
            open = connections.len(),
            "connections did not end in time and are dropped"
        );
    }
    Ok(())
}

async fn serve_one(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    connection: Connection,
    heads: Heads,
    shutdown: CancellationToken,
) {
    let service = MapRequest::new(router, move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(connection.clone());
        request
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10))
        .max_headers(heads.most_headers)
        .max_buf_size(heads.most_bytes.max(8192));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(heads.most_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(256)
        .keep_alive_interval(Duration::from_secs(30));
    let connection =
        builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        debug!(%error, "a connection ended early");
    }
}
