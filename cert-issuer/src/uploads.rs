//! TlsSecrets: followed in the store, opened, and made into what SDS serves.
//!
//! `<namespace>/<name>` is a certificate with its key, `<namespace>/<name>-cacert` its authorities, as in Istio; authorities
//! that were uploaded under that very name prevail. *Invariant:* what cannot be opened replaces nothing, and no key is in a
//! log line.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use imbl::OrdMap;
use metrics::{counter, gauge};
use model::spec::{PrivateKeyPem, TlsSecret};
use model::{Key, Kind, Object, Options, Spec};
use seal::OpeningKey;
use store::{Change, Event, Scope, Store};
use telemetry::Check;
use telemetry::trace::{Context, ContextGuard, TraceContextExt};
use tokio::sync::watch;
use tracing::{info, warn};
use xds::{Resource, make};

use crate::ca::Current;
use crate::trace::{self, Cause};

/// The end of the names of authorities.
const AUTHORITIES: &str = "-cacert";

/// What was uploaded in one namespace.
pub(crate) type OfNamespace = Arc<[Resource]>;

/// What was uploaded, by namespace.
pub(crate) type Uploads = OrdMap<Arc<str>, OfNamespace>;

/// A TlsSecret as SDS serves it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Opened {
    certificate: Option<Resource>,
    authorities: Option<Resource>,
}

/// One TlsSecret: as it is stored, as it was served last, and what is wrong with it.
struct Secret {
    object: Arc<Object>,
    served: Option<Opened>,
    fault: Option<String>,
}

/// All TlsSecrets.
#[derive(Default)]
struct Secrets(BTreeMap<Key, Secret>);

impl Secrets {
    /// A secret was written. Until it was opened, what was served of it stays.
    fn put(&mut self, object: Arc<Object>, keys: &[OpeningKey]) {
        let key = object.key();
        let served = match self.0.remove(&key) {
            Some(before) if before.fault.is_none() && before.object == object => {
                self.0.insert(key, before);
                return;
            }
            before => before.and_then(|before| before.served),
        };
        let mut secret = Secret {
            object,
            served,
            fault: None,
        };
        secret.open(keys);
        self.0.insert(key, secret);
    }

    /// Applies an event; whether anything may have changed.
    fn apply(&mut self, event: Event, keys: &[OpeningKey]) -> bool {
        match event {
            Event::Changes { changes, .. } => {
                for change in changes {
                    match change {
                        Change::Put { object, .. } => self.put(object, keys),
                        Change::Delete { key, .. } => drop(self.0.remove(&key)),
                        Change::Undecodable(value) => warn!(%value, "left as it was"),
                        Change::Liveness { .. } | Change::Rollout { .. } => {}
                    }
                }
            }
            Event::Snapshot(snapshot) => {
                let damaged: Vec<_> = (snapshot.undecodable.iter())
                    .filter_map(|value| value.key.clone())
                    .collect();
                let there: Vec<Key> = snapshot.objects.iter().map(|it| it.key()).collect();
                self.0
                    .retain(|key, _| there.contains(key) || damaged.contains(key));
                for object in snapshot.objects {
                    self.put(object, keys);
                }
            }
            Event::Progress { .. } | Event::Disconnected { .. } => return false,
        }
        true
    }

    /// Tries again what could not be opened, such as before a key was there.
    fn retry(&mut self, keys: &[OpeningKey]) {
        for secret in self.0.values_mut().filter(|it| it.fault.is_some()) {
            secret.open(keys);
        }
    }

    /// What is served of them, by namespace.
    fn uploads(&self) -> Uploads {
        let mut named: BTreeMap<Arc<str>, BTreeMap<&str, &Resource>> = BTreeMap::new();
        // Those whose own name ends so come last, and prevail.
        let (own, others): (Vec<_>, Vec<_>) =
            (self.0.iter()).partition(|(key, _)| key.name.ends_with(AUTHORITIES));
        for (key, secret) in others.into_iter().chain(own) {
            let served = secret.served.iter();
            for resource in served.flat_map(|it| it.certificate.iter().chain(&it.authorities)) {
                let of = named.entry(key.namespace.clone()).or_default();
                of.insert(resource.name(), resource);
            }
        }
        let named = named.into_iter();
        named
            .map(|(namespace, of)| {
                (
                    namespace,
                    of.into_values().cloned().collect::<OfNamespace>(),
                )
            })
            .collect()
    }

    /// What is wrong with the first of those that are not served as they are stored, and how many there are.
    fn faults(&self) -> Option<(usize, String)> {
        let mut faults = (self.0.iter()).filter_map(|(key, it)| Some((key, it.fault.as_ref()?)));
        let (key, fault) = faults.next()?;
        Some((1 + faults.count(), format!("{key}: {fault}")))
    }
}

