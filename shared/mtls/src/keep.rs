//! A service's own certificate: asked of the issuer, renewed at half of its validity, and anew when the roots change.
//!
//! *Invariant:* what is published can be used at once; while the issuer is away, the last certificate stays.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{RootCertStore, ServerConfig};
use telemetry::Check;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::issuers::ANSWER;
use crate::{Current, Issuers, Material};

/// How long to wait before the issuer is asked again, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The roots of the mesh; `None` until there are any.
pub(crate) type Roots = watch::Receiver<Option<Arc<RootCertStore>>>;

/// Roots in PEM.
pub(crate) fn roots_of_pem(pem: &[u8]) -> Result<Arc<RootCertStore>, String> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(pem) {
        let root = root.map_err(|error| error.to_string())?;
        roots.add(root).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("there is no certificate in it".into());
    }
    Ok(Arc::new(roots))
}

/// Keeps a service's certificate.
pub(crate) struct Keeper {
    issuers: Arc<Issuers>,
    addresses: watch::Receiver<Vec<String>>,
    roots: Roots,
}

impl Keeper {
    pub(crate) fn new(issuers: Arc<Issuers>) -> Self {
        Self {
            addresses: issuers.addresses.clone(),
            roots: issuers.roots.clone(),
            issuers,
        }
    }

    /// Keeps it for ever. The check fails while there is none, or it has expired, and warns while it is not renewed.
    pub(crate) async fn keep(
        mut self,
        publish: Arc<watch::Sender<Option<Arc<Material>>>>,
        check: Check,
    ) {
        let mut pause = PAUSE.0;
        loop {
            let roots = self.roots.borrow_and_update().clone();
            let due = match self.renew(roots).await {
                Ok((material, due)) => {
                    info!(identity = %material.identity(), until = %material.not_after(), "have a certificate");
                    telemetry::expires("own", material.not_after().as_second());
                    publish.send_replace(Some(Arc::new(material)));
                    check.ok();
                    pause = PAUSE.0;
                    Duration::try_from(due.duration_since(Timestamp::now())).unwrap_or_default()
                }
                Err(reason) => {
                    let held = publish.borrow().as_ref().map(|held| held.not_after());
                    match held.filter(|until| *until > Timestamp::now()) {
                        Some(until) => check.degraded(format!(
                            "the certificate is not renewed, it ends at {until}: {reason}"
                        )),
                        None => check.fail(format!("there is no certificate: {reason}")),
                    }
                    warn!(reason, "the issuer gave no certificate; asking again");
                    pause = (pause * 2).min(PAUSE.1);
                    pause
                }
            };
            tokio::select! {
                () = tokio::time::sleep(due) => {}
                changed = self.roots.changed() => if changed.is_err() { return },
                // A new place to ask matters only while the last answer was none.
                changed = self.addresses.changed(), if pause > PAUSE.0 => if changed.is_err() { return },
            }
        }
    }

    async fn renew(
        &mut self,
        roots: Option<Arc<RootCertStore>>,
    ) -> Result<(Material, Timestamp), String> {
        let roots = roots.ok_or("the certificate authority has published no roots yet")?;
        let addresses = self.addresses.borrow_and_update().clone();
        if addresses.is_empty() {
            return Err("no issuer has registered".into());
        }
        let mut reasons = Vec::new();
        for address in addresses {
            match tokio::time::timeout(ANSWER, self.issuers.ask(&address, roots.clone())).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(reason)) => reasons.push(format!("{address}: {reason}")),
                Err(_) => reasons.push(format!("{address}: no answer within {ANSWER:?}")),
            }
        }
        Err(reasons.join("; "))
    }
}

/// How connections are served with what a service holds at present; runs for ever.
pub(crate) async fn serve_with(
    mut current: Current,
    publish: watch::Sender<Option<Arc<ServerConfig>>>,
) {
    loop {
        let material = current.borrow_and_update().clone();
        if let Some(material) = material {
            match material.server() {
                Ok(config) => drop(publish.send_replace(Some(Arc::new(config)))),
                Err(error) => warn!(%error, "the certificate cannot be served with"),
            }
        }
        if current.changed().await.is_err() {
            return;
        }
    }
}
