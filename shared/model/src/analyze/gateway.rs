//! Gateways: selectors that select nobody, and servers that take the same connections as an older one.
//!
//! *Invariant:* Gateways that no workload has in common are not compared; HTTP in plaintext is shared by all its servers.

use super::Analysis;
use crate::mesh::{Age, selects, workload_labels};
use crate::spec::{Family, Gateway, Server};
use crate::validate::Path;
use crate::{Kind, Resource, Spec};

impl Analysis<'_, '_> {
    pub(super) fn gateway(&mut self, spec: &Gateway, path: &Path) {
        let workloads = self
            .mesh
            .resources()
            .filter(|r| r.spec.kind() == Kind::WorkloadEntry);
        let selected: Vec<_> = workloads
            .map(|workload| workload_labels(workload))
            .filter(|labels| selects(&spec.selector, labels))
            .collect();
        if selected.is_empty() {
            let text = "selects no workload; a gateway is a WorkloadEntry with these labels";
            self.warn(&path.at("selector"), text);
        }
        let own = self.resource;
        let mut others: Vec<(Age, &Resource, &Gateway)> = Vec::new();
        for other in self.mesh.resources() {
            if let Spec::Gateway(gateway) = &other.spec
                && self.before(other)
                && selected
                    .iter()
                    .any(|labels| selects(&gateway.selector, labels))
            {
                others.push((Age::new(Kind::Gateway, &other.metadata), other, gateway));
            }
        }
        others.sort_by(|a, b| a.0.cmp(&b.0));
        for (at, (path, server)) in path.each("servers", &spec.servers).enumerate() {
            let older = others.iter().flat_map(|(_, other, gateway)| {
                gateway
                    .servers
                    .iter()
                    .enumerate()
                    .map(move |it| (*other, it))
            });
            let earlier = spec.servers[..at].iter().enumerate().map(|it| (own, it));
            let taken = older
                .chain(earlier)
                .find(|(_, (_, first))| collide(first, server));
            if let Some((other, (i, _))) = taken {
                let of = if other.key() == own.key() {
                    "of this Gateway".to_owned()
                } else {
                    format!("of {}, which is older", other.key())
                };
                let text = format!(
                    "takes the same connections as spec.servers[{i}] {of} and is in force; use another port or other hosts"
                );
                self.warn(&path.at("port.number"), text);
            }
        }
    }

    /// Whether another resource of this one's kind prevails over it.
    fn before(&self, other: &Resource) -> bool {
        let own = &self.resource.metadata;
        let kind = self.resource.spec.kind();
        let unborn = own.creation_timestamp.is_none();
        other.key() != self.resource.key()
            && (unborn || Age::new(kind, &other.metadata) < Age::new(kind, own))
    }
}

/// Whether of two servers only one can have a connection.
fn collide(first: &Server, second: &Server) -> bool {
    fn bind(server: &Server) -> Option<&str> {
        server.bind.as_deref().filter(|bind| !bind.is_empty())
    }
    if first.port.number != second.port.number || bind(first) != bind(second) {
        return false;
    }
    let host = |text: &str| {
        let host = text.split_once('/').map_or(text, |(_, host)| host);
        host.to_ascii_lowercase()
    };
    match (first.family(), second.family()) {
        (Family::Http, Family::Http) => false,
        (Family::Tls, Family::Tls) => first
            .hosts
            .iter()
            .any(|one| second.hosts.iter().any(|two| host(one) == host(two))),
        (Family::Tls, _) | (_, Family::Tls) => false,
        _ => true,
    }
}
