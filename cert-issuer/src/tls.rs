//! The issuer's own TLS: a certificate from its own authority, renewed like any other.
//!
//! *Invariant:* no session outlives its handshake's trust: sessions are not resumed.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use model::Identity;
use ring::rand::SystemRandom;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::NoServerSessionStorage;
use telemetry::Check;
use tokio::sync::watch;
use tracing::warn;

use crate::authority::{Authority, AuthorityError};
use crate::ca::{Current, chain};
use crate::key::PrivateKey;
use crate::sds::renewal;

/// Why the issuer cannot serve TLS.
#[derive(Debug, thiserror::Error)]
enum TlsError {
    #[error("the issuer's own certificate cannot be signed")]
    Sign(#[from] AuthorityError),
    #[error("the TLS library does not take the certificate")]
    Tls(#[from] rustls::Error),
}

/// Who the issuer is to its clients.
pub(crate) struct Own {
    pub(crate) identity: Identity,
    pub(crate) server_names: Vec<String>,
    pub(crate) ttl: SignedDuration,
}

impl Own {
    /// Keeps a certificate for the issuer itself, for ever.
    pub(crate) async fn keep(
        self,
        mut current: Current,
        publish: watch::Sender<Option<Arc<ServerConfig>>>,
        check: Check,
    ) {
        loop {
            let authority = current.borrow_and_update().clone();
            let due = match authority.map(|authority| self.config(&authority)) {
                None => None,
                Some(Ok((config, due))) => {
                    publish.send_replace(Some(Arc::new(config)));
                    check.ok();
                    Some(due)
                }
                Some(Err(error)) => {
                    let error = chain(&error);
                    warn!(error, "the issuer's own certificate is not renewed");
                    check.fail(error);
                    Some(Timestamp::now() + SignedDuration::from_secs(5))
                }
            };
            let sleep = async {
                match due {
                    Some(at) => {
                        let left = at.duration_since(Timestamp::now());
                        tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = current.changed() => if changed.is_err() { return },
                () = sleep => {}
            }
        }
    }

    fn config(&self, authority: &Authority) -> Result<(ServerConfig, Timestamp), TlsError> {
        let (now, random) = (Timestamp::now(), SystemRandom::new());
        let key = PrivateKey::generate(&random).map_err(AuthorityError::from)?;
        let id = self.identity.id();
        let names = &self.server_names;
        let svid = authority.sign(&id, &key.public(), now, self.ttl, names, &random)?;
        let mut chain = svid.chain;
        // For proxies whose bootstraps pin an older root.
        chain.extend(authority.lineage(now).cloned());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.pkcs8().to_vec()));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        telemetry::expires("own", svid.not_after.as_second());
        Ok((config, renewal(now, svid.not_after, rand::random())))
    }
}
