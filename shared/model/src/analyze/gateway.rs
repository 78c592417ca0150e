//! Gateways: selectors that select nobody, servers that take the same connections as an older one, certificates that are not there.
//!
//! *Invariant:* Gateways that no workload has in common are not compared; HTTP in plaintext is shared by all its servers.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Analysis;
use crate::mesh::{Age, selects, workload_labels};
use crate::spec::{Family, Gateway, Server, ServerTlsMode};
use crate::validate::Path;
use crate::{Key, Kind, Resource, Spec};

impl Analysis<'_, '_> {
    pub(super) fn gateway(&mut self, spec: &Gateway, path: &Path) {
        let workloads = self
            .mesh
            .resources()
            .filter(|r| r.spec.kind() == Kind::WorkloadEntry);
        let (mut selected, mut namespaces) = (Vec::new(), BTreeSet::new());
        for workload in workloads {
            let labels = workload_labels(workload);
            if selects(&spec.selector, &labels) {
                selected.push(labels);
                namespaces.insert(Arc::from(workload.metadata.namespace.as_str()));
            }
        }
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
            self.credentials(server, &namespaces, &path.at("tls"));
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

    /// TlsSecrets that a server names, and that its gateways do not find in their namespaces.
    fn credentials(&mut self, server: &Server, namespaces: &BTreeSet<Arc<str>>, path: &Path) {
        let Some(tls) = &server.tls else { return };
        let several = path.each("credentialNames", &tls.credential_names);
        let one = tls
            .credential_name
            .iter()
            .map(|name| (path.at("credentialName"), name));
        let certificates: Vec<_> = one
            .chain(several)
            .filter(|(_, name)| !name.is_empty())
            .collect();
        let verifies = matches!(
            tls.mode,
            ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual
        );
        let authorities = tls.ca_cert_credential_name.iter();
        let authorities = authorities.map(|name| (path.at("caCertCredentialName"), name));
        let authorities = authorities.chain(certificates.iter().cloned()).next();
        for namespace in namespaces {
            let held = |name: &str| match &self.mesh.resource(&key(namespace, name))?.spec {
                Spec::TlsSecret(secret) => Some(secret),
                _ => None,
            };
            let mut missing = Vec::new();
            for (path, name) in &certificates {
                if held(name).is_none_or(|secret| secret.certificate.is_none()) {
                    missing.push((path.clone(), format!("there is no TlsSecret {namespace}/{name} with a certificate; without it the gateways of that namespace take no connection here")));
                }
            }
            if let Some((path, name)) = authorities.clone().filter(|_| verifies) {
                let base = name.strip_suffix("-cacert").unwrap_or(name);
                let names = [base.to_owned(), format!("{base}-cacert")];
                let there = names
                    .iter()
                    .any(|name| held(name).is_some_and(|it| it.ca_certificates.is_some()));
                if !there {
                    missing.push((path, format!("there is no TlsSecret {namespace}/{base}-cacert or {namespace}/{base} with caCertificates; without it no client can be verified")));
                }
            }
            for (path, text) in missing {
                self.warn(&path, text);
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

fn key(namespace: &Arc<str>, name: &str) -> Key {
    Key::new(Kind::TlsSecret, namespace.clone(), name)
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
