//! The servers of Gateways, and the listener of a port from the servers on it.
//!
//! *Invariant:* servers of one port that cannot be told apart never both get filter chains: the oldest Gateway's prevails.

use std::sync::Arc;

use model::mesh::{View, host};
use model::spec::{Server as Spec, ServerTlsMode};
use model::{Key, Spec as Resource};

use super::virtual_service;
use crate::class::Class;
use crate::listener::{self, FilterChain, Http, Listener, Routes, http_filter};
use crate::part::{Part, Report};
use crate::port::Protocol;
use crate::routing::Site;
use crate::security::Security;
use crate::sidecar::ANY;
use crate::translate::secrets::Uploaded;
use crate::translate::{pb, server_tls, tcp};
use crate::unit::{ClassId, Reading};

/// What a server's connections are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    /// HTTP in plaintext.
    Http,
    /// HTTP over TLS that ends here.
    Https,
    /// TLS that ends elsewhere: routed by server name.
    Passthrough,
    /// TLS that ends here, with something else than HTTP in it.
    Tls,
    /// Bytes.
    Tcp,
}

/// A server of a Gateway.
pub(super) struct Server<'m> {
    /// The Gateway.
    pub(super) gateway: Key,
    /// Its place in the Gateway.
    at: usize,
    /// As written.
    pub(super) spec: &'m Spec,
    /// Its hosts: namespace pattern and host.
    pub(super) hosts: Vec<(String, String)>,
    /// Whether plaintext requests are sent to HTTPS.
    pub(super) https_redirect: bool,
}

/// The servers of the Gateways of a class, the oldest Gateway's first.
pub(super) fn read_servers<'m>(class: &Class, view: &mut View<'m, '_>) -> Vec<Server<'m>> {
    let mut servers = Vec::new();
    for key in &class.gateways {
        let Some(Resource::Gateway(gateway)) = view.resource(key).map(|resource| &resource.spec)
        else {
            continue;
        };
        for (at, spec) in gateway.servers.iter().enumerate() {
            let hosts = spec.hosts.iter().map(|text| {
                let (namespace, host) = text.split_once('/').unwrap_or(("*", text));
                let namespace = if namespace == "." {
                    &key.namespace
                } else {
                    namespace
                };
                (namespace.to_owned(), host.to_ascii_lowercase())
            });
            let https_redirect = spec.tls.as_ref().is_some_and(|tls| tls.https_redirect);
            servers.push(Server {
                gateway: key.clone(),
                at,
                spec,
                hosts: hosts.collect(),
                https_redirect,
            });
        }
    }
    servers
}

