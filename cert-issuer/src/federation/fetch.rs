//! One fetch from a bundle endpoint, by the profiles `https_web` and `https_spiffe` of the SPIFFE Federation standard.
//!
//! *Invariant:* each address that is connected to, redirects included, was verified as the first one: by the same SPIFFE ID or
//! by its DNS name, over https, and not on this machine or its link unless that is allowed.

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use model::spec::{is_local, is_local_address};
use model::{SpiffeId, TrustBundle};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use rustls::RootCertStore;

use super::Endpoint;
use crate::ca::chain;

/// How long a fetch may take.
const LONGEST: Duration = Duration::from_secs(10);

/// The most bytes of a bundle.
const LARGEST: usize = 1024 * 1024;

/// The most redirects.
const REDIRECTS: usize = 3;

/// By what an endpoint is known.
pub(crate) enum Trust {
    /// Its DNS name, by these authorities in PEM, or else those that this machine trusts.
    Web(Option<Arc<[u8]>>),
    /// Its SPIFFE ID, by the roots of that trust domain.
    Spiffe(SpiffeId, Arc<RootCertStore>),
}

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("{0}")]
    Url(String),
    #[error("the TLS client cannot be made: {0}")]
    Client(String),
    #[error("{0}")]
    Request(String),
    #[error("the endpoint answered {0}")]
    Status(reqwest::StatusCode),
    #[error("the answer has more than {LARGEST} bytes")]
    TooLarge,
    #[error("the answer {0}")]
    Bundle(String),
}

/// Fetches a bundle.
pub(crate) async fn bundle(endpoint: &Endpoint, trust: &Trust) -> Result<TrustBundle, FetchError> {
    let url = Url::parse(&endpoint.url).map_err(|error| FetchError::Url(error.to_string()))?;
    allowed(&url, endpoint.local).map_err(FetchError::Url)?;
    let client = client(endpoint.local, trust)?;
    let failed = |error: reqwest::Error| FetchError::Request(chain(&error));
    let mut response = client.get(url).send().await.map_err(failed)?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > LARGEST {
            return Err(FetchError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    TrustBundle::parse(&body).map_err(FetchError::Bundle)
}

/// Whether a URL may be a bundle endpoint's (5.2.1.1, 5.2.2.1).
fn allowed(url: &Url, local: bool) -> Result<(), String> {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_matches(['[', ']']);
    if url.scheme() != "https" || !url.username().is_empty() || url.password().is_some() {
        return Err(format!("{url} must be an https URL without a user"));
    }
    if is_local(host) && !local {
        return Err(format!(
            "{url} is of this machine or of its link; set allowLocalBundleEndpoints if that is meant"
        ));
    }
    Ok(())
}

fn client(local: bool, trust: &Trust) -> Result<Client, FetchError> {
    let failed = |error: &dyn std::error::Error| FetchError::Client(chain(error));
    let redirects = Policy::custom(move |attempt| {
        if attempt.previous().len() > REDIRECTS {
            return attempt.error(format!("more than {REDIRECTS} redirects"));
        }
        match allowed(attempt.url(), local) {
            Ok(()) => attempt.follow(),
            Err(why) => attempt.error(format!("it redirects, but {why}")),
        }
    });
    let builder = Client::builder()
        // A proxy would connect where this one must not.
        .no_proxy()
        .https_only(true)
        .timeout(LONGEST)
        .redirect(redirects)
        .dns_resolver(Arc::new(Resolver { local }));
    let builder = match trust {
        Trust::Web(None) => builder,
        Trust::Web(Some(pem)) => {
            let authorities = reqwest::Certificate::from_pem_bundle(pem);
            builder.tls_certs_only(authorities.map_err(|error| failed(&error))?)
        }
        Trust::Spiffe(peer, roots) => {
            let config = mtls::anonymous(roots.clone(), peer.clone());
            let mut config = config.map_err(|error| failed(&error))?;
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            config.enable_sni = true;
            builder.tls_backend_preconfigured(config)
        }
    };
    builder.build().map_err(|error| failed(&error))
}

/// Finds addresses that may be connected to.
struct Resolver {
    local: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let local = self.local;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let fine = found.filter(|it| local || !is_local_address(it.ip()));
            let fine: Vec<SocketAddr> = fine.collect();
            if fine.is_empty() {
                let why = format!(
                    "{} leads to this machine or its link; set allowLocalBundleEndpoints if that is meant",
                    name.as_str()
                );
                return Err(io::Error::other(why).into());
            }
            Ok(Box::new(fine.into_iter()) as Addrs)
        })
    }
}
