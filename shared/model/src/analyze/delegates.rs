//! Delegation: a VirtualService that cannot be a delegate, and routes of one that are not within the route that delegates.
//!
//! *Invariant:* both sides are told the same: the root of the route it loses, the delegate of the match that does not fit.

use super::Analysis;
use crate::delegation::stray;
use crate::spec::{HttpRoute, VirtualService};
use crate::validate::Path;
use crate::{Key, Kind, Resource, Spec};

impl Analysis<'_, '_> {
    pub(super) fn delegates(&mut self, spec: &VirtualService, path: &Path) {
        for (path, route) in path.each("http", &spec.http) {
            if let Some(key) = delegate_of(self.resource, route) {
                self.root(route, &path.at("delegate"), &key);
            }
        }
        if spec.hosts.is_empty() {
            self.delegate(spec, path);
        }
    }

    /// What a route delegates to, if it is there.
    fn root(&mut self, route: &HttpRoute, path: &Path, key: &Key) {
        let found = self.view.resource(key).map(|found| &found.spec);
        let Some(Spec::VirtualService(delegate)) = found else {
            return; // That it is missing is said already.
        };
        if !delegate.hosts.is_empty() {
            let text = format!("{key} has hosts, so it is no delegate; remove its hosts");
            return self.warn(path, text);
        }
        for (i, inner) in delegate.http.iter().enumerate() {
            if let Some(j) = stray(&route.matches, &inner.matches) {
                let text = format!(
                    "spec.http[{i}] of {key} is left out here: its match[{j}] is not within the match of this route"
                );
                self.warn(path, text);
            }
        }
    }

    /// The routes of other VirtualServices that delegate here.
    fn delegate(&mut self, spec: &VirtualService, path: &Path) {
        let own = self.resource.key();
        let roots = self.mesh.resources().filter_map(|root| match &root.spec {
            Spec::VirtualService(spec) if !spec.hosts.is_empty() => Some((root, spec)),
            _ => None,
        });
        let mut found = Vec::new();
        for (root, outer) in roots {
            let here = |route: &&HttpRoute| delegate_of(root, route).as_ref() == Some(&own);
            for (i, route) in outer.http.iter().enumerate().filter(|(_, r)| here(r)) {
                for (path, inner) in path.each("http", &spec.http) {
                    if let Some(j) = stray(&route.matches, &inner.matches) {
                        let text = format!(
                            "is not within the match of spec.http[{i}] of {}, which delegates here, so this route is left out there; narrow it",
                            root.key()
                        );
                        found.push((path.at(format!("match[{j}]")), text));
                    }
                }
            }
        }
        for (path, text) in found {
            self.warn(&path, text);
        }
    }
}

/// The VirtualService that a route of a resource delegates to.
fn delegate_of(resource: &Resource, route: &HttpRoute) -> Option<Key> {
    let delegate = route.delegate.as_ref()?;
    let namespace = delegate.namespace.as_deref().filter(|ns| !ns.is_empty());
    let namespace = namespace.unwrap_or(&resource.metadata.namespace);
    Some(Key::new(
        Kind::VirtualService,
        namespace,
        delegate.name.as_str(),
    ))
}
