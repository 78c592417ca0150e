//! The flags of the issuer.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use jiff::SignedDuration;
use model::{Identity, TrustDomain};

use crate::authority::Policy;
use crate::envelope::{KeyList, KeyListError};

/// The flags of a serving issuer.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Where Envoys and services get their identities (gRPC: SDS and weft.issuer.v1; REST), always over TLS
    #[arg(long, env = "WEFT_ISSUER_LISTEN", default_value = "127.0.0.1:18010")]
    pub listen: SocketAddr,
    /// Health, metrics and the trust bundle over HTTP
    #[arg(
        long,
        env = "WEFT_ISSUER_ADMIN_LISTEN",
        default_value = "127.0.0.1:18011"
    )]
    pub admin_listen: SocketAddr,
    /// The address others use for --listen, if it differs
    #[arg(long, env = "WEFT_ISSUER_ADVERTISE")]
    pub advertise: Option<String>,
    /// The unique name of this replica; a random one if absent
    #[arg(long, env = "WEFT_INSTANCE")]
    pub instance: Option<String>,
    /// DNS names and addresses in the issuer's own certificate, for clients that know it by these
    #[arg(
        long,
        env = "WEFT_ISSUER_SERVER_NAMES",
        default_value = "cert-issuer,localhost,127.0.0.1,::1",
        value_delimiter = ','
    )]
    pub server_names: Vec<String>,
    /// DNS names and addresses in the certificate of config-api, for its HTTPS clients
    #[arg(
        long,
        env = "WEFT_API_SERVER_NAMES",
        default_value = "config-api,localhost,127.0.0.1,::1",
        value_delimiter = ','
    )]
    pub api_server_names: Vec<String>,
    /// The namespace of the control plane's own services
    #[arg(long, env = "WEFT_SYSTEM_NAMESPACE", default_value = "weft-system")]
    pub system_namespace: String,
    /// The namespace whose MeshConfig holds for the whole mesh
    #[arg(long, env = "WEFT_ROOT_NAMESPACE", default_value = "istio-system")]
    pub root_namespace: String,
    /// Whom to trust as authorities (PEM) when the bundle of a federated trust domain is fetched by https_web, instead of
    /// the system's
    #[arg(long, env = "WEFT_BUNDLE_ENDPOINT_CA_FILE")]
    pub bundle_endpoint_ca_file: Option<PathBuf>,
    /// The issuer's own address as OpenID Connect clients know it; tokens have it as `iss`
    #[arg(long, env = "WEFT_ISSUER_URL")]
    pub issuer_url: Option<String>,
    /// How long a membership survives a replica that is gone, in seconds
    #[arg(long, env = "WEFT_MEMBER_TTL", default_value = "5", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub member_ttl: u64,
    #[command(flatten)]
    #[allow(missing_docs, reason = "its own fields are documented")]
    pub authority: AuthorityFlags,
}

/// The flags that every command of the issuer needs.
#[derive(Args, Clone)]
pub struct AuthorityFlags {
    /// The trust domain: what identities begin with, after spiffe://
    #[arg(long, env = "WEFT_TRUST_DOMAIN", default_value = "cluster.local")]
    pub trust_domain: TrustDomain,
    /// A file with the key-encryption keys: lines <name>:<32 random bytes in base64>, of which the first encrypts
    #[arg(long, env = "WEFT_KEY_ENCRYPTION_KEYS_FILE")]
    pub key_encryption_keys_file: Option<PathBuf>,
    /// The key-encryption keys themselves; only by the environment, since others can see a process's arguments
    #[arg(skip = std::env::var("WEFT_KEY_ENCRYPTION_KEYS").ok())]
    pub key_encryption_keys: Option<String>,
    /// How long a workload's certificate is valid; it is renewed at half of that
    #[arg(long, env = "WEFT_SVID_TTL", default_value = "24h")]
    pub svid_ttl: SignedDuration,
    /// How long a workload's token is valid
    #[arg(long, env = "WEFT_JWT_TTL", default_value = "5m")]
    pub jwt_ttl: SignedDuration,
    /// How long an issuing certificate is valid; it is replaced at half of that
    #[arg(long, env = "WEFT_ISSUING_TTL", default_value = "2160h")]
    pub issuing_ttl: SignedDuration,
    /// How long a root is valid
    #[arg(long, env = "WEFT_ROOT_TTL", default_value = "87600h")]
    pub root_ttl: SignedDuration,
    /// How long a new root is shown to everybody before it signs, at least
    #[arg(long, env = "WEFT_ROOT_OVERLAP", default_value = "1h")]
    pub root_overlap: SignedDuration,
    /// How long a new root waits for proxies that do not acknowledge it, at most
    #[arg(long, env = "WEFT_ROOT_PATIENCE", default_value = "168h")]
    pub root_patience: SignedDuration,
}

impl std::fmt::Debug for AuthorityFlags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthorityFlags")
            .field("trust_domain", &self.trust_domain)
            .field("policy", &self.policy())
            .finish_non_exhaustive()
    }
}

