//! Federated trust domains: what MeshConfig says of them, what was fetched, and which bundles are in force.
//!
//! Every replica follows both and serves what is in force; the one that holds the office fetches (`refresh`). *Invariant:*
//! a bundle stays with the name of its trust domain and is never put together with another's.

pub(crate) mod fetch;
pub(crate) mod refresh;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use metrics::gauge;
use model::spec::{BundleEndpointKind, FederatedTrustDomain, MeshConfig};
use model::{FederatedBundle, Key, Kind, Object, Spec, SpiffeId, TrustBundle, TrustDomain};
use store::{Area, Change, Entries, Entry, Event, Scope, Store, Vault, until_answered};
use telemetry::Check;
use tokio::sync::watch;
use tracing::{info, warn};

/// What MeshConfig's troubles are listed under; no trust domain has this name.
const CONFIG: &str = "";

/// The bundles in force, by trust domain.
pub(crate) type Federated = Arc<BTreeMap<TrustDomain, Arc<TrustBundle>>>;

/// A trust domain as it is configured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Domain {
    pub(crate) name: TrustDomain,
    /// Where its bundle is fetched from.
    pub(crate) endpoint: Option<Endpoint>,
    /// The configured bundle.
    pub(crate) bundle: Option<Arc<TrustBundle>>,
    /// What tells this configured bundle from another.
    pub(crate) digest: Option<String>,
}

/// Where a bundle is fetched from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Endpoint {
    pub(crate) url: String,
    /// Who must answer (`https_spiffe`); nobody for `https_web`.
    pub(crate) peer: Option<SpiffeId>,
    /// Whether it may be on this machine or its link.
    pub(crate) local: bool,
}

/// The configured trust domains; `None` until MeshConfig was read.
pub(crate) type Configured = watch::Receiver<Option<Arc<Vec<Domain>>>>;

/// What MeshConfig says; and what of it cannot be used, which the API would have refused.
fn configured(spec: &MeshConfig, own: &TrustDomain) -> (Vec<Domain>, Vec<String>) {
    let (mut domains, mut faults) = (Vec::new(), Vec::new());
    for given in &spec.federated_trust_domains {
        match domain(given, spec.allow_local_bundle_endpoints) {
            Ok(domain) if domain.name == *own => faults.push(format!(
                "spec.federatedTrustDomains: {own} is this mesh's own trust domain; take it out"
            )),
            Ok(domain) => domains.push(domain),
            Err(why) => faults.push(format!(
                "spec.federatedTrustDomains: {:?}: {why}",
                given.trust_domain
            )),
        }
    }
    (domains, faults)
}

fn domain(given: &FederatedTrustDomain, local: bool) -> Result<Domain, String> {
    let name = given.trust_domain.parse::<TrustDomain>();
    let text = given.trust_domain_bundle.as_deref();
    let bundle = text.map(|text| TrustBundle::parse(text.as_bytes()).map(Arc::new));
    let profile = given.bundle_endpoint_profile.as_ref();
    let endpoint = match (&given.bundle_endpoint_url, profile) {
        (None, _) => None,
        (Some(url), Some(profile)) => {
            let id = profile.endpoint_spiffe_id.as_deref();
            let peer = match (profile.kind, id) {
                (BundleEndpointKind::HttpsWeb, _) => None,
                (BundleEndpointKind::HttpsSpiffe, Some(id)) => {
                    Some(id.parse().map_err(|error| format!("{error}"))?)
                }
                _ => return Err("how its endpoint is known is not said".into()),
            };
            let url = url.clone();
            Some(Endpoint { url, peer, local })
        }
        (Some(_), None) => return Err("how its endpoint is known is not said".into()),
    };
    Ok(Domain {
        name: name.map_err(|error| error.to_string())?,
        endpoint,
        bundle: bundle.transpose()?,
        digest: FederatedBundle::digest(text),
    })
}

impl Domain {
    /// The bundle in force: what was fetched since this one was configured, else the configured one.
    fn in_force(&self, stored: Option<&Entry>) -> Option<Arc<TrustBundle>> {
        let fetched = stored.and_then(|entry| match self.fetched(entry) {
            Ok(fetched) => fetched,
            Err(error) => {
                warn!(trust_domain = %self.name, error, "a stored bundle cannot be used");
                None
            }
        });
        fetched.map(Arc::new).or_else(|| self.bundle.clone())
    }

    fn fetched(&self, entry: &Entry) -> Result<Option<TrustBundle>, String> {
        let stored =
            FederatedBundle::from_bytes(&entry.value).map_err(|error| error.to_string())?;
        match stored.configured == self.digest {
            true => TrustBundle::try_from(stored.bundle).map(Some),
            false => Ok(None),
        }
    }
}

/// The bundles in force of all configured trust domains.
fn in_force(domains: &[Domain], stored: &Entries) -> BTreeMap<TrustDomain, Arc<TrustBundle>> {
    let each = domains.iter().filter_map(|domain| {
        let bundle = domain.in_force(stored.get(domain.name.as_str()))?;
        Some((domain.name.clone(), bundle))
    });
    each.collect()
}

/// What is wrong with federation, by trust domain: shown in readiness as one.
pub(crate) struct Troubles {
    check: Check,
    known: Mutex<BTreeMap<String, String>>,
}

impl Troubles {
    pub(crate) fn new(check: Check) -> Self {
        let known = Mutex::default();
        Self { check, known }
    }

