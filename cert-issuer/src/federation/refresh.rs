//! The replica that holds the office fetches the bundles of federated trust domains, each when its last one says, and stores
//! what is new.
//!
//! *Invariant:* the sequence number of what is stored never goes back, unless an operator configures another bundle.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use metrics::{counter, gauge};
use model::{FederatedBundle, SpiffeId, TrustBundle};
use rustls::RootCertStore;
use store::{Area, Expect, Fence, Vault, VaultError, VaultOp, until_answered};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::fetch::{FetchError, Trust, bundle};
use super::{Configured, Domain, Endpoint, Federated, LEAST, Troubles, USUAL, pause};
use crate::ca::chain;

/// The office of the replica that fetches.
const OFFICE: &str = "federation";

/// How long an office survives its holder.
const OFFICE_TTL: Duration = Duration::from_secs(5);

/// Why a bundle was not replaced.
#[derive(Debug, thiserror::Error)]
pub(super) enum RefreshError {
    #[error("{url}: {source}")]
    Fetch { url: String, source: FetchError },
    #[error("{url} must be {peer}, but there is no bundle of that trust domain yet")]
    NoRoots { url: String, peer: SpiffeId },
    #[error("{url}: a root of {peer} cannot be used: {why}")]
    Root {
        url: String,
        peer: SpiffeId,
        why: String,
    },
    #[error(
        "{url}: its sequence number went back from {from} to {to}; if the trust domain began anew, configure its new trustDomainBundle"
    )]
    Back { url: String, from: u64, to: u64 },
    #[error("the store did not give or take the bundle")]
    Vault(#[from] VaultError),
}

impl From<store::Error> for RefreshError {
    fn from(error: store::Error) -> Self {
        Self::Vault(error.into())
    }
}

/// Fetches and stores.
pub(crate) struct Refresher<V> {
    pub(crate) vault: Arc<V>,
    pub(crate) domains: Configured,
    /// What is in force: the endpoints of one trust domain may be verified by another's bundle.
    pub(crate) federated: watch::Receiver<Option<Federated>>,
    pub(crate) troubles: Arc<Troubles>,
    /// Whom `https_web` trusts, in PEM, instead of what this machine does.
    pub(crate) web: Option<Arc<[u8]>>,
}

impl<V: Vault> Refresher<V> {
    /// Runs for the office, and fetches while it holds it, until the shutdown.
    pub(crate) async fn lead(
        self,
        instance: String,
        shutdown: CancellationToken,
    ) -> Result<(), Infallible> {
        loop {
            let campaign = || self.vault.campaign(OFFICE, &instance, OFFICE_TTL);
            let office = tokio::select! {
                office = until_answered("campaign for the office of federation", campaign) => office,
                () = shutdown.cancelled() => return Ok(()),
            };
            tokio::select! {
                () = self.tend(office.fence()) => {}
                () = office.lost() => debug!("another replica may fetch bundles now"),
                () = shutdown.cancelled() => {}
            }
            self.troubles.forget();
            office.resign().await;
            if shutdown.is_cancelled() {
                return Ok(());
            }
        }
    }

