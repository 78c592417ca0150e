//! Who may speak for which node, and the streams of those who may no longer.
//!
//! A node is served to the certificate whose namespace is the node's, whose account is its WorkloadEntry's, and as long as
//! the workload has a credential. Workloads that share an account can act for each other.
//!
//! *Invariant:* nothing that a client merely says lets it in.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use futures::StreamExt;
use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use metrics::counter;
use model::{CredentialRecord, Identity, TrustDomain};
use mtls::Connection;
use store::{Area, Entries, Vault};
use telemetry::Check;
use tokio::sync::watch;
use tonic::{Code, Status};
use tracing::{error, warn};
use xds::{Peer, Streams};

use crate::pass::Passing;
use crate::state::Workload;

/// The service accounts of the control plane that may ask a pusher about its proxies.
const ASKING: [&str; 2] = ["config-api", PUSHER];

/// The service account of pushers.
const PUSHER: &str = "xds-pusher";

/// The account of each workload; `None` until the policy is loaded.
pub(crate) type Accounts = Option<OrdMap<Workload, Arc<str>>>;

/// Whose credentials there are, for which workload, and how many; `None` until they were read.
pub(crate) type Credentials = Option<OrdMap<(Identity, Arc<str>), usize>>;

/// Decides who may speak for which node.
#[derive(Clone)]
pub(crate) struct Guard {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) system_namespace: Arc<str>,
    pub(crate) accounts: watch::Receiver<Accounts>,
    pub(crate) credentials: watch::Receiver<Credentials>,
}

#[allow(clippy::result_large_err, reason = "it is what a stream ends with")]
impl Guard {
    /// Whether a peer may speak for the proxy of a workload, now.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`, `PERMISSION_DENIED`, or `UNAVAILABLE` while that cannot be decided.
    pub(crate) fn may(&self, namespace: &str, name: &str, peer: &Peer) -> Result<(), Status> {
        let identity = self.identity(peer.extensions.get())?;
        let denied = |why: String| Err(Status::permission_denied(why));
        if identity.namespace() != namespace {
            return denied(format!(
                "{identity} may not speak for {namespace}/{name}, which is in another namespace"
            ));
        }
        let accounts = self.accounts.borrow();
        let accounts = accounts
            .as_ref()
            .ok_or_else(|| Status::unavailable("the policy is not loaded yet"))?;
        let Some(account) = accounts.get(&(namespace.into(), name.into())) else {
            return denied(format!("there is no WorkloadEntry {namespace}/{name}"));
        };
        if **account != *identity.service_account() {
            return denied(format!(
                "{identity} may not speak for {namespace}/{name}, whose service account is {account:?}"
            ));
        }
        let credentials = self.credentials.borrow();
        let credentials = credentials
            .as_ref()
            .ok_or_else(|| Status::unavailable("the credentials were not read yet"))?;
        if !credentials.contains_key(&(identity.clone(), name.into())) {
            return denied(format!(
                "{namespace}/{name} has no credential; they may have been revoked"
            ));
        }
        Ok(())
    }

    /// The verified identity of a peer whose certificate has not expired.
    fn identity<'a>(&self, connection: Option<&'a Connection>) -> Result<&'a Identity, Status> {
        let certificate = connection.and_then(|connection| connection.certificate.as_ref());
        let (identity, not_after) = certificate
            .ok_or_else(|| Status::unauthenticated("show a certificate of this mesh"))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs();
        if u64::try_from(not_after.as_second()).unwrap_or(0) <= now {
            return Err(Status::unauthenticated("the certificate has expired"));
        }
        if *identity.trust_domain() != self.trust_domain {
            return Err(Status::unauthenticated(format!(
                "{identity} is not of the trust domain {}",
                self.trust_domain
            )));
        }
        Ok(identity)
    }

    /// Why a peer may no longer speak for a node, if that is so; logged and counted.
    fn lost(&self, node: &str, peer: &Peer) -> Option<Status> {
        let status = self.speaks(node, peer).err();
        let status = status.filter(|status| status.code() != Code::Unavailable)?;
        report(node, &status);
        Some(status)
    }

    /// Whether a peer is a service that may ask about proxies.
    fn asking(&self, connection: Option<&Connection>) -> Result<(), Status> {
        let identity = self.identity(connection)?;
        let known = ASKING.contains(&identity.service_account());
        if known && identity.namespace() == &*self.system_namespace {
            return Ok(());
        }
        Err(Status::permission_denied(format!(
            "{identity} may not ask about proxies"
        )))
    }

    /// Whether a peer is a pusher.
    pub(crate) fn pusher(&self, connection: Option<&Connection>) -> bool {
        self.identity(connection).is_ok_and(|identity| {
            identity.service_account() == PUSHER && identity.namespace() == &*self.system_namespace
        })
    }

    /// Whether a peer may speak for a node, now. A node id of another form is nobody's, and is served to nobody.
    ///
    /// # Errors
    /// As [`Guard::may`].
    pub(crate) fn speaks(&self, node: &str, peer: &Peer) -> Result<(), Status> {
        let mut parts = node.split('~').skip(1);
        match (parts.next(), parts.next()) {
            (Some(namespace), Some(name)) => self.may(namespace, name, peer),
            _ => Ok(()),
        }
    }
}