impl Server<'_> {
    /// The Gateway as VirtualServices name it in full.
    pub(super) fn gateway_name(&self) -> Arc<str> {
        format!("{}/{}", self.gateway.namespace, self.gateway.name).into()
    }

    /// The address it listens on.
    pub(super) fn bind<'a>(&'a self, class: &'a Class) -> &'a str {
        let default = class.own.as_deref().unwrap_or(ANY);
        self.spec.bind.as_deref().unwrap_or(default)
    }

    /// What its connections are.
    pub(super) fn speaks(&self) -> Speaks {
        let mode = self.spec.tls.as_ref().map(|tls| tls.mode);
        match (Protocol::of(&self.spec.port), mode) {
            (Protocol::Http | Protocol::Http2, _) => Speaks::Http,
            (_, Some(ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough)) => {
                Speaks::Passthrough
            }
            (Protocol::Https, Some(_)) => Speaks::Https,
            (Protocol::Tls, Some(_)) => Speaks::Tls,
            (Protocol::Https | Protocol::Tls, None) => Speaks::Passthrough,
            _ => Speaks::Tcp,
        }
    }

    /// The route configuration it answers from, if it speaks HTTP.
    pub(super) fn route(&self) -> Option<Arc<str>> {
        let port = &self.spec.port;
        match self.speaks() {
            Speaks::Http => Some(format!("http.{}", port.number).into()),
            Speaks::Https => {
                let Key {
                    namespace, name, ..
                } = &self.gateway;
                Some(format!("https.{}.{}.{name}.{namespace}", port.number, port.name).into())
            }
            Speaks::Passthrough | Speaks::Tls | Speaks::Tcp => None,
        }
    }

    /// Whether a domain is one of its hosts or below one.
    pub(super) fn answers(&self, domain: &str) -> bool {
        self.hosts
            .iter()
            .any(|(_, pattern)| host::covers(pattern, domain))
    }

    /// The VirtualServices that route a domain here: those that name it, then, where it is a host of the server itself, those
    /// that name a wildcard above it; of each the oldest first.
    pub(super) fn rules(&self, domain: &str, class: &Class, view: &mut View<'_, '_>) -> Vec<Key> {
        let mut rules = Vec::new();
        for (namespace, pattern) in self
            .hosts
            .iter()
            .filter(|(_, pattern)| host::covers(pattern, domain))
        {
            for named in host::covering(domain).filter(|named| named == domain || pattern == domain)
            {
                let keys = view.gateway_routes(&self.gateway_name(), &named, &class.namespace);
                let allowed = keys
                    .into_iter()
                    .filter(|key| namespace == "*" || **namespace == *key.namespace);
                rules.extend(
                    allowed
                        .filter(|key| !rules.contains(key))
                        .collect::<Vec<_>>(),
                );
            }
        }
        rules
    }

    /// Every VirtualService that routes any of its hosts.
    fn all_rules(&self, class: &Class, view: &mut View<'_, '_>) -> Vec<Key> {
        let mut rules: Vec<Key> = Vec::new();
        for named in view.gateway_hosts(&self.gateway_name()) {
            let allowed = self
                .hosts
                .iter()
                .filter(|(_, pattern)| host::intersection(pattern, &named).is_some());
            let namespaces: Vec<&String> = allowed.map(|(namespace, _)| namespace).collect();
            for key in view.gateway_routes(&self.gateway_name(), &named, &class.namespace) {
                let sees = namespaces
                    .iter()
                    .any(|namespace| *namespace == "*" || **namespace == *key.namespace);
                if sees && !rules.contains(&key) {
                    rules.push(key);
                }
            }
        }
        rules
    }
}