/// Why the flags cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No key-encryption key was given.
    #[error("no key-encryption key; set --key-encryption-keys-file, or WEFT_KEY_ENCRYPTION_KEYS")]
    NoKeys,
    /// Two places to take them from.
    #[error("both --key-encryption-keys-file and WEFT_KEY_ENCRYPTION_KEYS are set; unset one")]
    TwoPlaces,
    /// The file cannot be read.
    #[error("--key-encryption-keys-file {path} cannot be read")]
    File {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The keys cannot be used.
    #[error("the key-encryption keys cannot be used")]
    Keys(#[from] KeyListError),
    /// Durations that do not fit together.
    #[error("{0}")]
    Durations(String),
    /// The authorities for bundle endpoints.
    #[error("--bundle-endpoint-ca-file {path} cannot be read")]
    BundleEndpointCa {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The system namespace.
    #[error("--system-namespace cannot be part of an identity")]
    SystemNamespace(#[from] model::SpiffeIdError),
}

impl Config {
    /// The issuer's own identity.
    ///
    /// # Errors
    /// [`ConfigError::SystemNamespace`].
    pub fn identity(&self) -> Result<Identity, ConfigError> {
        let domain = &self.authority.trust_domain;
        Ok(Identity::new(
            domain,
            &self.system_namespace,
            "cert-issuer",
        )?)
    }

    /// Who config-api is, which people reach by the names of `--api-server-names`.
    ///
    /// # Errors
    /// [`ConfigError::SystemNamespace`].
    pub fn api(&self) -> Result<Identity, ConfigError> {
        let domain = &self.authority.trust_domain;
        Ok(Identity::new(domain, &self.system_namespace, "config-api")?)
    }

    /// Whom `https_web` trusts, in PEM; nothing for what the system does.
    ///
    /// # Errors
    /// [`ConfigError::BundleEndpointCa`].
    pub fn bundle_endpoint_authorities(&self) -> Result<Option<Arc<[u8]>>, ConfigError> {
        let read = |path: &PathBuf| {
            let read = std::fs::read(path);
            read.map(Arc::from).map_err(|source| {
                let path = path.clone();
                ConfigError::BundleEndpointCa { path, source }
            })
        };
        self.bundle_endpoint_ca_file.as_ref().map(read).transpose()
    }
}

impl AuthorityFlags {
    /// How long things last.
    pub fn policy(&self) -> Policy {
        Policy {
            root_ttl: self.root_ttl,
            issuing_ttl: self.issuing_ttl,
            svid_ttl: self.svid_ttl,
            overlap: self.root_overlap,
            patience: self.root_patience,
            jwt_ttl: self.jwt_ttl,
            ..Policy::default()
        }
    }

    /// Checks what a single flag cannot: that what is signed fits into what signs it.
    ///
    /// # Errors
    /// [`ConfigError::Durations`], which names the flags.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |text: String| Err(ConfigError::Durations(text));
        let least = SignedDuration::from_secs(2);
        if self.svid_ttl < least || self.jwt_ttl < least {
            return wrong("--svid-ttl and --jwt-ttl must be 2s or more".into());
        }
        if self.issuing_ttl < self.svid_ttl * 2 {
            return wrong(format!(
                "--issuing-ttl {:#} must be at least twice --svid-ttl {:#}",
                self.issuing_ttl, self.svid_ttl
            ));
        }
        if self.root_ttl < self.issuing_ttl * 2 || self.root_ttl < self.root_patience * 2 {
            return wrong(format!(
                "--root-ttl {:#} must be at least twice --issuing-ttl {:#} and twice --root-patience {:#}",
                self.root_ttl, self.issuing_ttl, self.root_patience
            ));
        }
        if self.root_overlap.is_negative() || self.root_overlap > self.root_patience {
            return wrong("--root-overlap must not be longer than --root-patience".into());
        }
        Ok(())
    }

    /// The key-encryption keys.
    ///
    /// # Errors
    /// All but [`ConfigError::Durations`].
    pub fn keys(&self) -> Result<KeyList, ConfigError> {
        let text = match (&self.key_encryption_keys_file, &self.key_encryption_keys) {
            (Some(_), Some(_)) => return Err(ConfigError::TwoPlaces),
            (Some(path), None) => std::fs::read_to_string(path).map_err(|source| {
                let path = path.clone();
                ConfigError::File { path, source }
            })?,
            (None, Some(keys)) => keys.clone(),
            (None, None) => return Err(ConfigError::NoKeys),
        };
        Ok(KeyList::parse(&zeroize::Zeroizing::new(text))?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        config: Config,
    }

    fn parse(args: &[&str]) -> Config {
        let mut config = Flags::try_parse_from([&["cert-issuer"], args].concat())
            .unwrap()
            .config;
        config.authority.key_encryption_keys = None;
        config
    }

    #[test]
    fn the_defaults_fit_together() {
        let config = parse(&[]);
        config.authority.check().unwrap();
        assert_eq!(config.authority.policy(), Policy::default());
        let id = config.identity().unwrap().to_string();
        assert_eq!(id, "spiffe://cluster.local/ns/weft-system/sa/cert-issuer");
    }

    #[test]
    fn durations_that_do_not_fit_are_named() {
        for (flags, named) in [
            (&["--svid-ttl=1s"][..], "--svid-ttl"),
            (&["--svid-ttl=2000h"], "--issuing-ttl"),
            (&["--issuing-ttl=80000h"], "--root-ttl"),
            (&["--root-overlap=200h"], "--root-overlap"),
        ] {
            let error = parse(flags).authority.check().unwrap_err().to_string();
            assert!(error.contains(named), "{flags:?}: {error}");
        }
    }

    #[test]
    fn keys_come_from_one_place_and_are_not_shown() {
        const KEY: &str = "a:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), KEY).unwrap();
        let path = file.path().to_str().unwrap();
        let mut config = parse(&["--key-encryption-keys-file", path]);
        assert_eq!(
            config.authority.keys().unwrap().ids().collect::<Vec<_>>(),
            ["a"]
        );
        config.authority.key_encryption_keys = Some(KEY.into());
        assert!(matches!(
            config.authority.keys(),
            Err(ConfigError::TwoPlaces)
        ));
        assert!(!format!("{config:?}").contains(&KEY[2..]));
        config.authority.key_encryption_keys_file = None;
        config.authority.keys().unwrap();
        assert!(matches!(
            parse(&[]).authority.keys(),
            Err(ConfigError::NoKeys)
        ));
    }
}