impl Secret {
    fn open(&mut self, keys: &[OpeningKey]) {
        let key = self.object.key();
        match opened(&self.object, keys) {
            Ok(opened) => {
                info!(%key, "an uploaded secret is served");
                self.served = Some(opened);
                self.fault = None;
            }
            Err(fault) => {
                warn!(%key, fault, "an uploaded secret cannot be served; what was served of it stays");
                counter!("weft_issuer_upload_failures_total").increment(1);
                self.fault = Some(fault);
            }
        }
    }
}

fn opened(object: &Object, keys: &[OpeningKey]) -> Result<Opened, String> {
    // What was written past the API keeps its rules, too.
    let checked = model::check(object.clone(), Options::default()).map_err(|errors| {
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        errors.join("; ")
    })?;
    let Spec::TlsSecret(spec) = &checked.resource.spec else {
        return Err("is no TlsSecret".into());
    };
    let key = object.key();
    let name = format!("{}/{}", key.namespace, key.name);
    let authorities = match name.ends_with(AUTHORITIES) {
        true => name.clone(),
        false => format!("{name}{AUTHORITIES}"),
    };
    let (pem, crl) = (spec.ca_certificates.as_deref(), spec.ca_crl.as_deref());
    Ok(Opened {
        certificate: certificate(spec, &key, &name, keys)?,
        authorities: pem.map(|pem| Resource::new(&make::ca_secret(&authorities, pem, crl))),
    })
}

fn certificate(
    spec: &TlsSecret,
    key: &Key,
    name: &str,
    keys: &[OpeningKey],
) -> Result<Option<Resource>, String> {
    let (Some(chain), Some(sealed)) = (&spec.certificate, &spec.sealed_private_key) else {
        return Ok(None);
    };
    let private =
        seal::open(keys, key, sealed).map_err(|error| format!("spec.sealedPrivateKey: {error}"))?;
    let private = PrivateKeyPem::from(private);
    if private.public_key_sha256().as_ref() != Ok(&sealed.public_key_sha256) {
        return Err("spec.sealedPrivateKey: holds another key than it says".into());
    }
    let secret = make::tls_secret(name, chain, private.expose());
    Ok(Some(Resource::new(&secret)))
}

/// Publishes what was uploaded, for ever.
pub(crate) async fn follow<S: Store>(
    store: Arc<S>,
    mut current: Current,
    publish: watch::Sender<Option<Uploads>>,
    cause: Cause,
    check: Check,
) {
    let keys_of = |current: &mut Current| -> Vec<OpeningKey> {
        let authority = current.borrow_and_update().clone();
        authority.map_or_else(Vec::new, |it| it.sealing_keys().to_vec())
    };
    // Without the authority nothing can be opened.
    if current.wait_for(Option::is_some).await.is_err() {
        return;
    }
    let mut keys = keys_of(&mut current);
    let (mut secrets, mut read) = (Secrets::default(), false);
    let scope = || Scope {
        kind: Some(Kind::TlsSecret),
        namespace: None,
    };
    loop {
        let watched = store.watch(scope(), None, true).await;
        let mut events = match watched {
            Ok(events) => events,
            Err(error) => {
                check.degraded(format!("the TlsSecrets cannot be watched: {error}"));
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            }
        };
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Event::Disconnected { reason }) => {
                        check.degraded(format!("the TlsSecrets cannot be watched: {reason}"));
                        continue;
                    }
                    Some(event) => {
                        let arrived = trace::arrival(&*store, &event).await;
                        let _current = opening(&arrived);
                        if secrets.apply(event, &keys) {
                            read = true;
                            arrived.span().end();
                            cause.set(arrived);
                        }
                    }
                    None => break,
                },
                changed = current.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    keys = keys_of(&mut current);
                    secrets.retry(&keys);
                }
            }
            if read {
                show(&secrets, &publish, &check);
            }
        }
    }
}

/// The span of opening what arrived, current until it is dropped.
fn opening(arrived: &Context) -> Option<ContextGuard> {
    let written = arrived.has_active_span();
    written.then(|| trace::work("open secret", arrived).attach())
}

fn show(secrets: &Secrets, publish: &watch::Sender<Option<Uploads>>, check: &Check) {
    match secrets.faults() {
        None => check.ok(),
        Some((count, first)) => check.degraded(format!(
            "{count} uploaded secrets are not served as they are stored, the first: {first}"
        )),
    }
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    gauge!("weft_issuer_uploads").set(secrets.0.len() as f64);
    let uploads = secrets.uploads();
    publish.send_if_modified(|shown| {
        let changed = shown.as_ref() != Some(&uploads);
        if changed {
            *shown = Some(uploads);
        }
        changed
    });
}