/// The listener of a port; none if no server contributes a filter chain.
pub(super) fn listener(
    id: ClassId,
    address: &str,
    port: u16,
    servers: &[&Server<'_>],
    security: &Security,
    read: &mut Reading<'_>,
    part: &mut Part,
) -> Option<Listener> {
    let name = listener::name(address, port);
    let mut chains: Vec<(FilterChain, &Server<'_>)> = Vec::new();
    for server in servers {
        for mut chain in server_chains(id, &name, port, server, security, read, part) {
            let (left, older) = apart(&mut chain, &chains);
            if let Some(older) = older
                && !(server.speaks() == Speaks::Http && older.speaks() == Speaks::Http)
            {
                let message = format!(
                    "spec.servers[{}]: port {port} of {address} takes the same connections as spec.servers[{}] of Gateway {}/{}, which is in force",
                    server.at, older.at, older.gateway.namespace, older.gateway.name
                );
                part.reports.insert(Report {
                    key: server.gateway.clone(),
                    message,
                });
            }
            if left {
                chains.push((chain, server));
            }
        }
    }
    let chains: Vec<FilterChain> = chains.into_iter().map(|(chain, _)| chain).collect();
    let inspected = chains.iter().any(listener::looks_at_tls);
    (!chains.is_empty()).then(|| Listener {
        listener_filters: inspected
            .then(listener::tls_inspector)
            .into_iter()
            .collect(),
        filter_chains: chains,
        ..listener::listener(&name, address, port, pb::TrafficDirection::Outbound)
    })
}

/// Takes the server names out of a chain that older chains of the same condition have, for Envoy takes no listener with one
/// twice. Whether anything is left of it, and whose it was.
fn apart<'s, 'm>(
    chain: &mut FilterChain,
    older: &[(FilterChain, &'s Server<'m>)],
) -> (bool, Option<&'s Server<'m>>) {
    let mut condition = chain.filter_chain_match.take().unwrap_or_default();
    let mut names = std::mem::take(&mut condition.server_names);
    let all = names.is_empty();
    let (mut left, mut whose) = (true, None);
    for (other, server) in older {
        let mut theirs = other.filter_chain_match.clone().unwrap_or_default();
        let taken = std::mem::take(&mut theirs.server_names);
        if theirs != condition {
            continue;
        }
        let before = names.len();
        names.retain(|name| !taken.contains(name));
        if names.len() < before || (all && taken.is_empty()) {
            whose = whose.or(Some(*server));
            left = !names.is_empty();
        }
    }
    condition.server_names = names;
    chain.filter_chain_match =
        (condition != listener::FilterChainMatch::default()).then_some(condition);
    (left, whose)
}

fn server_chains(
    id: ClassId,
    name: &str,
    port: u16,
    server: &Server<'_>,
    security: &Security,
    read: &mut Reading<'_>,
    part: &mut Part,
) -> Vec<FilterChain> {
    let guarded = |chain: &tcp::Chain| {
        let mut chain = listener::chain(chain, &[]);
        chain.filters.splice(0..0, security.network.iter().cloned());
        chain
    };
    let hosts: Vec<String> = server.hosts.iter().map(|(_, host)| host.clone()).collect();
    match server.speaks() {
        Speaks::Http | Speaks::Https => {
            let route = server
                .route()
                .expect("a server that speaks HTTP has routes");
            let filter = http_filter(Http::gateway(
                name,
                Routes::Named(&route),
                security,
                &mut read.view(),
            ));
            let chain = listener::chain_of(filter);
            if server.speaks() == Speaks::Http {
                vec![chain]
            } else {
                terminated(id, chain, &hosts, server, name, true, read, part)
            }
        }
        Speaks::Passthrough | Speaks::Tcp => routed(id, port, server, read, part)
            .iter()
            .map(guarded)
            .collect(),
        Speaks::Tls => {
            let chains = routed(id, port, server, read, part);
            let chains = chains.iter().map(guarded);
            chains
                .flat_map(|chain| terminated(id, chain, &hosts, server, name, false, read, part))
                .collect()
        }
    }
}

/// A chain behind TLS that ends here.
#[allow(
    clippy::too_many_arguments,
    reason = "they are what a chain is made of"
)]
fn terminated(
    id: ClassId,
    chain: FilterChain,
    hosts: &[String],
    server: &Server<'_>,
    name: &str,
    http: bool,
    read: &mut Reading<'_>,
    part: &mut Part,
) -> Vec<FilterChain> {
    let Some(tls) = &server.spec.tls else {
        return Vec::new();
    };
    let identities = read.identities();
    let class = read.class(id);
    let uploaded = identities.as_deref().map(|identities| Uploaded {
        identities,
        namespace: &class.namespace,
    });
    let socket = match server_tls::server(tls, http, name, uploaded) {
        Ok(Some(made)) => {
            for secret in made.files.iter().map(xds::Resource::new) {
                if !part.resources.contains(&secret) {
                    part.resources.push(secret);
                }
            }
            made.socket
        }
        Ok(None) => return Vec::new(),
        Err((field, why)) => {
            part.reports.insert(Report {
                key: server.gateway.clone(),
                message: format!("spec.servers[{}].tls.{field}: {why}", server.at),
            });
            return Vec::new();
        }
    };
    let mut condition = chain.filter_chain_match.clone().unwrap_or_default();
    condition.transport_protocol = "tls".into();
    condition.server_names = listener::sni(hosts);
    vec![FilterChain {
        filter_chain_match: Some(condition),
        transport_socket: Some(socket),
        ..chain
    }]
}

/// The chains that VirtualServices make for a server that does not speak HTTP.
fn routed(
    id: ClassId,
    port: u16,
    server: &Server<'_>,
    read: &mut Reading<'_>,
    part: &mut Part,
) -> Vec<tcp::Chain> {
    let class = read.class(id);
    let scope = read.scope(id);
    let gateways = [server.gateway_name().to_string()];
    let site = Site {
        class: &class,
        scope: &scope,
        gateways: &gateways,
        port,
        tls: false,
    };
    let mut chains = Vec::new();
    for key in server.all_rules(&class, &mut read.view()) {
        let Some(spec) = virtual_service(&key, &mut read.view()) else {
            continue;
        };
        let made = match server.speaks() {
            Speaks::Passthrough => {
                let chains = site.tls(&key, &spec.tls, read, part);
                let known = |name: &String| server.answers(name);
                chains
                    .into_iter()
                    .filter(|chain| chain.sni_hosts.iter().all(known))
                    .collect()
            }
            _ => site.tcp(&key, &spec.tcp, read, part),
        };
        chains.extend(made);
    }
    chains
}
