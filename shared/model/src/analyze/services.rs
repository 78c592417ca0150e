//! Whether what a reference names is there: services with their ports and subsets, and resources by key.
//!
//! *Invariant:* what is said to be missing is missing for the namespace of the resource that names it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Analysis, Reference, Target};
use crate::mesh::Service;
use crate::mesh::host::{covering, covers};
use crate::validate::Path;
use crate::{Kind, Spec};

impl<'a> Analysis<'a, '_> {
    pub(super) fn resolve(&mut self, reference: &Reference) {
        let path = Path::of(&reference.field);
        match &reference.target {
            Target::Resource(key) => {
                if self.view.resource(key).is_none() {
                    let effect = match key.kind {
                        Kind::VirtualService => "requests that match get 404",
                        _ => "this has no effect there",
                    };
                    self.warn(
                        &path,
                        format!("there is no {key}; until there is, {effect}"),
                    );
                }
            }
            Target::Service { host, subset, port } => {
                self.resolve_service(&path, host, subset.as_deref(), *port);
            }
        }
    }

    fn resolve_service(
        &mut self,
        path: &Path,
        host: &str,
        subset: Option<&str>,
        port: Option<u16>,
    ) {
        if host.starts_with('*') {
            if !self.mesh.hosts().any(|known| covers(host, known)) {
                self.warn(path, format!("no service's host matches {host:?}"));
            }
            return;
        }
        let Some(service) = self.service(host) else {
            let text = match self.hidden(host) {
                Some(owner) => format!(
                    "{owner} does not export the host {host:?} to the namespace {:?}; see its exportTo",
                    self.namespace()
                ),
                None => format!(
                    "there is no service with the host {host:?}; a ServiceEntry declares one"
                ),
            };
            return self.warn(path, text);
        };
        self.port(path, &service, port);
        if let Some(subset) = subset.filter(|subset| !self.has_subset(&service, host, subset)) {
            let text = format!(
                "no DestinationRule for {host:?} has the subset {subset:?}; until there is one, requests get 503"
            );
            self.warn(&path.at("subset"), text);
        }
    }

    fn port(&mut self, path: &Path, service: &Service, port: Option<u16>) {
        let ports: Vec<u16> = service.spec.ports.iter().map(|port| port.number).collect();
        let list = || {
            let texts: Vec<_> = ports.iter().map(ToString::to_string).collect();
            texts.join(", ")
        };
        match port {
            Some(port) if !ports.contains(&port) => {
                let text = format!("{:?} has no port {port}, only {}", &*service.host, list());
                self.warn(&path.at("port.number"), text);
            }
            None if ports.len() > 1 && self.resource.spec.kind() == Kind::VirtualService => {
                let text = format!(
                    "{:?} has several ports ({}); without port.number, the port that the request came to is used",
                    &*service.host,
                    list()
                );
                self.warn(path, text);
            }
            _ => {}
        }
    }

    /// The service of a host, perhaps one of a wildcard that covers it, as seen from the resource's namespace.
    pub(super) fn service(&mut self, host: &str) -> Option<Arc<Service>> {
        let namespace = self.resource.metadata.namespace.as_str();
        covering(host).find_map(|host| self.view.service(namespace, &host).cloned())
    }

    /// The ServiceEntry of a host that is not exported to here.
    fn hidden(&mut self, host: &str) -> Option<String> {
        let service = covering(host).find_map(|host| self.view.services(&host).next())?;
        Some(service.entry.to_string())
    }

    fn has_subset(&mut self, service: &Service, host: &str, subset: &str) -> bool {
        let rules = self
            .view
            .rules(&self.resource.metadata.namespace, &BTreeMap::new(), service);
        let mut in_force = rules.iter().filter_map(|key| self.view.resource(key));
        if in_force.any(|rule| defines(&rule.spec, subset)) {
            return true;
        }
        // Rules with a selector hold for some callers only, and are not among those above.
        let namespace = self.resource.key().namespace;
        covering(host)
            .flat_map(|host| self.view.rules_of(&namespace, &host))
            .collect::<Vec<_>>()
            .iter()
            .filter_map(|key| self.view.resource(key))
            .any(|rule| defines(&rule.spec, subset))
    }
}

fn defines(spec: &Spec, subset: &str) -> bool {
    matches!(spec, Spec::DestinationRule(rule) if rule.subsets.iter().any(|s| s.name == subset))
}
