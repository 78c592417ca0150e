//! Everything a service needs to be somebody: its flags, and the tasks that keep its certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures::StreamExt as _;
use model::{Credential, Identity, SpiffeIdError, TrustDomain};
use rustls::RootCertStore;
use store::etcd::OwnIdentity;
use store::{Area, Member, Store, Vault};
use telemetry::{Check, Health, Tasks};
use tokio::sync::watch;
use tracing::warn;
use zeroize::Zeroizing;

use crate::keep::{Keeper, roots_of_pem, serve_with};
use crate::{Current, Issuers, Material, Serving};

/// The service name under which issuers register.
const ISSUERS: &str = "cert-issuer";

/// Where the issuer keeps the roots for everybody, in PEM.
const ROOTS: &str = "bundle.pem";

/// Who a service is, and where it proves that.
#[derive(Args, Clone, Debug)]
pub struct IdentityFlags {
    /// The trust domain: what identities begin with, after spiffe://
    #[arg(long, env = "WEFT_TRUST_DOMAIN", default_value = "cluster.local")]
    pub trust_domain: TrustDomain,
    /// The namespace of the control plane's own services
    #[arg(long, env = "WEFT_SYSTEM_NAMESPACE", default_value = "weft-system")]
    pub system_namespace: String,
    /// A file with the credential by which this service gets its certificate; `cert-issuer credential` makes it
    #[arg(long, env = "WEFT_CREDENTIAL_FILE")]
    pub credential_file: Option<PathBuf>,
    /// Show this service's own certificate to etcd, where etcd demands one, instead of --etcd-cert-file. Needs --issuers and
    /// --roots-file, because the certificate is there before etcd can be read
    #[arg(long, env = "WEFT_ETCD_OWN_CERTIFICATE")]
    pub etcd_own_certificate: bool,
    /// Where issuers are, as host:port, beside those that etcd names
    #[arg(long, env = "WEFT_ISSUERS", value_name = "HOST:PORT", value_delimiter = ',', value_parser = place)]
    pub issuers: Vec<String>,
    /// The roots of the mesh (PEM), until they can be read in etcd; an issuer's /bundle.pem
    #[arg(long, env = "WEFT_ROOTS_FILE", value_name = "FILE", value_parser = roots_of_file)]
    pub roots_file: Option<Arc<RootCertStore>>,
    /// The certificate of now.
    #[arg(skip)]
    current: Arc<watch::Sender<Option<Arc<Material>>>>,
}

impl Default for IdentityFlags {
    fn default() -> Self {
        Self {
            trust_domain: "cluster.local".parse().expect("it is a trust domain"),
            system_namespace: "weft-system".into(),
            credential_file: None,
            etcd_own_certificate: false,
            issuers: Vec::new(),
            roots_file: None,
            current: Arc::default(),
        }
    }
}

impl IdentityFlags {
    /// The identity of a service of the control plane.
    ///
    /// # Errors
    /// If the namespace cannot be part of one.
    pub fn service(&self, account: &str) -> Result<Identity, SpiffeIdError> {
        Identity::new(&self.trust_domain, &self.system_namespace, account)
    }

    /// The credential.
    ///
    /// # Errors
    /// A sentence that says which flag or file is wrong and what to do.
    pub fn credential(&self) -> Result<Credential, String> {
        let path = self.credential_file.as_deref().ok_or(
            "--credential-file is missing: a service proves itself to the issuer with a credential; \
             `cert-issuer credential` makes one",
        )?;
        credential(path)
    }

    /// What `--etcd-own-certificate` stands for, if it is set: at every connection, the certificate of then.
    ///
    /// # Errors
    /// A sentence that says which flag is missing and why.
    pub fn for_etcd(&self) -> Result<Option<OwnIdentity>, String> {
        if !self.etcd_own_certificate {
            return Ok(None);
        }
        for (flag, missing) in [
            ("--credential-file", self.credential_file.is_none()),
            ("--issuers", self.issuers.is_empty()),
            ("--roots-file", self.roots_file.is_none()),
        ] {
            if missing {
                return Err(format!(
                    "--etcd-own-certificate needs {flag}, because this service must have its certificate before it can read \
                     etcd; set it, or use --etcd-cert-file and --etcd-key-file instead"
                ));
            }
        }
        let current = self.current.subscribe();
        Ok(Some(Arc::new(move || {
            let material = current.borrow();
            let pair = material.as_ref().map(|material| material.pair());
            pair.ok_or_else(|| "no issuer has given this service its certificate yet".into())
        })))
    }
}

/// Somewhere to connect to: `xds-pusher:18000`, `[::1]:18000`.
///
/// # Errors
/// If it is none.
pub fn place(text: &str) -> Result<String, String> {
    let port = text
        .rsplit_once(':')
        .filter(|(host, _)| !host.is_empty())
        .and_then(|(_, port)| port.parse::<u16>().ok());
    match port {
        Some(1..) => Ok(text.to_owned()),
        _ => Err(format!(
            "{text:?} is not host:port, such as xds-pusher:18000"
        )),
    }
}

