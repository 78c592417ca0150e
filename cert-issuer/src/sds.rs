//! Secrets over SDS: which names there are, who may have which, and the streams that ask for them.
//!
//! *Invariant:* whether a caller may have a secret is decided for each request, by the identity it proved, before anything
//! is looked up.

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use model::{Identity, SpiffeId, TrustDomain};
use tokio::sync::{mpsc, watch};
use tonic::{Code, Status};
use tracing::warn;
use xds::pb::envoy::config::core::v3::Node;
use xds::pb::envoy::service::discovery::v3::DiscoveryRequest;
use xds::session::{Event, Response};
use xds::{Callbacks, Peer, Request, ResourceType, SnapshotSource, Snapshots, StreamInfo, Streams};

use crate::caller::{Caller, Gate, refusal};
use crate::federation::Federated;
use crate::trace::Answers;
use crate::workloads::{Ask, Workload, is_token};

/// The caller's own certificate and key.
pub const DEFAULT: &str = "default";

/// The roots of the caller's trust domain.
pub const ROOT_CA: &str = "ROOTCA";

/// Whether an identity may have the secret of this name. `federated`: whether a trust domain is.
///
/// # Errors
/// `PERMISSION_DENIED`, with the reason.
#[allow(clippy::result_large_err, reason = "it is what the request ends with")]
pub fn allowed(
    name: &str,
    identity: &Identity,
    federated: impl Fn(&TrustDomain) -> bool,
) -> Result<(), Status> {
    if [DEFAULT, ROOT_CA, "*"].contains(&name) || is_token(name) {
        return Ok(());
    }
    let denied = |why: String| Err(Status::permission_denied(why));
    let Ok(id) = name.parse::<SpiffeId>() else {
        return match name.split_once('/') {
            Some((namespace, secret))
                if !namespace.is_empty() && !secret.is_empty() && !secret.contains('/') =>
            {
                if namespace == identity.namespace() {
                    return Ok(());
                }
                denied(format!(
                    "{identity} may not have the secret {name:?}, which is of another namespace"
                ))
            }
            _ => denied(format!(
                "there is no secret {name:?}; ask for {DEFAULT:?}, {ROOT_CA:?}, {:?}, {:?}, \"jwt:<audience>\", \"bearer:<audience>\", or \"{}/<name>\" of a TlsSecret",
                identity.to_string(),
                identity.trust_domain().id().to_string(),
                identity.namespace()
            )),
        };
    };
    if id == identity.id() || id == identity.trust_domain().id() {
        return Ok(());
    }
    if id.path().is_empty() {
        return match federated(id.trust_domain()) {
            true => Ok(()),
            false => denied(format!(
                "there is no secret {name:?}: the trust domain is not one of MeshConfig's federatedTrustDomains"
            )),
        };
    }
    denied(format!("{identity} may not have the secret of {id}"))
}

/// Whether a caller may speak for a node: its namespace must be the identity's, and its workload the one that the
/// credential was made for.
///
/// # Errors
/// `PERMISSION_DENIED`, with the reason.
#[allow(clippy::result_large_err, reason = "it is what the request ends with")]
pub fn workload(node_id: &str, caller: &Caller) -> Result<Workload, Status> {
    let denied = |why: String| Err(Status::permission_denied(why));
    let parts: Vec<&str> = node_id.split('~').collect();
    let ["sidecar" | "gateway", namespace, name] = parts[..] else {
        return denied(format!(
            "node id {node_id:?} is not sidecar~<namespace>~<workload> or gateway~<namespace>~<workload>"
        ));
    };
    if namespace != caller.identity.namespace() {
        return denied(format!(
            "{} may not speak for node {node_id:?} of another namespace",
            caller.identity
        ));
    }
    if *caller.workload != *name {
        return denied(format!(
            "the credential was made for the workload {:?}, not for node {node_id:?}",
            caller.workload
        ));
    }
    Ok(Workload {
        identity: caller.identity.clone(),
        node: node_id.into(),
    })
}

/// The server's view of callers and their secrets.
pub(crate) struct Sds {
    pub(crate) gate: Gate,
    pub(crate) federated: watch::Receiver<Option<Federated>>,
    pub(crate) workloads: mpsc::Sender<Ask>,
    pub(crate) answers: Answers,
}

impl Sds {
    fn federates(&self, domain: &TrustDomain) -> bool {
        let federated = self.federated.borrow();
        (federated.as_ref()).is_some_and(|federated| federated.contains_key(domain))
    }

