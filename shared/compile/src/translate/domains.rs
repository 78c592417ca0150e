//! The domains of a virtual host: which `Host` headers mean a service, seen from a namespace.
//!
//! From the service's full name to the spellings that name it there, as Istio's `generateVirtualHostDomains`. Envoy refuses a
//! route configuration in which a domain occurs twice, so [`Claims`] gives each away once.
//!
//! *Invariant:* nothing here looks at routes.

use std::collections::BTreeSet;

use super::names;

/// Whether the port in a `Host` header counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PortInHost {
    /// The listener is the service's port and the route configuration sets `ignore_port_in_host_matching`.
    Ignored,
    /// One listener serves all ports (the HTTP proxy port): a service's port is in its domains, and only port 80 answers to
    /// the bare name.
    Matched(u16),
}

/// What the domains of one virtual host are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names<'a> {
    /// The full name, possibly a wildcard: `reviews.default.svc.cluster.local`, `*.wikipedia.org`.
    pub(crate) host: &'a str,
    /// Addresses that mean the service too.
    pub(crate) addresses: &'a [String],
    /// The namespace of the proxy that calls.
    pub(crate) namespace: &'a str,
    /// The mesh's domain: `svc.cluster.local`.
    pub(crate) mesh_domain: &'a str,
    /// Whether ports are part of it.
    pub(crate) port: PortInHost,
}

/// Gives each domain of a route configuration to the first virtual host that asks.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    full_names: BTreeSet<String>,
    taken: BTreeSet<String>,
}

impl Claims {
    /// `full_names` are the full names of all services of the route configuration: no short spelling of another service
    /// takes them away.
    pub(crate) fn new<'a>(full_names: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            full_names: full_names
                .into_iter()
                .map(str::to_ascii_lowercase)
                .collect(),
            taken: BTreeSet::new(),
        }
    }

    /// The domains that are left for this virtual host; empty when another has them all.
    pub(crate) fn claim(&mut self, names: &Names<'_>) -> Vec<String> {
        let own = std::iter::once(names.host).chain(names.addresses.iter().map(String::as_str));
        let own: Vec<String> = own.map(str::to_ascii_lowercase).collect();
        let short = short_names(names.host, names.namespace, names.mesh_domain);
        let short = short
            .into_iter()
            .filter(|short| !self.full_names.contains(short));
        own.into_iter()
            .chain(short.collect::<Vec<_>>())
            .flat_map(|name| spellings(&name, names.port))
            .filter(|domain| self.taken.insert(domain.clone()))
            .collect()
    }
}

/// The shorter names of a service of the mesh: all of them from its own namespace, those with the namespace from another.
pub(crate) fn short_names(host: &str, namespace: &str, mesh_domain: &str) -> Vec<String> {
    let host = host.to_ascii_lowercase();
    let Some(prefix) = host
        .strip_suffix(mesh_domain)
        .and_then(|rest| rest.strip_suffix('.'))
    else {
        return Vec::new();
    };
    let Some((name, its_namespace)) = prefix.split_once('.') else {
        return Vec::new();
    };
    let first_label = mesh_domain.split('.').next().unwrap_or(mesh_domain);
    let own = (its_namespace == namespace).then(|| name.to_owned());
    own.into_iter()
        .chain([prefix.to_owned(), format!("{prefix}.{first_label}")])
        .collect()
}

/// A name with and without its port, as far as each means the service.
fn spellings(name: &str, port: PortInHost) -> Vec<String> {
    let bare = names::bracketed(name);
    match port {
        _ if name == "*" => vec![bare],
        PortInHost::Ignored => vec![bare],
        PortInHost::Matched(80) => vec![bare, names::authority(name, 80)],
        PortInHost::Matched(port) => vec![names::authority(name, port)],
    }
}

#[cfg(test)]
mod tests;