    /// What is wrong with a trust domain now, if anything is.
    fn set(&self, of: &str, trouble: Option<String>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match trouble {
            Some(text) => known.insert(of.to_owned(), text),
            None => known.remove(of),
        };
        self.show(&known);
    }

    /// Forgets all trust domains, of which another replica knows from now on.
    fn forget(&self) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|of, _| of == CONFIG);
        self.show(&known);
    }

    fn show(&self, known: &BTreeMap<String, String>) {
        let all: Vec<&str> = known.values().map(String::as_str).collect();
        match all.is_empty() {
            true => self.check.ok(),
            false => self.check.degraded(all.join("; ")),
        }
    }
}

/// Publishes what MeshConfig says, for ever.
pub(crate) async fn follow_config<S: Store>(
    store: Arc<S>,
    root_namespace: String,
    own: TrustDomain,
    publish: watch::Sender<Option<Arc<Vec<Domain>>>>,
    troubles: Arc<Troubles>,
) {
    let key = Key::new(Kind::MeshConfig, root_namespace.as_str(), "default");
    let scope = || Scope {
        kind: Some(Kind::MeshConfig),
        namespace: Some(root_namespace.as_str().into()),
    };
    loop {
        let watched = || store.watch(scope(), None, true);
        let mut events = until_answered("watch MeshConfig", watched).await;
        while let Some(event) = events.next().await {
            let Some(said) = said(event, &key) else {
                continue;
            };
            match said {
                Ok(spec) => {
                    let (domains, faults) = configured(&spec, &own);
                    let fault = (!faults.is_empty()).then(|| faults.join("; "));
                    troubles.set(CONFIG, fault);
                    publish.send_if_modified(|known| {
                        let changed = known.as_deref() != Some(&domains);
                        *known = Some(Arc::new(domains));
                        changed
                    });
                }
                Err(why) => {
                    warn!(why, "MeshConfig cannot be read; what it said before stays");
                    troubles.set(CONFIG, Some(format!("{key}: {why}")));
                    publish.send_if_modified(|known| {
                        let first = known.is_none();
                        known.get_or_insert_default();
                        first
                    });
                }
            }
        }
    }
}

/// What an event makes of MeshConfig; nothing if it does not concern it.
fn said(event: Event, key: &Key) -> Option<Result<Arc<MeshConfig>, String>> {
    let read = |object: &Object| match object.decode().map(|it| it.spec) {
        Ok(Spec::MeshConfig(spec)) => Ok(spec),
        Ok(_) => Err("is no MeshConfig".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    match event {
        Event::Snapshot(snapshot) => {
            let mut damaged = snapshot.undecodable.iter();
            if let Some(value) = damaged.find(|value| value.key.as_ref() == Some(key)) {
                return Some(Err(value.to_string()));
            }
            let mut objects = snapshot.objects.iter();
            let found = objects.find(|object| object.key() == *key);
            Some(found.map_or_else(|| Ok(Arc::default()), |object| read(object)))
        }
        Event::Changes { changes, .. } => {
            changes.into_iter().rev().find_map(|change| match change {
                Change::Put { object, .. } if object.key() == *key => Some(read(&object)),
                Change::Delete { key: gone, .. } if gone == *key => Some(Ok(Arc::default())),
                Change::Undecodable(value) if value.key.as_ref() == Some(key) => {
                    Some(Err(value.to_string()))
                }
                _ => None,
            })
        }
        Event::Progress { .. } | Event::Disconnected { .. } => None,
    }
}

/// Publishes the bundles in force, for ever.
pub(crate) async fn follow_bundles(
    vault: Arc<impl Vault>,
    mut domains: Configured,
    publish: watch::Sender<Option<Federated>>,
) {
    let follow = || vault.follow(Area::Federation);
    let mut sets = until_answered("read the bundles of federated trust domains", follow).await;
    let mut stored: Option<Entries> = None;
    loop {
        tokio::select! {
            set = sets.next() => match set {
                Some(set) => stored = Some(set),
                // It reconnects for ever; the process ends.
                None => return std::future::pending().await,
            },
            changed = domains.changed() => if changed.is_err() { return },
        }
        let known = domains.borrow_and_update().clone();
        if let (Some(domains), Some(stored)) = (known, &stored) {
            show(in_force(&domains, stored), &publish);
        }
    }
}

fn show(
    bundles: BTreeMap<TrustDomain, Arc<TrustBundle>>,
    publish: &watch::Sender<Option<Federated>>,
) {
    publish.send_if_modified(|known| {
        let changed = known.as_deref() != Some(&bundles);
        if changed {
            #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
            gauge!("weft_issuer_federated_trust_domains").set(bundles.len() as f64);
            for (trust_domain, bundle) in &bundles {
                let (sequence, roots) = (bundle.sequence(), bundle.roots().len());
                info!(%trust_domain, sequence, roots, "a federated bundle is in force");
            }
            *known = Some(Arc::new(bundles));
        }
        changed
    });
}

/// How long until the next fetch: what the bundle asks for, within limits.
pub(crate) fn pause(bundle: &TrustBundle) -> Duration {
    let hint = bundle.refresh_hint().unwrap_or(USUAL.as_secs());
    Duration::from_secs(hint).clamp(LEAST, MOST)
}

/// How often a bundle is fetched that does not say (Federation 4.1), at most, and at least.
const USUAL: Duration = Duration::from_secs(300);
const LEAST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(24 * 3600);
