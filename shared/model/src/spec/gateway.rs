//! `Gateway`: what a gateway proxy listens to.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Labels, Port};

/// Says what the gateways that carry its labels listen to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Gateway {
    /// The ports, hosts and TLS settings.
    pub servers: Vec<Server>,
    /// The workloads that listen; with no label, all gateways.
    pub selector: Labels,
}

/// One port with its hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Server {
    /// The port.
    pub port: Port,
    /// The address to bind; all addresses by default.
    pub bind: Option<String>,
    /// The hosts, `namespace/host` allowed.
    pub hosts: Vec<String>,
    /// TLS settings.
    pub tls: Option<ServerTlsSettings>,
    /// Where to send what no route takes. Not supported yet.
    pub default_endpoint: Option<String>,
    /// A name, for people; unique in the Gateway.
    pub name: Option<String>,
}

/// What the connections of a server begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// HTTP in plaintext.
    Http,
    /// A TLS handshake.
    Tls,
    /// Anything.
    Tcp,
}

impl Server {
    /// What its connections begin with.
    pub fn family(&self) -> Family {
        match self.port.protocol.to_ascii_uppercase().as_str() {
            "HTTPS" | "TLS" => Family::Tls,
            "TCP" | "MONGO" if self.tls.is_some() => Family::Tls,
            "TCP" | "MONGO" => Family::Tcp,
            _ => Family::Http,
        }
    }
}

/// TLS settings of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ServerTlsSettings {
    /// Redirect HTTP to HTTPS with 301.
    pub https_redirect: bool,
    /// What is done with TLS.
    pub mode: ServerTlsMode,
    /// The file of the server's certificate.
    pub server_certificate: Option<String>,
    /// The file of its key.
    pub private_key: Option<String>,
    /// The file of the authorities that clients are verified with.
    pub ca_certificates: Option<String>,
    /// The file of the revocation list.
    pub ca_crl: Option<String>,
    /// A secret that holds certificate, key and authorities.
    pub credential_name: Option<String>,
    /// A secret that holds the authorities alone. Not supported yet.
    pub ca_cert_credential_name: Option<String>,
    /// Several of them, one per type of key.
    pub credential_names: Vec<String>,
    /// Pairs of certificate and key, one per type of key.
    pub tls_certificates: Vec<TlsCertificateFiles>,
    /// Names that a client's certificate may have.
    pub subject_alt_names: Vec<String>,
    /// SHA-256 hashes of the key of clients' certificates.
    pub verify_certificate_spki: Vec<String>,
    /// SHA-256 hashes of clients' certificates.
    pub verify_certificate_hash: Vec<String>,
    /// The lowest version of TLS; 1.2 by default.
    pub min_protocol_version: Option<TlsProtocol>,
    /// The highest version of TLS.
    pub max_protocol_version: Option<TlsProtocol>,
    /// The cipher suites of TLS 1.2 and older.
    pub cipher_suites: Vec<String>,
}

/// The files of a certificate and its key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TlsCertificateFiles {
    /// The file of the certificate.
    pub server_certificate: Option<String>,
    /// The file of its key.
    pub private_key: Option<String>,
    /// The file of the authorities.
    pub ca_certificates: Option<String>,
}

/// What a server does with TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServerTlsMode {
    /// Passes it on by SNI.
    #[default]
    Passthrough,
    /// Terminates it.
    Simple,
    /// Terminates it and demands a client certificate.
    Mutual,
    /// Passes it on by SNI to the host named there.
    AutoPassthrough,
    /// Terminates it with the mesh's certificate.
    IstioMutual,
    /// Terminates it; a client certificate is verified if there is one.
    OptionalMutual,
}

/// Versions of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
pub enum TlsProtocol {
    /// Envoy's choice.
    #[serde(rename = "TLS_AUTO")]
    Auto,
    /// 1.0
    #[serde(rename = "TLSV1_0")]
    V1_0,
    /// 1.1
    #[serde(rename = "TLSV1_1")]
    V1_1,
    /// 1.2
    #[serde(rename = "TLSV1_2")]
    V1_2,
    /// 1.3
    #[serde(rename = "TLSV1_3")]
    V1_3,
}

/// What a free-form map holds in Istio's API.
pub type Struct = BTreeMap<String, serde_json::Value>;
