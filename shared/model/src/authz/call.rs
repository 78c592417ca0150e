//! A request or connection as policies see it.
//!
//! *Invariant:* these are facts; nothing here decides.

use std::net::IpAddr;

/// A request, or a connection if there is no [`Http`] to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The peer's identity, `<trust domain>/ns/<namespace>/sa/<service account>`; none over plaintext.
    pub principal: Option<String>,
    /// The address of the peer.
    pub source_ip: IpAddr,
    /// The address of the client, as trusted proxies tell it.
    pub remote_ip: IpAddr,
    /// The address that is called.
    pub destination_ip: IpAddr,
    /// The port that is called.
    pub destination_port: u16,
    /// The server name the client asked for in TLS.
    pub sni: Option<String>,
    /// The request.
    pub http: Option<Http>,
}

/// What a request says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Http {
    /// Its method.
    pub method: String,
    /// Its host, perhaps with a port.
    pub host: String,
    /// Its path, normalised; a query is not looked at.
    pub path: String,
    /// Its headers, by names in lower case.
    pub headers: Vec<(String, String)>,
    /// The claims of its JWT, once verified.
    pub claims: Option<serde_json::Value>,
}