fn roots_of_file(path: &str) -> Result<Arc<RootCertStore>, String> {
    let pem = std::fs::read(path).map_err(|error| format!("it cannot be read: {error}"))?;
    roots_of_pem(&pem).map_err(|error| format!("{error}; an issuer gives the roots at /bundle.pem"))
}

fn credential(path: &Path) -> Result<Credential, String> {
    let text = std::fs::read_to_string(path).map(Zeroizing::new);
    let text = text.map_err(|error| {
        format!(
            "--credential-file {} cannot be read: {error}",
            path.display()
        )
    })?;
    Credential::parse(text.trim()).ok_or_else(|| {
        format!(
            "--credential-file {} holds no credential; `cert-issuer credential` makes one",
            path.display()
        )
    })
}

/// What a service is, kept up to date.
pub struct Own {
    /// For clients, and for who wants to know.
    pub current: Current,
    /// For servers.
    pub serving: Serving,
    /// Who signs.
    pub issuers: Arc<Issuers>,
}

impl Own {
    /// Starts the tasks that keep a service's certificate. Readiness has it as `identity`.
    ///
    /// # Errors
    /// If the system namespace cannot be part of an identity.
    pub fn keep(
        flags: &IdentityFlags,
        credential: Credential,
        store: &Arc<dyn Store>,
        vault: &Arc<dyn Vault>,
        tasks: &mut Tasks,
        health: &Health,
    ) -> Result<Self, SpiffeIdError> {
        let issuer = flags.service(ISSUERS)?.id();
        let check = health.check("identity", "the issuer was not asked yet");
        let (publish, addresses) = watch::channel(flags.issuers.clone());
        let follow = follow_issuers(store.clone(), flags.issuers.clone(), publish);
        tasks.spawn_until_shutdown("issuers", follow);
        let (publish, roots) = watch::channel(flags.roots_file.clone());
        tasks.spawn_until_shutdown(
            "roots",
            follow_roots(
                vault.clone(),
                publish,
                health.check("roots", "not read yet"),
            ),
        );
        let issuers = Arc::new(Issuers {
            credential,
            issuer,
            addresses,
            roots,
        });
        let keeper = Keeper::new(issuers.clone());
        let current = flags.current.subscribe();
        tasks.spawn_until_shutdown("identity", keeper.keep(flags.current.clone(), check));
        let (publish, serving) = watch::channel(None);
        tasks.spawn_until_shutdown("serving", serve_with(current.clone(), publish));
        Ok(Self {
            current,
            serving,
            issuers,
        })
    }
}

async fn follow_issuers(
    store: Arc<dyn Store>,
    named: Vec<String>,
    publish: watch::Sender<Vec<String>>,
) {
    loop {
        match store.members(ISSUERS).await {
            Ok(mut sets) => {
                while let Some(set) = sets.next().await {
                    let addresses = addresses(set, &named);
                    publish.send_if_modified(|present| {
                        let changed = *present != addresses;
                        *present = addresses;
                        changed
                    });
                }
            }
            Err(error) => warn!(%error, "the issuers cannot be read; asking again"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Those that are registered, oldest first, and then those that a flag names.
fn addresses(mut members: Vec<Member>, named: &[String]) -> Vec<String> {
    members.sort_by(|a, b| (a.since, &a.instance).cmp(&(b.since, &b.instance)));
    let addresses = members.into_iter().map(|mut m| m.addresses.remove("grpc"));
    let mut addresses: Vec<String> = addresses.flatten().collect();
    for address in named {
        if !addresses.contains(address) {
            addresses.push(address.clone());
        }
    }
    addresses
}

async fn follow_roots(
    vault: Arc<dyn Vault>,
    publish: watch::Sender<Option<Arc<RootCertStore>>>,
    check: Check,
) {
    loop {
        match vault.follow(Area::Ca).await {
            Ok(mut sets) => {
                let mut seen = None;
                while let Some(set) = sets.next().await {
                    let Some(entry) = set.get(ROOTS) else {
                        check.fail("the certificate authority has published no roots yet");
                        continue;
                    };
                    if seen == Some(entry.revision) {
                        continue;
                    }
                    seen = Some(entry.revision);
                    match roots_of_pem(&entry.value) {
                        Ok(roots) => {
                            check.ok();
                            publish.send_replace(Some(roots));
                        }
                        // The last good roots stay.
                        Err(reason) => check.fail(format!("ca/{ROOTS} cannot be used: {reason}")),
                    }
                }
            }
            Err(error) => warn!(%error, "the roots cannot be read; asking again"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[cfg(test)]
mod tests;
