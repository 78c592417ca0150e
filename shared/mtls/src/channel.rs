//! Channels to a peer that must be who it should be.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

/// An address is none.
#[derive(Debug, thiserror::Error)]
#[error("{address:?} is not host:port")]
pub struct ChannelError {
    address: String,
    source: tonic::transport::Error,
}

/// A channel over TLS; it connects when it is used first, and again whenever the connection was lost.
///
/// # Errors
/// If the address is none.
pub fn channel(
    address: &str,
    config: Arc<ClientConfig>,
    connect_timeout: Duration,
) -> Result<Channel, ChannelError> {
    let wrong = |source| ChannelError {
        address: address.to_owned(),
        source,
    };
    // The scheme says HTTP: TLS is the connector's.
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(wrong)?;
    let endpoint = endpoint
        .connect_timeout(connect_timeout)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(5));
    Ok(channel_to(&endpoint, config))
}

/// The same to an endpoint with settings of its own; its scheme is http, and TLS is added here.
pub fn channel_to(endpoint: &Endpoint, config: Arc<ClientConfig>) -> Channel {
    let connector = TlsConnector::from(config);
    let connect = tower::service_fn(move |uri: Uri| {
        let connector = connector.clone();
        async move {
            let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
            let socket = TcpStream::connect(&authority).await?;
            socket.set_nodelay(true)?;
            let name = ServerName::try_from("weft.invalid").expect("it is a DNS name");
            let stream = connector.connect(name, socket).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    endpoint.connect_with_connector_lazy(connect)
}
