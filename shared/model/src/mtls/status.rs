//! What the workloads of a service take, mutual TLS or plaintext: from what policies decide and what proxies acknowledged.
//!
//! *Invariant:* [`State::Strict`] is said of nothing that may take plaintext, as far as anybody can know.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;

use super::{Acknowledged, Decision, Mode, Modes, Running, modes};
use crate::mesh::{Service, View, workload_labels};
use crate::spec::{Port, WorkloadEntry};
use crate::{Key, Spec};

/// What a port, a workload or a service takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody knows: no proxy acknowledged anything for it. It may take plaintext.
    Unknown,
    /// Plaintext only.
    Disable,
    /// Both.
    Permissive,
    /// Mutual TLS only, but for connections that were accepted before; until then.
    Draining(Timestamp),
    /// Mutual TLS only.
    Strict,
    /// Its ports or workloads differ.
    Mixed,
}

impl State {
    /// What a port takes whose policy decides `decided` and whose proxy was last seen to run `running`.
    fn of(decided: Mode, running: Option<Running>) -> Self {
        match running {
            None => Self::Unknown,
            Some(Running::Disable) => Self::Disable,
            Some(Running::Permissive) => Self::Permissive,
            // It may have left STRICT already, and tell in a moment.
            Some(_) if decided != Mode::Strict => Self::Permissive,
            Some(Running::Draining(until)) => Self::Draining(until),
            Some(Running::Strict) => Self::Strict,
        }
    }

    /// What holds for all of these together; for none of them nobody knows.
    pub fn together(states: impl IntoIterator<Item = Self>) -> Self {
        let both = |a, b| match (a, b) {
            (Self::Draining(a), Self::Draining(b)) => Self::Draining(a.max(b)),
            (Self::Draining(until), Self::Strict) | (Self::Strict, Self::Draining(until)) => {
                Self::Draining(until)
            }
            (a, b) if a == b => a,
            _ => Self::Mixed,
        };
        states.into_iter().reduce(both).unwrap_or(Self::Unknown)
    }

    /// Until when connections of before may speak plaintext, if that is all that may.
    pub fn until(self) -> Option<Timestamp> {
        match self {
            Self::Draining(until) => Some(until),
            _ => None,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "UNKNOWN",
            Self::Disable => "DISABLE",
            Self::Permissive => "PERMISSIVE",
            Self::Draining(_) => "DRAINING",
            Self::Strict => "STRICT",
            Self::Mixed => "MIXED",
        })
    }
}

/// One port of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortStatus {
    /// The port of the workload itself.
    pub port: u16,
    /// The ports of the service that lead to it.
    pub service_ports: Vec<u16>,
    /// What it takes.
    pub state: State,
    /// The mode that policies decide; absent where no policy can reach it, for want of a proxy.
    pub decision: Option<Decision>,
    /// Whether the proxy acknowledged that mode.
    pub acked: bool,
    /// Since when the proxy runs the mode that it acknowledged last, whether or not it is the decided one.
    pub since: Option<Timestamp>,
}

/// One workload of a service, or an endpoint that is written into its ServiceEntry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadStatus {
    /// The WorkloadEntry; `None` for an endpoint without one, which has no proxy of the mesh.
    pub workload: Option<Key>,
    /// Its address.
    pub address: Option<String>,
    /// Its ports.
    pub ports: Vec<PortStatus>,
}

impl WorkloadStatus {
    /// What it takes.
    pub fn state(&self) -> State {
        State::together(self.ports.iter().map(|port| port.state))
    }
}

/// What the workloads of a service take: those it selects, alive or not, by name, then the endpoints of its ServiceEntry.
pub fn status(
    service: &Service,
    view: &mut View<'_, '_>,
    acknowledged: impl Fn(&Key) -> Option<Acknowledged>,
    now: Timestamp,
) -> Vec<WorkloadStatus> {
    let mut all = Vec::new();
    for resource in view.workloads(service) {
        let Spec::WorkloadEntry(entry) = &resource.spec else {
            continue;
        };
        let key = resource.key();
        let labels = workload_labels(resource);
        let modes = modes(&view.peer_authentications(&key.namespace, &labels));
        let said = acknowledged(&key).unwrap_or_default();
        let ports = ports(entry, &service.spec.ports);
        let ports = ports.map(|(port, of)| of_port(port, of, &modes, &said, now));
        all.push(WorkloadStatus {
            ports: ports.collect(),
            address: entry.address.clone(),
            workload: Some(key),
        });
    }
    let own = view.endpoints(service).into_iter();
    all.extend(
        own.filter(|endpoint| endpoint.workload.is_none())
            .map(|endpoint| {
                let ports = ports(endpoint.spec, &service.spec.ports);
                WorkloadStatus {
                    workload: None,
                    address: endpoint.spec.address.clone(),
                    ports: ports.map(|(port, of)| unreached(port, of)).collect(),
                }
            }),
    );
    all
}

/// The ports of a workload that these ports of a service lead to.
fn ports(workload: &WorkloadEntry, of: &[Port]) -> impl Iterator<Item = (u16, Vec<u16>)> + use<> {
    let mut ports = BTreeMap::<u16, Vec<u16>>::new();
    for port in of {
        ports
            .entry(workload.port(port))
            .or_default()
            .push(port.number);
    }
    ports.into_iter()
}

fn of_port(
    port: u16,
    service_ports: Vec<u16>,
    modes: &Modes,
    said: &Acknowledged,
    now: Timestamp,
) -> PortStatus {
    let decision = modes.of_port(port);
    let last = said.ports.get(&port);
    PortStatus {
        port,
        service_ports,
        state: State::of(decision.mode, said.running(port, now)),
        acked: last.is_some_and(|last| last.mode == decision.mode),
        since: last.map(|last| last.since),
        decision: Some(decision.clone()),
    }
}

/// A port that no proxy of the mesh is before.
fn unreached(port: u16, service_ports: Vec<u16>) -> PortStatus {
    PortStatus {
        port,
        service_ports,
        state: State::Unknown,
        decision: None,
        acked: false,
        since: None,
    }
}

#[cfg(test)]
mod tests;