    #[allow(clippy::result_large_err, reason = "it is what the request ends with")]
    fn check<'a>(
        &self,
        peer: &Peer,
        type_url: &str,
        names: impl Iterator<Item = &'a String>,
    ) -> Result<(), Status> {
        let caller = caller(peer)?;
        let decide = || {
            self.gate.still(caller)?;
            if type_url != ResourceType::Secret.type_url() && !type_url.is_empty() {
                return Err(Status::permission_denied("the issuer serves secrets only"));
            }
            names.into_iter().try_for_each(|name| {
                allowed(name, &caller.identity, |domain| self.federates(domain))
            })
        };
        decide().inspect_err(|status| report(caller, status))
    }

    /// Has tokens signed, if some of the names are of tokens.
    #[allow(clippy::result_large_err, reason = "it is what the request ends with")]
    fn want<'a>(
        &self,
        peer: &Peer,
        node: Option<&Node>,
        names: impl Iterator<Item = &'a String>,
    ) -> Result<(), Status> {
        let names: Vec<String> = names.filter(|name| is_token(name)).cloned().collect();
        // Without a node the request is refused for that.
        let Some(node) = node.filter(|_| !names.is_empty()) else {
            return Ok(());
        };
        let workload = self.speaks_for(node, peer)?;
        self.ask(Ask::Tokens { workload, names })
    }

    #[allow(clippy::result_large_err, reason = "it is what the request ends with")]
    fn speaks_for(&self, node: &Node, peer: &Peer) -> Result<Workload, Status> {
        let caller = caller(peer)?;
        workload(&node.id, caller).inspect_err(|status| report(caller, status))
    }

    #[allow(clippy::result_large_err, reason = "it is what the request ends with")]
    fn ask(&self, ask: Ask) -> Result<(), Status> {
        self.workloads.try_send(ask).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Status::resource_exhausted("too many proxies connect at once; try again")
            }
            mpsc::error::TrySendError::Closed(_) => {
                Status::unavailable("this replica is shutting down")
            }
        })
    }
}

#[allow(clippy::result_large_err, reason = "it is what the request ends with")]
fn caller(peer: &Peer) -> Result<&Caller, Status> {
    let caller = peer.extensions.get::<Caller>();
    caller.ok_or_else(|| Status::unauthenticated("the caller is not known"))
}

fn report(caller: &Caller, status: &Status) {
    let reason = match status.code() {
        Code::PermissionDenied => "authorization",
        _ => "authentication",
    };
    refusal(reason, &caller.identity.to_string(), status);
}

impl Callbacks for Sds {
    fn on_response(&self, stream: &StreamInfo, response: &Response) {
        self.answers.sent(stream, response);
    }

    fn on_event(&self, stream: &StreamInfo, event: &Event) {
        self.answers.event(stream, event);
        if let Event::Nack { error, .. } = event {
            let proxy = stream.node.as_ref().map_or("", |node| node.id.as_str());
            warn!(proxy, error, "an Envoy refused its secrets");
        }
    }

    fn on_request(&self, stream: &StreamInfo, request: Request<'_>) -> Result<(), Status> {
        self.answers.asked(stream, request);
        let (names, node) = match request {
            Request::Sotw(request) => (&request.resource_names, &request.node),
            Request::Delta(request) => (&request.resource_names_subscribe, &request.node),
        };
        let initial = match request {
            Request::Sotw(_) => None,
            Request::Delta(request) => Some(request.initial_resource_versions.keys()),
        };
        let names = names.iter().chain(initial.into_iter().flatten());
        self.check(&stream.peer, request.type_url(), names.clone())?;
        let node = stream.node.as_deref().or(node.as_ref());
        self.want(&stream.peer, node, names)
    }

    fn on_fetch_request(&self, peer: &Peer, request: &DiscoveryRequest) -> Result<(), Status> {
        let names = request.resource_names.iter();
        self.check(peer, &request.type_url, names.clone())?;
        self.want(peer, request.node.as_ref(), names)
    }
}

impl SnapshotSource for Sds {
    fn snapshots(&self, node: &Node, peer: &Peer) -> Result<Snapshots, Status> {
        let workload = self.speaks_for(node, peer)?;
        let (publish, snapshots) = watch::channel(None);
        self.ask(Ask::Connect { workload, publish })?;
        Ok(snapshots)
    }
}

/// Ends streams whose caller is no longer who it proved to be; runs until cancelled.
pub(crate) async fn expel(
    gate: Gate,
    streams: Streams,
    mut credentials: watch::Receiver<Option<store::Entries>>,
) {
    while credentials.changed().await.is_ok() {
        for open in streams.list() {
            let Some(caller) = open.stream.peer.extensions.get::<Caller>() else {
                continue;
            };
            if let Err(status) = gate.still(caller)
                && status.code() != Code::Unavailable
            {
                report(caller, &status);
                streams.close(open.stream.id, status);
            }
        }
    }
}

/// What all connected proxies have acknowledged of the bundle: the revision of a snapshot is the bundle's sequence.
pub(crate) fn acknowledged(streams: &Streams) -> crate::authority::rotation::Acknowledged {
    use crate::authority::rotation::Acknowledged;
    let acked = streams.list().into_iter().map(|status| {
        let secrets = status.types.get(&ResourceType::Secret);
        let acked = secrets.and_then(|secrets| secrets.acked).unwrap_or(0);
        u64::try_from(acked).unwrap_or(0)
    });
    acked
        .min()
        .map_or(Acknowledged::Nobody, Acknowledged::Sequence)
}

/// Which trust domain's bundle a name is, if it is one.
pub(crate) fn bundle_name(trust_domain: &TrustDomain) -> String {
    trust_domain.id().to_string()
}

/// Half of a validity, a tenth more or less: `jitter` is from 0 to 1.
pub fn renewal(now: Timestamp, not_after: Timestamp, jitter: f64) -> Timestamp {
    let half = not_after.duration_since(now) / 2;
    let part = half.mul_f64(0.9 + 0.2 * jitter.clamp(0.0, 1.0));
    now + part
}
