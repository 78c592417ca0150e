//! Who may call: the flags about TLS, proofs of identity, and grants.
//!
//! *Invariant:* a combination that would leave a door open by accident is refused before anything listens.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::identity::Signature;

/// Who may call config-api, and how that is proved.
#[derive(Args, Clone, Debug)]
pub struct AccessConfig {
    /// Serve HTTPS with this certificate: PEM, the server's first, then its issuers; read anew when it changes
    #[arg(long, env = "WEFT_TLS_CERTIFICATE_FILE")]
    pub tls_certificate_file: Option<PathBuf>,
    /// The private key of the certificate, PEM
    #[arg(long, env = "WEFT_TLS_KEY_FILE")]
    pub tls_key_file: Option<PathBuf>,
    /// Serve HTTPS with the mesh's own certificate of this service, and nothing in the clear
    #[arg(long, env = "WEFT_HTTPS")]
    pub https: bool,
    /// With --https: take certificates of the mesh as proof of who calls; the name of a caller is its SPIFFE ID
    #[arg(long, env = "WEFT_MESH_CLIENT_CERTIFICATES")]
    pub mesh_client_certificates: bool,
    /// Take client certificates that these authorities (PEM) issued; read anew when it changes
    #[arg(long, env = "WEFT_CLIENT_CA_FILE")]
    pub client_ca_file: Option<PathBuf>,
    /// Take the bearer tokens whose hashes and owners this file lists; read anew when it changes
    #[arg(long, env = "WEFT_TOKEN_HASHES_FILE")]
    pub token_hashes_file: Option<PathBuf>,
    /// Which subjects and groups are viewer, editor or admin of which namespaces; read anew when it changes
    #[arg(long, env = "WEFT_ACCESS_FILE")]
    pub access_file: Option<PathBuf>,
    /// Take JWTs of this OpenID Connect issuer: the value of their claim iss
    #[arg(long, env = "WEFT_OIDC_ISSUER")]
    pub oidc_issuer: Option<String>,
    /// The audience that JWTs must be for: the value of their claim aud
    #[arg(long, env = "WEFT_OIDC_AUDIENCE")]
    pub oidc_audience: Option<String>,
    /// The issuer's keys: a file with a JWK Set, or its https URL; by default what the issuer's discovery document says
    #[arg(long, env = "WEFT_OIDC_KEYS", value_name = "FILE|URL")]
    pub oidc_keys: Option<String>,
    /// The algorithms by which JWTs may be signed
    #[arg(
        long,
        env = "WEFT_OIDC_ALGORITHMS",
        value_delimiter = ',',
        default_value = "RS256,ES256"
    )]
    pub oidc_algorithms: Vec<Signature>,
    /// The claim that names the caller
    #[arg(long, env = "WEFT_OIDC_NAME_CLAIM", default_value = "sub")]
    pub oidc_name_claim: String,
    /// The claim that lists the caller's groups
    #[arg(long, env = "WEFT_OIDC_GROUPS_CLAIM", default_value = "groups")]
    pub oidc_groups_claim: String,
    /// Whom to trust as authorities (PEM) when keys are fetched by https, instead of the system's
    #[arg(long, env = "WEFT_OIDC_CA_FILE")]
    pub oidc_ca_file: Option<PathBuf>,
    /// Whom to trust as authorities (PEM) when a heartbeat is passed to another replica, instead of the system's
    #[arg(long, env = "WEFT_PEER_CA_FILE")]
    pub peer_ca_file: Option<PathBuf>,
}

impl Default for AccessConfig {
    fn default() -> Self {
        Self {
            tls_certificate_file: None,
            tls_key_file: None,
            https: false,
            mesh_client_certificates: false,
            client_ca_file: None,
            token_hashes_file: None,
            access_file: None,
            oidc_issuer: None,
            oidc_audience: None,
            oidc_keys: None,
            oidc_algorithms: ["RS256", "ES256"]
                .iter()
                .map(|name| name.parse().expect("it is one of the algorithms"))
                .collect(),
            oidc_name_claim: "sub".into(),
            oidc_groups_claim: "groups".into(),
            oidc_ca_file: None,
            peer_ca_file: None,
        }
    }
}

