//! The public keys of an OpenID Connect issuer, from a file or by HTTPS; fetched anew when a token names an unknown one.
//!
//! *Invariant:* only the fetcher's task fetches, and not more often than [`PAUSE`]; keys that could not be confirmed for
//! [`STALE`] are no longer used.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use reqwest::Url;
use serde_json::Value;
use telemetry::Check;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

/// How often keys are fetched when nobody asks: a key that was withdrawn is forgotten after so long.
const REFRESH: Duration = Duration::from_secs(300);
/// The least time between two fetches: tokens with made-up key ids must not become a load on the issuer.
const PAUSE: Duration = Duration::from_secs(1);
/// How long keys are used that could not be fetched again.
const STALE: Duration = Duration::from_secs(3600);
/// The most bytes of a key set or a discovery document.
const MOST: usize = 1024 * 1024;

/// Where keys come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Origin {
    /// A file with a JWK Set.
    File(PathBuf),
    /// A URL with one.
    Url(Url),
    /// The issuer's discovery document says.
    Issuer(Url),
}

impl Origin {
    /// From `--oidc-issuer` and `--oidc-keys`.
    ///
    /// # Errors
    /// If keys would come over a wire that anybody can write on.
    pub(crate) fn new(issuer: &str, keys: Option<&str>) -> Result<Self, String> {
        match keys {
            None => {
                let document = format!(
                    "{}/.well-known/openid-configuration",
                    issuer.trim_end_matches('/')
                );
                let url = safe(&document).map_err(|why| {
                    format!("--oidc-issuer {issuer:?}: {why}, or say --oidc-keys FILE")
                })?;
                Ok(Self::Issuer(url))
            }
            Some(url) if url.contains("://") => safe(url)
                .map(Self::Url)
                .map_err(|why| format!("--oidc-keys {url:?}: {why}")),
            Some(path) => Ok(Self::File(path.into())),
        }
    }
}

/// A URL that may be trusted to lead where it says.
fn safe(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    match url.scheme() {
        "https" => Ok(url),
        "http" if address.is_ok_and(|a| a.is_loopback()) => Ok(url),
        _ => Err("must be an https URL (http only to a loopback address)".into()),
    }
}

/// What was fetched, and how that went.
#[derive(Clone, Debug, Default)]
struct State {
    keys: Vec<Jwk>,
    confirmed: Option<Instant>,
    trouble: Option<String>,
}

/// The keys as they are known now.
pub(crate) struct Keys {
    state: ArcSwap<State>,
    asking: mpsc::Sender<oneshot::Sender<()>>,
}

impl Keys {
    /// The key of this id; without an id, the only one there is.
    pub(crate) fn find(&self, kid: Option<&str>) -> Option<Jwk> {
        let state = self.state.load();
        if state.confirmed.is_none_or(|at| at.elapsed() > STALE) {
            return None;
        }
        match kid {
            Some(_) => (state.keys.iter())
                .find(|key| key.common.key_id.as_deref() == kid)
                .cloned(),
            None => match state.keys.as_slice() {
                [only] => Some(only.clone()),
                _ => None,
            },
        }
    }

    /// Why the keys could not be fetched the last time.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.state.load().trouble.clone()
    }

    /// Returns once the keys were fetched after this was called, or as lately as they may be.
    pub(crate) async fn refresh(&self) {
        let (done, fetched) = oneshot::channel();
        if self.asking.send(done).await.is_ok() {
            // An error means that the fetcher is gone, and the service with it.
            let _ = fetched.await;
        }
    }
}

/// Fetches keys; the only one who does.
pub(crate) struct Fetcher {
    origin: Origin,
    http: reqwest::Client,
    keys: Arc<Keys>,
    asked: mpsc::Receiver<oneshot::Sender<()>>,
}

