//! The rules between and within the fields of a spec: what Istio's validation rejects.
//!
//! Source: Istio's `pkg/config/validation`, and the constraints in the comments of its API.
//!
//! *Invariant:* a rule looks at one resource only.

mod authorization_policy;
mod destination_rule;
mod federation;
mod gateway;
mod headers;
mod http;
mod names;
mod peer_authentication;
pub(crate) mod re2;
mod request_authentication;
mod service_entry;
mod sidecar;
mod tls_secret;
mod traffic_policy;
mod virtual_service;
mod workload;

use std::fmt;

use crate::Spec;

/// What was found: fields and the rules they break, and fields people should look at.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) errors: Vec<(String, String)>,
    pub(crate) warnings: Vec<(String, String)>,
}

/// The path of a field.
#[derive(Clone, Debug)]
pub(crate) struct Path(String);

impl Path {
    pub(crate) fn of(field: &str) -> Self {
        Self(field.to_owned())
    }

    pub(crate) fn spec() -> Self {
        Self("spec".to_owned())
    }

    pub(crate) fn at(&self, field: impl fmt::Display) -> Self {
        Self(format!("{}.{field}", self.0))
    }

    fn index(&self, i: usize) -> Self {
        Self(format!("{}[{i}]", self.0))
    }

    /// The items of a list field, each with its path.
    pub(crate) fn each<'a, T>(
        &self,
        field: &str,
        items: &'a [T],
    ) -> impl Iterator<Item = (Self, &'a T)> + use<'a, T> {
        let list = self.at(field);
        items
            .iter()
            .enumerate()
            .map(move |(i, item)| (list.index(i), item))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Findings {
    /// The field breaks this rule.
    fn error(&mut self, path: &Path, rule: impl Into<String>) {
        self.errors.push((path.0.clone(), rule.into()));
    }

    /// Unless this holds, the field breaks the rule.
    fn ensure(&mut self, holds: bool, path: &Path, rule: impl Into<String>) {
        if !holds {
            self.error(path, rule);
        }
    }

    /// What the name, number or pattern itself must keep.
    fn rule(&mut self, path: &Path, result: Result<(), String>) {
        if let Err(rule) = result {
            self.error(path, rule);
        }
    }

    /// Stored, but people should know.
    pub(crate) fn warn(&mut self, path: &Path, text: impl Into<String>) {
        self.warnings.push((path.0.clone(), text.into()));
    }

    /// No value stands twice.
    fn unique<'a, T: Eq + std::hash::Hash + fmt::Display + 'a>(
        &mut self,
        values: impl IntoIterator<Item = (Path, T)>,
        what: &str,
    ) {
        let mut seen = std::collections::HashMap::new();
        for (path, value) in values {
            if let Some(first) = seen.get(&value) {
                self.error(
                    &path,
                    format!("{what} {value} stands already at {first}; each may stand once"),
                );
            } else {
                seen.insert(value, path.0);
            }
        }
    }
}

/// Checks the rules of a spec.
pub(crate) fn validate(spec: &Spec, findings: &mut Findings) {
    let path = Path::spec();
    match spec {
        Spec::ServiceEntry(spec) => service_entry::validate(spec, &path, findings),
        Spec::WorkloadEntry(spec) => {
            workload::entry(spec, &path, workload::Address::Required, findings)
        }
        Spec::WorkloadGroup(spec) => workload::group(spec, &path, findings),
        Spec::VirtualService(spec) => virtual_service::validate(spec, &path, findings),
        Spec::DestinationRule(spec) => destination_rule::validate(spec, &path, findings),
        Spec::Gateway(spec) => gateway::validate(spec, &path, findings),
        Spec::Sidecar(spec) => sidecar::validate(spec, &path, findings),
        Spec::PeerAuthentication(spec) => peer_authentication::validate(spec, &path, findings),
        Spec::AuthorizationPolicy(spec) => authorization_policy::validate(spec, &path, findings),
        Spec::RequestAuthentication(spec) => {
            request_authentication::validate(spec, &path, findings)
        }
        Spec::TlsSecret(spec) => tls_secret::validate(spec, &path, findings),
        Spec::MeshConfig(spec) => traffic_policy::mesh_config(spec, &path, findings),
        Spec::RuntimeLayer(spec) => {
            if let Some(selector) = &spec.workload_selector {
                names::selector(selector, &path.at("workloadSelector"), findings);
            }
        }
    }
}

#[cfg(test)]
mod tests;