    /// Fetches what is configured; returns when the process ends.
    async fn tend(&self, fence: &Fence) {
        let mut domains = self.domains.clone();
        loop {
            let known = domains.borrow_and_update().clone();
            let known = known.unwrap_or_default();
            self.troubles.forget();
            let work = async {
                if let Err(error) = self.drop_others(&known, fence).await {
                    warn!(
                        error = chain(&error),
                        "bundles that are not configured any more stay stored"
                    );
                }
                join_all(known.iter().map(|domain| self.keep(domain, fence))).await;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = work => {}
                changed = domains.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Forgets what was fetched of trust domains that are not configured any more.
    async fn drop_others(&self, known: &[Domain], fence: &Fence) -> Result<(), VaultError> {
        // Before MeshConfig was read nothing is known to be gone.
        if self.domains.borrow().is_none() {
            return Ok(());
        }
        for (path, entry) in self.vault.read_all(Area::Federation).await? {
            if !known.iter().any(|domain| domain.name.as_str() == &*path) {
                info!(trust_domain = %path, "is not federated any more");
                let delete = VaultOp::Delete {
                    path: path.to_string(),
                    expect: entry.revision,
                };
                let fence = Some(fence);
                self.vault
                    .write(Area::Federation, vec![delete], fence)
                    .await?;
            }
        }
        Ok(())
    }

    /// Keeps the bundle of a trust domain fresh, for ever.
    async fn keep(&self, domain: &Domain, fence: &Fence) {
        let Some(endpoint) = &domain.endpoint else {
            return;
        };
        let (name, mut again) = (domain.name.as_str(), LEAST);
        let count = |outcome: &'static str| {
            counter!("weft_issuer_federation_refreshes_total",
                "trust_domain" => name.to_owned(), "outcome" => outcome)
            .increment(1);
        };
        loop {
            let next = match self.refresh(domain, endpoint, fence).await {
                Ok(bundle) => {
                    count("ok");
                    #[allow(clippy::cast_precision_loss, reason = "seconds are far below 2^52")]
                    gauge!("weft_issuer_federation_refreshed_timestamp_seconds", "trust_domain" => name.to_owned())
                        .set(Timestamp::now().as_second() as f64);
                    self.troubles.set(name, None);
                    again = LEAST;
                    pause(&bundle)
                }
                Err(error) => {
                    count("failed");
                    let why = chain(&error);
                    warn!(
                        trust_domain = name,
                        why, "a bundle was not refreshed; the last one stays"
                    );
                    let kept = match self.of(&domain.name.id()) {
                        Some(_) => "the last bundle stays in force",
                        None => "there is none, so nobody of it is known",
                    };
                    let trouble = format!("{name}: not refreshed, {kept}: {why}");
                    self.troubles.set(name, Some(trouble));
                    // Sooner than the bundle asks for, but ever less often.
                    let usual = self.of(&domain.name.id()).map_or(USUAL, |it| pause(&it));
                    again = (again * 2).min(usual);
                    again
                }
            };
            tokio::time::sleep(next.mul_f64(0.9 + 0.2 * rand::random::<f64>())).await;
        }
    }

    /// The bundle in force of the trust domain of an identity.
    fn of(&self, id: &SpiffeId) -> Option<Arc<TrustBundle>> {
        let federated = self.federated.borrow();
        federated.as_ref()?.get(id.trust_domain()).cloned()
    }

    async fn refresh(
        &self,
        domain: &Domain,
        endpoint: &Endpoint,
        fence: &Fence,
    ) -> Result<TrustBundle, RefreshError> {
        let name = domain.name.as_str();
        let entry = self.vault.read(Area::Federation, name).await?;
        let before = domain.in_force(entry.as_ref());
        let trust = self.trust(domain, endpoint, before.as_deref())?;
        let fetched = bundle(endpoint, &trust).await;
        let fetched = fetched.map_err(|source| RefreshError::Fetch {
            url: endpoint.url.clone(),
            source,
        })?;
        if let Some((from, to)) = goes_back(before.as_deref(), &fetched) {
            let url = endpoint.url.clone();
            return Err(RefreshError::Back { url, from, to });
        }
        if before.is_none_or(|before| *before != fetched) {
            let stored = FederatedBundle {
                configured: domain.digest.clone(),
                fetched: Timestamp::now(),
                bundle: fetched.value().clone(),
            };
            let put = VaultOp::Put {
                path: name.to_owned(),
                value: stored.to_bytes(),
                expect: entry.map_or(Expect::Absent, |entry| Expect::At(entry.revision)),
            };
            let fence = Some(fence);
            self.vault.write(Area::Federation, vec![put], fence).await?;
        }
        Ok(fetched)
    }

    /// By what the endpoint is known. What serves its own trust domain is verified by the latest bundle of that.
    fn trust(
        &self,
        domain: &Domain,
        endpoint: &Endpoint,
        before: Option<&TrustBundle>,
    ) -> Result<Trust, RefreshError> {
        let Some(peer) = &endpoint.peer else {
            return Ok(Trust::Web(self.web.clone()));
        };
        let url = || endpoint.url.clone();
        let other = self.of(peer);
        let bundle = match *peer.trust_domain() == domain.name {
            true => before,
            false => other.as_deref(),
        };
        let given = bundle.map(TrustBundle::roots).unwrap_or_default();
        if given.is_empty() {
            let peer = peer.clone();
            return Err(RefreshError::NoRoots { url: url(), peer });
        }
        let mut roots = RootCertStore::empty();
        for root in given {
            roots
                .add(root.clone())
                .map_err(|error| RefreshError::Root {
                    url: url(),
                    peer: peer.clone(),
                    why: error.to_string(),
                })?;
        }
        Ok(Trust::Spiffe(peer.clone(), roots.into()))
    }
}

/// From which sequence number to which a bundle goes back, if it does.
pub(super) fn goes_back(before: Option<&TrustBundle>, after: &TrustBundle) -> Option<(u64, u64)> {
    let (from, to) = (before?.sequence()?, after.sequence()?);
    (to < from).then_some((from, to))
}