impl Fetcher {
    /// A fetcher that has fetched nothing yet. `authority` are PEM certificates to trust instead of the system's.
    ///
    /// # Errors
    /// If the certificates cannot be read.
    pub(crate) fn new(origin: Origin, authority: Option<&[u8]>) -> Result<Self, String> {
        let mut http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(10));
        if let Some(pem) = authority {
            let certificates =
                reqwest::Certificate::from_pem_bundle(pem).map_err(|e| e.to_string())?;
            http = http.tls_certs_only(certificates);
        }
        let (asking, asked) = mpsc::channel(64);
        Ok(Self {
            origin,
            http: http.build().map_err(|error| error.to_string())?,
            keys: Arc::new(Keys {
                state: ArcSwap::default(),
                asking,
            }),
            asked,
        })
    }

    pub(crate) fn keys(&self) -> Arc<Keys> {
        self.keys.clone()
    }

    /// Fetches for ever.
    pub(crate) async fn run(mut self, check: Check) {
        loop {
            self.fetch(&check).await;
            let fetched = tokio::time::Instant::now();
            let asked = tokio::time::timeout(REFRESH, self.asked.recv()).await;
            let Ok(Some(first)) = asked else {
                if self.asked.is_closed() {
                    return;
                }
                continue;
            };
            tokio::time::sleep_until(fetched + PAUSE).await;
            let mut waiting = vec![first];
            while let Ok(another) = self.asked.try_recv() {
                waiting.push(another);
            }
            self.fetch(&check).await;
            for done in waiting {
                // Who asked may have gone.
                let _ = done.send(());
            }
        }
    }

    async fn fetch(&self, check: &Check) {
        let mut state = State::clone(&self.keys.state.load());
        match self.try_fetch().await {
            Ok(keys) => {
                if state.keys != keys {
                    info!(keys = keys.len(), "the keys of the OIDC issuer are new");
                }
                state = State {
                    keys,
                    confirmed: Some(Instant::now()),
                    trouble: None,
                };
                check.ok();
            }
            Err(why) => {
                warn!(%why, "the keys of the OIDC issuer cannot be fetched");
                check.degraded(format!(
                    "the keys of the OIDC issuer cannot be fetched: {why}"
                ));
                state.trouble = Some(why);
            }
        }
        self.keys.state.store(Arc::new(state));
    }

    async fn try_fetch(&self) -> Result<Vec<Jwk>, String> {
        let bytes = match &self.origin {
            Origin::File(path) => tokio::fs::read(path)
                .await
                .map_err(|error| format!("{}: {error}", path.display()))?,
            Origin::Url(url) => self.get(url).await?,
            Origin::Issuer(document) => {
                let bytes = self.get(document).await?;
                let said: Value = serde_json::from_slice(&bytes)
                    .map_err(|error| format!("{document}: {error}"))?;
                let uri = said["jwks_uri"].as_str().unwrap_or_default();
                let url =
                    safe(uri).map_err(|why| format!("{document}: jwks_uri {uri:?}: {why}"))?;
                self.get(&url).await?
            }
        };
        usable(&bytes)
    }

    async fn get(&self, url: &Url) -> Result<Vec<u8>, String> {
        let failed = |error: reqwest::Error| format!("{url}: {}", deepest(&error));
        let answer = self.http.get(url.clone()).send().await.map_err(failed)?;
        if !answer.status().is_success() {
            return Err(format!("{url} answered {}", answer.status()));
        }
        let mut answer = answer;
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MOST {
                return Err(format!("{url} answered more than {MOST} bytes"));
            }
        }
        Ok(bytes)
    }
}

/// The keys of a set that may verify signatures.
fn usable(bytes: &[u8]) -> Result<Vec<Jwk>, String> {
    let set: JwkSet =
        serde_json::from_slice(bytes).map_err(|error| format!("it is no JWK Set: {error}"))?;
    let signs = |key: &Jwk| {
        let usage = key.common.public_key_use.as_ref();
        usage.is_none_or(|usage| *usage == PublicKeyUse::Signature)
    };
    Ok(set.keys.into_iter().filter(signs).collect())
}

fn deepest(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
