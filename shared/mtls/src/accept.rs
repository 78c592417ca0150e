//! Connections after their handshake, and whose they are.
//!
//! A connection ends with the certificate of its peer: a client that renewed it must come again to show the new one.
//!
//! *Invariant:* what a [`Connection`] says of its peer was verified in the handshake.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use jiff::Timestamp;
use model::Identity;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use crate::leaf;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How many handshakes may be under way.
const HANDSHAKES: usize = 256;

/// How connections are served; `None` until there is a certificate to show.
pub type Serving = watch::Receiver<Option<Arc<ServerConfig>>>;

/// What the TLS handshake of a connection showed.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The peer's address.
    pub address: SocketAddr,
    /// The identity in its certificate, and when that expires; `None` if it showed none.
    pub certificate: Option<(Identity, Timestamp)>,
}

/// Accepts connections and takes them through their handshakes; runs until cancelled.
pub async fn accept(
    listener: TcpListener,
    serving: Serving,
    connections: mpsc::Sender<std::io::Result<Stream>>,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(permit) = handshakes.clone().acquire_owned().await else {
            return;
        };
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                // Too many open files, usually.
                warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let config = serving.borrow().clone();
        let connections = connections.clone();
        tokio::spawn(async move {
            let _permit = permit;
            // There is nothing to serve with yet; the client tries again.
            let Some(config) = config else {
                debug!("a connection came before there was a certificate");
                return;
            };
            match tokio::time::timeout(HANDSHAKE, handshake(socket, config)).await {
                Ok(Ok(stream)) => drop(connections.send(Ok(stream)).await),
                Ok(Err(error)) => debug!(error, "a TLS handshake failed"),
                Err(_) => debug!("a TLS handshake took too long"),
            }
        });
    }
}

async fn handshake(socket: TcpStream, config: Arc<ServerConfig>) -> Result<Stream, String> {
    let address = socket.peer_addr().map_err(|error| error.to_string())?;
    socket
        .set_nodelay(true)
        .map_err(|error| error.to_string())?;
    let stream = TlsAcceptor::from(config).accept(socket).await;
    let stream = stream.map_err(|error| format!("{address}: {error}"))?;
    let shown = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(<[_]>::first);
    let certificate = match shown {
        None => None,
        Some(shown) => {
            let (id, not_after) = leaf(shown).map_err(|error| format!("{address}: {error}"))?;
            let identity = Identity::try_from(&id);
            Some((
                identity.map_err(|error| format!("{address}: {error}"))?,
                not_after,
            ))
        }
    };
    let connection = Connection {
        address,
        certificate,
    };
    let end = certificate_end(&connection);
    Ok(Stream {
        stream,
        connection,
        end,
        ended: false,
    })
}

/// When a peer's certificate ends, if it showed one.
fn certificate_end(connection: &Connection) -> Option<Pin<Box<Sleep>>> {
    let (_, not_after) = connection.certificate.as_ref()?;
    let left = not_after.duration_since(Timestamp::now());
    let left = Duration::try_from(left).unwrap_or_default();
    Some(Box::pin(tokio::time::sleep(left)))
}

/// A connection after its handshake.
pub struct Stream {
    stream: TlsStream<TcpStream>,
    connection: Connection,
    end: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl Connected for Stream {
    type ConnectInfo = Connection;
    fn connect_info(&self) -> Connection {
        self.connection.clone()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if let Some(end) = &mut self.end
            && end.as_mut().poll(cx).is_ready()
        {
            self.end = None;
            self.ended = true;
        }
        if self.ended {
            // As if the peer had closed it.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
