//! What PeerAuthentications mean: for a workload and a port, which mode of mutual TLS is in force, by which policy and why.
//!
//! Source: Istio's `ComposePeerAuthentication` in `pilot/pkg/security/authn/policy_applier.go`.
//!
//! *Invariant:* which policies there are is decided elsewhere ([`crate::mesh::View::peer_authentications`]); here is what
//! they add up to.

mod acknowledged;
mod status;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use acknowledged::{Acknowledged, DRAIN, Running, SETTLE, Since};
pub use status::{PortStatus, State, WorkloadStatus, status};

use crate::Key;
use crate::spec::{MutualTls, PeerAuthentication, PeerMode};

/// A mode of mutual TLS that is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Mode {
    /// The proxy takes plaintext only; what is TLS goes through to the workload as it is.
    Disable,
    /// The proxy takes mutual TLS and plaintext.
    Permissive,
    /// The proxy takes mutual TLS only.
    Strict,
}

/// How narrow the policy is that decided a mode: the narrowest that says something prevails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// No policy says anything.
    Default,
    /// A policy of the root namespace.
    Mesh,
    /// A policy of the workload's namespace.
    Namespace,
    /// A policy that selects the workload.
    Workload,
    /// `portLevelMtls` of a policy that selects the workload.
    Port,
}

/// A mode, and what decided it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The mode.
    pub mode: Mode,
    /// How narrow the policy is.
    pub scope: Scope,
    /// The policy; `None` if none says anything.
    pub policy: Option<Key>,
}

/// A policy and its name.
pub type Policy<'a> = (Key, &'a PeerAuthentication);

/// The policies that hold for a workload: of each scope the oldest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policies<'a> {
    /// Of the root namespace, without a selector.
    pub mesh: Option<Policy<'a>>,
    /// Of the workload's namespace, without a selector.
    pub namespace: Option<Policy<'a>>,
    /// Of the workload's namespace, selecting it.
    pub workload: Option<Policy<'a>>,
}

/// The modes of a workload: of its ports in general, and of those that a policy names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Modes {
    /// Of every port that no policy names.
    pub others: Decision,
    /// Of single ports of the workload itself.
    pub ports: BTreeMap<u16, Decision>,
}

impl Modes {
    /// What holds for a port of the workload itself (not of a service).
    pub fn of_port(&self, port: u16) -> &Decision {
        self.ports.get(&port).unwrap_or(&self.others)
    }
}

/// What policies add up to. A policy that is silent (`UNSET`) yields to the next wider scope, not to a younger policy of its
/// own scope.
pub fn modes(policies: &Policies<'_>) -> Modes {
    let mut others = Decision {
        mode: Mode::Permissive,
        scope: Scope::Default,
        policy: None,
    };
    let scopes = [
        (Scope::Mesh, &policies.mesh),
        (Scope::Namespace, &policies.namespace),
        (Scope::Workload, &policies.workload),
    ];
    for (scope, policy) in scopes {
        if let Some((key, policy)) = policy
            && let Some(mode) = policy.mtls.and_then(said)
        {
            others = Decision {
                mode,
                scope,
                policy: Some(key.clone()),
            };
        }
    }
    let ports = policies.workload.iter().flat_map(|(key, policy)| {
        let ports = policy.port_level_mtls.iter().flatten();
        ports.filter_map(|(port, mtls)| {
            let decision = Decision {
                mode: said(*mtls)?,
                scope: Scope::Port,
                policy: Some(key.clone()),
            };
            Some((*port, decision))
        })
    });
    Modes {
        ports: ports.collect(),
        others,
    }
}

fn said(mtls: MutualTls) -> Option<Mode> {
    match mtls.mode {
        PeerMode::Unset => None,
        PeerMode::Disable | PeerMode::None => Some(Mode::Disable),
        PeerMode::Permissive => Some(Mode::Permissive),
        PeerMode::Strict => Some(Mode::Strict),
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disable => "DISABLE",
            Self::Permissive => "PERMISSIVE",
            Self::Strict => "STRICT",
        })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::Mesh => "mesh",
            Self::Namespace => "namespace",
            Self::Workload => "workload",
            Self::Port => "port",
        })
    }
}

#[cfg(test)]
mod tests;