/// Flags about access that do not go together.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum AccessError {
    /// The address is not loopback, and callers are not authenticated.
    #[error(
        "--listen {0}: callers are not authenticated, so only a loopback address is taken. Authenticate them \
         (--token-hashes-file, --client-ca-file, --mesh-client-certificates or --oidc-issuer, each with --access-file), or, where the port is published \
         to loopback alone, say so with --insecure-published-on-loopback-only"
    )]
    Exposed(SocketAddr),
    /// Tokens would go over the network in the clear.
    #[error(
        "--listen {0}: bearer tokens must not cross a network in the clear. Serve HTTPS (--https, or --tls-certificate-file and \
         --tls-key-file), or, where the port is published to loopback alone, say so with --insecure-published-on-loopback-only"
    )]
    Clear(SocketAddr),
    /// A client certificate needs TLS.
    #[error(
        "--client-ca-file: client certificates come with TLS only; give --tls-certificate-file and --tls-key-file too"
    )]
    CertificatesWithoutTls,
    /// Everybody would be refused everything.
    #[error(
        "{0}: callers are authenticated, and nobody may do anything; give --access-file with who is viewer, editor or admin"
    )]
    NoGrants(&'static str),
    /// Grants to nobody.
    #[error(
        "--access-file: nobody is authenticated, so it would have no effect; give --token-hashes-file, --client-ca-file or \
         --oidc-issuer, or leave it out"
    )]
    Grantless,
    /// Two certificates for one port.
    #[error(
        "--https serves with the mesh's own certificate, so there cannot be another in --tls-certificate-file; drop one"
    )]
    TwoCertificates,
    /// The mesh's own certificate comes by a credential.
    #[error(
        "--https serves with the mesh's own certificate, which comes by --credential-file; give that, or --tls-certificate-file instead of --https"
    )]
    NoIdentity,
    /// Replicas verify each other by the mesh.
    #[error(
        "--peer-ca-file: with --credential-file replicas know each other by the mesh's certificates, so it has no effect; leave it out"
    )]
    PeersByIdentity,
    /// Half of a pair.
    #[error("{0} needs {1} beside it")]
    Half(&'static str, &'static str),
    /// A file that cannot be used.
    #[error("{0}: {1}")]
    File(&'static str, String),
}

