//! What a resource refers to and whether it is there: what Istio's analysis reports, beside what its validation rejects.
//!
//! A finding is a warning, never an error, so that resources can be applied in any order.
//!
//! *Invariant:* a resource that refers only to what exists, and that no other resource overrules, is given no warning.

mod authorization;
mod delegates;
mod destination_rule;
mod gateway;
mod peer_authentication;
mod references;
mod selectors;
mod service_entry;
mod services;
mod shadowed;
mod virtual_service;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

pub use references::{Reference, Target, references};

use crate::mesh::{Change, Fact, Mesh, View};
use crate::validate::{Findings, Path};
use crate::{Kind, Resource, Spec};

/// Something about a resource that people should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// The path of the field, such as `spec.http[0].route[1].destination.subset`.
    pub field: String,
    /// What was found, and the way out.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.text)
    }
}

/// Looks at a resource as part of the mesh, in which it may be already or not yet.
pub fn analyze(resource: &Resource, mesh: &Mesh) -> Vec<Warning> {
    let mut mesh = mesh.clone();
    mesh.apply(Change::Put(Arc::new(resource.clone())));
    let mut read: BTreeSet<Fact> = BTreeSet::new();
    let mut findings = Findings::default();
    let mut analysis = Analysis {
        resource,
        mesh: &mesh,
        view: mesh.view(&mut read),
        findings: &mut findings,
    };
    analysis.run();
    let warnings = findings.warnings.into_iter();
    warnings
        .map(|(field, text)| Warning { field, text })
        .collect()
}

/// One resource, the mesh that it is in, and what was found so far.
struct Analysis<'a, 'r> {
    resource: &'a Resource,
    mesh: &'a Mesh,
    view: View<'a, 'r>,
    findings: &'a mut Findings,
}

impl Analysis<'_, '_> {
    fn run(&mut self) {
        let path = Path::spec();
        for reference in references(self.resource, self.mesh.domain()) {
            self.resolve(&reference);
        }
        match &self.resource.spec {
            Spec::VirtualService(spec) => self.virtual_service(spec, &path),
            Spec::DestinationRule(spec) => self.destination_rule(spec, &path),
            Spec::ServiceEntry(spec) => self.service_entry(spec, &path),
            Spec::Gateway(spec) => self.gateway(spec, &path),
            Spec::Sidecar(spec) => self.sidecar(spec, &path),
            Spec::PeerAuthentication(spec) => self.peer_authentication(spec, &path),
            Spec::AuthorizationPolicy(spec) => self.authorization_policy(spec, &path),
            Spec::RequestAuthentication(spec) => self.request_authentication(spec, &path),
            Spec::MeshConfig(_) => self.mesh_config(),
            Spec::RuntimeLayer(_)
            | Spec::TlsSecret(_)
            | Spec::WorkloadEntry(_)
            | Spec::WorkloadGroup(_) => {}
        }
    }

    fn warn(&mut self, path: &Path, text: impl Into<String>) {
        self.findings.warn(path, text);
    }

    /// The namespace of the resource.
    fn namespace(&self) -> &str {
        &self.resource.metadata.namespace
    }

    fn mesh_config(&mut self) {
        let root = self.mesh.root_namespace();
        if self.resource.metadata.name != "default" || self.namespace() != &**root {
            let text = format!(
                "is not in force: the mesh's configuration is the MeshConfig default of the namespace {root}"
            );
            self.warn(&Path::of("metadata.name"), text);
        }
    }

    /// The other resources of a kind in the resource's namespace, in the order of their names.
    fn others(&self, kind: Kind) -> impl Iterator<Item = &Arc<Resource>> {
        let own = self.resource.key();
        self.mesh
            .resources_of(kind, &own.namespace.clone())
            .filter(move |other| other.key() != own)
    }
}

#[cfg(test)]
mod tests;