/// Lets only services of the control plane ask about proxies.
pub(crate) async fn authorize(
    State(guard): State<Guard>,
    request: Request,
    next: Next,
) -> Response {
    if request.uri().path().starts_with("/weft.pusher.v1.")
        && let Err(status) = guard.asking(request.extensions().get())
    {
        report(request.uri().path(), &status);
        return status.into_http();
    }
    next.run(request).await
}

/// Ends streams whose peer may no longer speak for their node; runs until cancelled. A certificate that expires ends its
/// whole connection elsewhere ([`mtls::accept`]).
pub(crate) async fn expel(guard: Guard, streams: Streams, passing: Passing) {
    let (mut accounts, mut credentials) = (guard.accounts.clone(), guard.credentials.clone());
    let mut seen = (accounts.borrow().clone(), credentials.borrow().clone());
    loop {
        tokio::select! {
            changed = accounts.changed() => {
                if changed.is_err() { return }
                let now = accounts.borrow_and_update().clone();
                if !lost(&std::mem::replace(&mut seen.0, now.clone()), &now) { continue }
            }
            changed = credentials.changed() => {
                if changed.is_err() { return }
                let now = credentials.borrow_and_update().clone();
                if !lost(&std::mem::replace(&mut seen.1, now.clone()), &now) { continue }
            }
        }
        for open in streams.list() {
            // Without a node, nothing was served on it yet.
            let Some(node) = &open.stream.node else {
                continue;
            };
            if let Some(status) = guard.lost(&node.id, &open.stream.peer) {
                streams.close(open.stream.id, status);
            }
        }
        for passed in passing.list() {
            if let Some(status) = guard.lost(&passed.node, &passed.peer) {
                passed.close(status);
            }
        }
    }
}

/// Whether something that was there is not, or not the same. Costs what changed.
fn lost<K: Ord + Clone, V: PartialEq + Clone>(
    before: &Option<OrdMap<K, V>>,
    now: &Option<OrdMap<K, V>>,
) -> bool {
    match (before, now) {
        (Some(before), Some(now)) => before
            .diff(now)
            .any(|item| !matches!(item, DiffItem::Add(..))),
        _ => true,
    }
}

/// Logs and counts a refusal.
pub(crate) fn report(what: &str, status: &Status) {
    let reason = match status.code() {
        Code::Unavailable => return,
        Code::PermissionDenied => "authorization",
        _ => "authentication",
    };
    counter!("weft_pusher_refusals_total", "reason" => reason).increment(1);
    warn!(reason, what, message = status.message(), "refused");
}

/// Publishes whose credentials there are, for ever.
pub(crate) async fn follow_credentials(
    vault: Arc<dyn Vault>,
    publish: watch::Sender<Credentials>,
    check: Check,
) {
    loop {
        match vault.follow(Area::Tokens).await {
            Ok(mut sets) => {
                let (mut before, mut counted) = (Entries::default(), OrdMap::default());
                while let Some(set) = sets.next().await {
                    count(&before, &set, &mut counted);
                    before = set;
                    check.ok();
                    publish.send_replace(Some(counted.clone()));
                }
            }
            Err(error) => warn!(%error, "the credentials cannot be read yet; trying again"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn count(before: &Entries, now: &Entries, counted: &mut OrdMap<(Identity, Arc<str>), usize>) {
    let owner = |path: &str, bytes: &[u8]| match CredentialRecord::from_bytes(bytes) {
        Ok(record) => Some((record.identity, Arc::from(record.workload))),
        Err(error) => {
            error!(%error, path = format!("tokens/{path}"), "a stored credential cannot be read");
            None
        }
    };
    for item in before.diff(now) {
        let (gone, come) = match item {
            DiffItem::Add(path, entry) => (None, owner(path, &entry.value)),
            DiffItem::Remove(path, entry) => (owner(path, &entry.value), None),
            DiffItem::Update { old, new } => {
                (owner(old.0, &old.1.value), owner(new.0, &new.1.value))
            }
        };
        if let Some(owner) = come {
            *counted.entry(owner).or_insert(0) += 1;
        }
        if let Some(owner) = gone {
            match counted.get(&owner) {
                Some(n) if *n > 1 => drop(counted.insert(owner, n - 1)),
                _ => drop(counted.remove(&owner)),
            }
        }
    }
}