impl AccessConfig {
    /// The first flag by which callers prove who they are, if there is one.
    pub(crate) fn proof(&self) -> Option<&'static str> {
        [
            (self.token_hashes_file.is_some(), "--token-hashes-file"),
            (self.client_ca_file.is_some(), "--client-ca-file"),
            (self.mesh_client_certificates, "--mesh-client-certificates"),
            (self.oidc_issuer.is_some(), "--oidc-issuer"),
        ]
        .into_iter()
        .find_map(|(given, flag)| given.then_some(flag))
    }

    pub(crate) fn check(&self, listen: SocketAddr, published: bool) -> Result<(), AccessError> {
        let halves = [
            (
                (
                    self.tls_certificate_file.is_some(),
                    "--tls-certificate-file",
                ),
                (self.tls_key_file.is_some(), "--tls-key-file"),
            ),
            (
                (self.oidc_issuer.is_some(), "--oidc-issuer"),
                (self.oidc_audience.is_some(), "--oidc-audience"),
            ),
        ];
        for ((one, first), (other, second)) in halves {
            match (one, other) {
                (true, false) => return Err(AccessError::Half(first, second)),
                (false, true) => return Err(AccessError::Half(second, first)),
                _ => {}
            }
        }
        if self.oidc_issuer.is_none() && self.oidc_keys.is_some() {
            return Err(AccessError::Half("--oidc-keys", "--oidc-issuer"));
        }
        let files = self.tls_certificate_file.is_some();
        if self.https && files {
            return Err(AccessError::TwoCertificates);
        }
        if self.mesh_client_certificates && !self.https {
            return Err(AccessError::Half("--mesh-client-certificates", "--https"));
        }
        let tls = files || self.https;
        if self.client_ca_file.is_some() && !files {
            return Err(AccessError::CertificatesWithoutTls);
        }
        let proof = self.proof();
        match (proof, &self.access_file) {
            (Some(flag), None) => return Err(AccessError::NoGrants(flag)),
            (None, Some(_)) => return Err(AccessError::Grantless),
            _ => {}
        }
        let inside = listen.ip().is_loopback() || published;
        match (proof, tls) {
            _ if inside => Ok(()),
            (None, _) => Err(AccessError::Exposed(listen)),
            (Some(_), false) => Err(AccessError::Clear(listen)),
            (Some(_), true) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_door_is_open_by_accident() {
        use AccessError::{CertificatesWithoutTls, Clear, Exposed, Grantless, Half, NoGrants};
        let file = || Some(PathBuf::from("f"));
        let open: SocketAddr = ([0, 0, 0, 0], 1).into();
        let local: SocketAddr = ([127, 0, 0, 1], 1).into();
        let none = AccessConfig::default;
        let tokens = || AccessConfig {
            token_hashes_file: file(),
            access_file: file(),
            ..none()
        };
        let tls = |config: AccessConfig| AccessConfig {
            tls_certificate_file: file(),
            tls_key_file: file(),
            ..config
        };
        for (config, listen, published, expected) in [
            (none(), local, false, Ok(())),
            (none(), open, false, Err(Exposed(open))),
            (none(), open, true, Ok(())),
            (tls(none()), open, false, Err(Exposed(open))),
            (tls(none()), local, false, Ok(())),
            (tokens(), local, false, Ok(())),
            (tokens(), open, false, Err(Clear(open))),
            (tokens(), open, true, Ok(())),
            (tls(tokens()), open, false, Ok(())),
            (
                AccessConfig {
                    access_file: None,
                    ..tokens()
                },
                local,
                false,
                Err(NoGrants("--token-hashes-file")),
            ),
            (
                AccessConfig {
                    access_file: None,
                    ..tokens()
                },
                local,
                true,
                Err(NoGrants("--token-hashes-file")),
            ),
            (
                AccessConfig {
                    token_hashes_file: None,
                    ..tokens()
                },
                local,
                false,
                Err(Grantless),
            ),
            (
                AccessConfig {
                    client_ca_file: file(),
                    ..tokens()
                },
                local,
                false,
                Err(CertificatesWithoutTls),
            ),
            (
                AccessConfig {
                    tls_key_file: file(),
                    ..none()
                },
                local,
                false,
                Err(Half("--tls-key-file", "--tls-certificate-file")),
            ),
            (
                AccessConfig {
                    https: true,
                    ..tls(none())
                },
                local,
                false,
                Err(AccessError::TwoCertificates),
            ),
            (
                AccessConfig {
                    https: true,
                    ..tokens()
                },
                open,
                false,
                Ok(()),
            ),
            (
                AccessConfig {
                    https: true,
                    ..none()
                },
                open,
                false,
                Err(Exposed(open)),
            ),
            (
                AccessConfig {
                    mesh_client_certificates: true,
                    ..tokens()
                },
                local,
                false,
                Err(Half("--mesh-client-certificates", "--https")),
            ),
            (
                AccessConfig {
                    https: true,
                    mesh_client_certificates: true,
                    ..none()
                },
                local,
                false,
                Err(NoGrants("--mesh-client-certificates")),
            ),
            (
                AccessConfig {
                    oidc_issuer: Some("i".into()),
                    ..tokens()
                },
                local,
                false,
                Err(Half("--oidc-issuer", "--oidc-audience")),
            ),
            (
                AccessConfig {
                    oidc_keys: Some("i".into()),
                    ..tokens()
                },
                local,
                false,
                Err(Half("--oidc-keys", "--oidc-issuer")),
            ),
        ] {
            assert_eq!(
                config.check(listen, published),
                expected,
                "{config:?} {listen}"
            );
        }
    }
}
