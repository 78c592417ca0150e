//! VirtualServices: gateways that do not serve their hosts, hosts that another one holds.
//!
//! *Invariant:* who wins is read from the mesh, by the rule that the mesh applies.

use std::sync::Arc;

use super::references::gateway_key;
use super::{Analysis, shadowed};
use crate::mesh::Age;
use crate::mesh::host::{full_host, intersection};
use crate::spec::{Gateway, VirtualService};
use crate::validate::Path;
use crate::{Key, Spec};

impl Analysis<'_, '_> {
    pub(super) fn virtual_service(&mut self, spec: &VirtualService, path: &Path) {
        for (path, name) in path.each("gateways", &spec.gateways) {
            self.served(spec, &path, name);
        }
        self.match_gateways(spec, path);
        self.delegates(spec, path);
        if spec.gateways.is_empty() || spec.gateways.iter().any(|gateway| gateway == "mesh") {
            self.conflicts(spec, path);
        }
        shadowed::routes(&spec.http, path, self.findings);
    }

    /// A Gateway that has no server for any of the hosts.
    fn served(&mut self, spec: &VirtualService, path: &Path, name: &str) {
        let namespace = self.resource.metadata.namespace.as_str();
        let Some(key) = gateway_key(name, namespace) else {
            return;
        };
        let Some(Spec::Gateway(gateway)) = self.view.resource(&key).map(|found| &found.spec) else {
            return; // That it is missing is said already.
        };
        let hosts: Vec<_> = spec
            .hosts
            .iter()
            .map(|host| full_host(host, namespace, self.mesh.domain()))
            .collect();
        if !hosts
            .iter()
            .any(|host| serves(gateway, &key, namespace, host))
        {
            let text = format!(
                "no server of {key} has any of the hosts {}",
                hosts.join(", ")
            );
            self.warn(path, text);
        }
    }

    /// Matches for gateways that the VirtualService is not bound to.
    fn match_gateways(&mut self, spec: &VirtualService, path: &Path) {
        let namespace = self.namespace().to_owned();
        let key = |name: &String| gateway_key(name, &namespace);
        let mut bound: Vec<_> = spec.gateways.iter().map(key).collect();
        if bound.is_empty() {
            bound.push(None);
        }
        let delegate = spec.hosts.is_empty();
        let http = path
            .each("http", &spec.http)
            .flat_map(|(path, route)| each_gateways(&path, &route.matches, |m| &m.gateways));
        let tls = path
            .each("tls", &spec.tls)
            .flat_map(|(path, route)| each_gateways(&path, &route.matches, |m| &m.gateways));
        let tcp = path
            .each("tcp", &spec.tcp)
            .flat_map(|(path, route)| each_gateways(&path, &route.matches, |m| &m.gateways));
        let stray = http
            .chain(tls)
            .chain(tcp)
            .filter(|(_, name)| !bound.contains(&key(name)));
        for (path, name) in stray.filter(|_| !delegate) {
            self.warn(
                &path,
                format!("never matches: {name:?} is not among spec.gateways"),
            );
        }
    }

    /// In the mesh, the oldest VirtualService of a host holds alone.
    fn conflicts(&mut self, spec: &VirtualService, path: &Path) {
        let own = self.resource.key();
        let namespace = own.namespace.clone();
        let unborn = self.resource.metadata.creation_timestamp.is_none();
        for (path, host) in path.each("hosts", &spec.hosts) {
            let host = full_host(host, &namespace, self.mesh.domain());
            let routes = self.view.mesh_routes(&namespace, &host);
            let same = routes.into_iter().filter(|listed| *listed.host == *host);
            let mut others: Vec<_> = same
                .map(|listed| listed.key)
                .filter(|key| *key != own)
                .collect();
            others.sort_by_cached_key(|key| self.age(key));
            let Some(first) = others.first() else {
                continue;
            };
            let text = if unborn || self.age(first) < self.age(&own) {
                format!(
                    "{first} is older and has the host {host:?} in the mesh too; for it, this one has no effect"
                )
            } else {
                format!(
                    "{first} has the host {host:?} in the mesh too; this one is older, so that one has no effect for it"
                )
            };
            self.warn(&path, text);
        }
    }

    fn age(&mut self, key: &Key) -> Option<Age> {
        let resource: &Arc<_> = self.view.resource(key)?;
        Some(Age::new(key.kind, &resource.metadata))
    }
}

/// The gateways of each match, with their paths.
fn each_gateways<'a, M>(
    path: &Path,
    matches: &'a [M],
    gateways: impl Fn(&'a M) -> &'a Vec<String>,
) -> Vec<(Path, &'a String)> {
    path.each("match", matches)
        .flat_map(|(path, one)| path.each("gateways", gateways(one)).collect::<Vec<_>>())
        .collect()
}

/// Whether a Gateway has a server for a host of a VirtualService of a namespace.
fn serves(gateway: &Gateway, key: &Key, namespace: &str, host: &str) -> bool {
    let hosts = gateway.servers.iter().flat_map(|server| &server.hosts);
    hosts
        .map(|pattern| pattern.split_once('/').unwrap_or(("*", pattern)))
        .any(|(from, pattern)| {
            let visible = match from {
                "*" => true,
                "." => *key.namespace == *namespace,
                from => from == namespace,
            };
            visible && intersection(&pattern.to_ascii_lowercase(), host).is_some()
        })
}
