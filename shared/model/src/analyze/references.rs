//! Every place in which a resource names another.
//!
//! *Invariant:* a reference is what was written, in full; whether its target exists is not looked at.

use crate::mesh::host::full_host;
use crate::spec::{Destination, VirtualService};
use crate::validate::Path;
use crate::{Key, Kind, Resource, Spec};

/// A field that names another resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The path of the field.
    pub field: String,
    /// What it names.
    pub target: Target,
}

/// What a field names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A resource, by its key.
    Resource(Key),
    /// A service, by its full host.
    Service {
        /// The host; may be a wildcard in a DestinationRule or a Sidecar.
        host: String,
        /// A subset that a DestinationRule must define.
        subset: Option<String>,
        /// A port that the service must have.
        port: Option<u16>,
    },
}

/// What a resource refers to, in a mesh of this domain, in the order of its fields.
pub fn references(resource: &Resource, domain: &str) -> Vec<Reference> {
    let mut found = Found {
        namespace: &resource.metadata.namespace,
        domain,
        references: Vec::new(),
    };
    let path = Path::spec();
    match &resource.spec {
        Spec::VirtualService(spec) => found.virtual_service(spec, &path),
        Spec::DestinationRule(spec) => found.service(&path.at("host"), &spec.host, None, None),
        Spec::Sidecar(spec) => {
            for (path, egress) in path.each("egress", &spec.egress) {
                for (path, host) in path.each("hosts", &egress.hosts) {
                    if let Some((_, host)) = host.split_once('/').filter(|(ns, _)| *ns != "~") {
                        found.service(&path, host, None, None);
                    }
                }
            }
        }
        _ => {}
    }
    found.references
}

struct Found<'a> {
    namespace: &'a str,
    domain: &'a str,
    references: Vec<Reference>,
}

impl Found<'_> {
    fn add(&mut self, path: &Path, target: Target) {
        self.references.push(Reference {
            field: path.to_string(),
            target,
        });
    }

    fn service(&mut self, path: &Path, host: &str, subset: Option<&str>, port: Option<u16>) {
        let target = Target::Service {
            host: full_host(host, self.namespace, self.domain),
            subset: subset.filter(|subset| !subset.is_empty()).map(Into::into),
            port,
        };
        self.add(path, target);
    }

    fn destination(&mut self, path: &Path, to: &Destination) {
        let port = to.port.map(|port| port.number);
        self.service(path, &to.host, to.subset.as_deref(), port);
    }

    fn gateways(&mut self, path: &Path, gateways: &[String]) {
        for (path, name) in path.each("gateways", gateways) {
            if let Some(key) = gateway_key(name, self.namespace) {
                self.add(&path, Target::Resource(key));
            }
        }
    }

    fn virtual_service(&mut self, spec: &VirtualService, path: &Path) {
        self.gateways(path, &spec.gateways);
        for (path, route) in path.each("http", &spec.http) {
            for (path, to) in path.each("route", &route.route) {
                self.destination(&path.at("destination"), &to.destination);
            }
            if let Some(delegate) = &route.delegate {
                let namespace = delegate.namespace.as_deref().filter(|ns| !ns.is_empty());
                let namespace = namespace.unwrap_or(self.namespace);
                let key = Key::new(Kind::VirtualService, namespace, delegate.name.as_str());
                self.add(&path.at("delegate"), Target::Resource(key));
            }
            if let Some(mirror) = &route.mirror {
                self.destination(&path.at("mirror"), mirror);
            }
            for (path, mirror) in path.each("mirrors", &route.mirrors) {
                self.destination(&path.at("destination"), &mirror.destination);
            }
        }
        let tls = path
            .each("tls", &spec.tls)
            .map(|(path, route)| (path, &route.route));
        let tcp = path
            .each("tcp", &spec.tcp)
            .map(|(path, route)| (path, &route.route));
        for (path, route) in tls.chain(tcp) {
            for (path, to) in path.each("route", route) {
                self.destination(&path.at("destination"), &to.destination);
            }
        }
    }
}

/// The Gateway that a VirtualService of a namespace names; `None` for `mesh`.
pub(super) fn gateway_key(name: &str, namespace: &str) -> Option<Key> {
    let (namespace, name) = match name.split_once('/') {
        None if name == "mesh" => return None,
        Some((".", name)) => (namespace, name),
        Some((namespace, name)) => (namespace, name),
        None => (namespace, name),
    };
    Some(Key::new(Kind::Gateway, namespace, name))
}
