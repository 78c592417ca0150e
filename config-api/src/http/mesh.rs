//! TLS by the mesh's own certificate: for clients of the API, and between its replicas.
//!
//! Replicas meet on the port that everybody uses: they offer a protocol that nobody else does ([`PEERS`]), and both show their
//! certificates. *Invariant:* a replica is the one SPIFFE ID of this service, verified in the handshake.

use std::sync::Arc;

use model::SpiffeId;
use mtls::{Current, Material};
use rustls::ServerConfig;
use tokio::sync::watch;
use tracing::warn;

/// The protocol (ALPN) that replicas speak to each other: HTTP/1.1, under a name of its own.
pub(crate) const PEERS: &[u8] = b"weft-peer/1";

/// What the certificate of this moment is used for.
pub(crate) struct Meshed {
    /// For clients of the API, whose own certificates are not demanded.
    pub(crate) clients: Arc<ServerConfig>,
    /// For replicas.
    pub(crate) peers: Arc<ServerConfig>,
    /// Reaches replicas.
    pub(crate) http: reqwest::Client,
}

/// The same, as it changes; `None` until there is a certificate.
pub(crate) type Mesh = watch::Receiver<Option<Arc<Meshed>>>;

/// Keeps it up to date, for ever: what was renewed holds for connections that are opened after that.
pub(crate) async fn follow(
    mut current: Current,
    service: SpiffeId,
    publish: watch::Sender<Option<Arc<Meshed>>>,
) {
    loop {
        let material = current.borrow_and_update().clone();
        if let Some(material) = material {
            match meshed(&material, &service) {
                Ok(meshed) => drop(publish.send_replace(Some(Arc::new(meshed)))),
                Err(why) => warn!(
                    why,
                    "the mesh's certificate cannot be used; the last one stays"
                ),
            }
        }
        if current.changed().await.is_err() {
            return;
        }
    }
}

fn meshed(material: &Material, service: &SpiffeId) -> Result<Meshed, String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let clients = material.open_server().map_err(|error| text(&error))?;
    let mut peers = material.server().map_err(|error| text(&error))?;
    peers.alpn_protocols = vec![PEERS.to_vec()];
    let mut client = (material.client(service.clone())).map_err(|error| text(&error))?;
    client.alpn_protocols = vec![PEERS.to_vec()];
    let http = reqwest::Client::builder()
        .no_proxy()
        .tls_backend_preconfigured(client)
        .build();
    Ok(Meshed {
        clients: clients.into(),
        peers: peers.into(),
        http: http.map_err(|error| text(&error))?,
    })
}

/// How other replicas are reached.
pub(crate) enum Reach {
    /// Over HTTP, or HTTPS by authorities in a file.
    Names(reqwest::Client),
    /// By the mesh's certificates.
    Mesh(Mesh),
}

impl Reach {
    /// The client of now; none before this replica has a certificate.
    pub(crate) fn client(&self) -> Option<reqwest::Client> {
        match self {
            Self::Names(client) => Some(client.clone()),
            Self::Mesh(mesh) => mesh.borrow().as_ref().map(|meshed| meshed.http.clone()),
        }
    }
}
