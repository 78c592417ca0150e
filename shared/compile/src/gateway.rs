//! What a gateway has: a listener per server port of the Gateways that select it, and the virtual hosts of its domains.
//!
//! A domain is what a server's host and a VirtualService's host have in common: the narrower of the two.
//!
//! *Invariant:* a domain depends on the VirtualServices that name it or a wildcard above it, not on other domains.

mod servers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::mesh::{View, host};
use model::spec::VirtualService;
use model::{Key, Spec};
use xds::Resource;

use crate::class::Class;
use crate::part::Part;
use crate::route_config;
use crate::routing::Site;
use crate::security;
use crate::translate::{pb, route};
use crate::unit::{ClassId, Reading};
use crate::{Interception, Role, outbound};
use servers::{Server, Speaks, read_servers};

/// The domains that the gateways of a class answer to over HTTP.
pub(crate) fn domains(class: &Class, view: &mut View<'_, '_>) -> BTreeSet<Arc<str>> {
    let mut domains = BTreeSet::new();
    for server in read_servers(class, view)
        .iter()
        .filter(|server| server.route().is_some())
    {
        let routed = view.gateway_hosts(&server.gateway_name());
        for (_, pattern) in &server.hosts {
            let common = routed
                .iter()
                .filter_map(|host| host::intersection(pattern, host));
            domains.extend(common.map(Arc::from));
            if server.https_redirect {
                domains.insert(pattern.as_str().into());
            }
        }
    }
    domains
}

/// What a class of gateways has whatever domains there are.
pub(crate) fn fixed(id: ClassId, read: &mut Reading<'_>) -> Part {
    let class = read.class(id);
    let mut part = Part::default();
    let clusters = outbound::special(Role::Gateway, Interception::Explicit, &mut read.view());
    part.resources.extend(clusters.iter().map(Resource::new));
    let security = security::of(&class.policies, &class, read, &mut part);
    let servers = read_servers(&class, &mut read.view());
    let mut ports: BTreeMap<(&str, u16), Vec<&Server<'_>>> = BTreeMap::new();
    for server in &servers {
        ports
            .entry((server.bind(&class), server.spec.port.number))
            .or_default()
            .push(server);
    }
    for ((address, port), servers) in ports {
        let listener = servers::listener(id, address, port, &servers, &security, read, &mut part);
        part.resources
            .extend(listener.map(|listener| Resource::new(&listener)));
        for route in servers.iter().filter_map(|server| server.route()) {
            part.virtual_hosts
                .push((route, route_config::piece(Vec::new())));
        }
    }
    part
}

/// The virtual hosts of a domain, one for each route configuration that a server answers to it from.
pub(crate) fn virtual_hosts(id: ClassId, domain: &Arc<str>, read: &mut Reading<'_>) -> Part {
    let class = read.class(id);
    let mut part = Part::default();
    let servers = read_servers(&class, &mut read.view());
    let mut routes: BTreeMap<Arc<str>, Vec<&Server<'_>>> = BTreeMap::new();
    for server in &servers {
        if let Some(route) = server.route().filter(|_| server.answers(domain)) {
            routes.entry(route).or_default().push(server);
        }
    }
    for (route, servers) in routes {
        let port = servers[0].spec.port.number;
        let redirects = servers.iter().any(|server| server.https_redirect);
        let mut rules: Vec<Key> = Vec::new();
        for server in &servers {
            let found = server.rules(domain, &class, &mut read.view());
            rules.extend(
                found
                    .into_iter()
                    .filter(|key| !rules.contains(key))
                    .collect::<Vec<_>>(),
            );
        }
        let gateways: Vec<String> = servers
            .iter()
            .map(|server| server.gateway_name().to_string())
            .collect();
        let scope = read.scope(id);
        let tls = matches!(servers[0].speaks(), Speaks::Https);
        let site = Site {
            class: &class,
            scope: &scope,
            gateways: &gateways,
            port,
            tls,
        };
        let specs = rules
            .iter()
            .filter_map(|key| Some((key, virtual_service(key, &mut read.view())?)));
        let specs: Vec<(&Key, &VirtualService)> = specs.collect();
        let made = specs
            .iter()
            .flat_map(|(key, spec)| site.http(key, spec, read, &mut part))
            .collect();
        let made = if specs.len() > 1 {
            route::catch_all_last(made)
        } else {
            made
        };
        if made.is_empty() && !redirects {
            continue;
        }
        let mut host = route::virtual_host(domain, port, vec![domain.to_string()], made);
        if redirects {
            host.require_tls = pb::virtual_host::TlsRequirementType::All.into();
        }
        part.virtual_hosts
            .push((route, route_config::piece(vec![host])));
    }
    part
}

/// A VirtualService.
fn virtual_service<'m>(key: &Key, view: &mut View<'m, '_>) -> Option<&'m VirtualService> {
    match &view.resource(key)?.spec {
        Spec::VirtualService(spec) => Some(spec),
        _ => None,
    }
}
