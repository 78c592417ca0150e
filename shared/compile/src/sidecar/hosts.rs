//! What one host contributes to the route configurations and listeners of a class of sidecars.
//!
//! *Invariant:* a host has at most one VirtualService in force, the oldest of those that name it most specifically.

use std::sync::Arc;

use model::mesh::{Listed, Service};
use model::spec::VirtualService;
use model::{Key, Kind, Spec};
use xds::ResourceType;

use super::{ANY, bind, egress_route, unknown};
use crate::class::Class;
use crate::listener::{self, Http, ListenerPiece, Routes, Takes, http_filter};
use crate::part::{Part, Report};
use crate::port::Protocol;
use crate::route_config::{self, HTTP_PROXY};
use crate::routing::{self, Site};
use crate::scope::{Egress, Scope};
use crate::settings;
use crate::translate::domains::{Claims, Names, PortInHost, short_names};
use crate::translate::{pb, route, tcp};
use crate::unit::{ClassId, Reading};
use crate::{Interception, outbound};

/// The port of a host that only a VirtualService names.
const DEFAULT_PORT: u16 = 80;

/// A host as a class sees it through one egress listener.
struct Seen<'a> {
    class: &'a Class,
    scope: &'a Scope,
    host: &'a Arc<str>,
    service: Option<&'a Arc<Service>>,
    rule: Option<(Key, &'a VirtualService)>,
}

/// What a host contributes.
pub(crate) fn routes(id: ClassId, host: &Arc<str>, read: &mut Reading<'_>) -> Part {
    let class = read.class(id);
    let scope = read.scope(id);
    let mut part = Part::default();
    let service = read.view().service(&class.namespace, host);
    let listed = read.view().mesh_routes(&class.namespace, host);
    if let Some(service) = service {
        part.sources.insert(service.entry.clone());
    }
    for egress in &scope.listeners {
        let service = service.filter(|service| egress.imports(service));
        // What a wildcard routes are the hosts there are; it makes none.
        let mut rules = listed.iter().filter(|rule| {
            egress.imports_route(&rule.key.namespace, &rule.host)
                && (service.is_some() || rule.host == *host)
        });
        let rule = rules.next();
        report_losers(rule, rules, &mut part);
        let rule = rule.and_then(|rule| match &read.view().resource(&rule.key)?.spec {
            Spec::VirtualService(spec) => Some((rule.key.clone(), &**spec)),
            _ => None,
        });
        if service.is_some() || rule.is_some() {
            Seen {
                class: &class,
                scope: &scope,
                host,
                service,
                rule,
            }
            .contribute(egress, read, &mut part);
        }
    }
    part
}

fn report_losers<'a>(
    winner: Option<&Listed>,
    losers: impl Iterator<Item = &'a Listed>,
    part: &mut Part,
) {
    let Some(winner) = winner else { return };
    for loser in losers.filter(|loser| loser.host == winner.host) {
        let message = format!(
            "spec.hosts: in the mesh, {} is routed by the older VirtualService {}/{}; merge the two, or remove the host from one",
            loser.host, winner.key.namespace, winner.key.name
        );
        part.reports.insert(Report {
            key: loser.key.clone(),
            message,
        });
    }
}

impl Seen<'_> {
    fn contribute(&self, egress: &Egress, read: &mut Reading<'_>, part: &mut Part) {
        match (&egress.port, self.class.interception) {
            (Some(port), interception) => {
                let address = bind(egress, self.class);
                let wanted = self
                    .ports()
                    .into_iter()
                    .find(|(number, _)| *number == port.number)
                    .or_else(|| self.only_port());
                let Some((number, _)) = wanted else { return };
                if Protocol::of(port).is_http() {
                    let host = self.virtual_host(number, PortInHost::Ignored, read, part);
                    part.virtual_hosts.push((
                        egress_route(egress, port.number),
                        route_config::piece(host.into_iter().collect()),
                    ));
                } else {
                    let chains = self.chains(number, Protocol::of(port), read, part);
                    let bound = interception == Interception::Explicit
                        || &*address != ANY
                        || egress.connected_to;
                    self.listen(
                        (&address, port.number),
                        bound,
                        Takes::Tcp(chains, Vec::new()),
                        read,
                        part,
                    );
                }
            }
            (None, Interception::Explicit) => {
                let ports: Vec<u16> = self
                    .ports()
                    .into_iter()
                    .filter(|(_, protocol)| protocol.is_http())
                    .map(|(port, _)| port)
                    .collect();
                let hosts = ports.into_iter().filter_map(|port| {
                    self.virtual_host(port, PortInHost::Matched(port), read, part)
                });
                let hosts: Vec<_> = hosts.collect();
                if !hosts.is_empty() {
                    part.virtual_hosts
                        .push((HTTP_PROXY.into(), route_config::piece(hosts)));
                }
            }
            (None, Interception::Transparent) => {
                let ports = self.ports().into_iter();
                for (port, protocol) in ports.filter(|(port, _)| !self.scope.takes_apart(*port)) {
                    self.intercept(port, protocol, read, part);
                }
            }
        }
    }

    /// The ports of the service; of a host without one, the port that HTTP has.
    fn ports(&self) -> Vec<(u16, Protocol)> {
        match self.service {
            Some(service) => service
                .spec
                .ports
                .iter()
                .map(|port| (port.number, Protocol::of(port)))
                .collect(),
            None => vec![(DEFAULT_PORT, Protocol::Http)],
        }
    }

    fn only_port(&self) -> Option<(u16, Protocol)> {
        match self.ports()[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    fn site(&self, port: u16) -> Site<'_> {
        Site {
            class: self.class,
            scope: self.scope,
            gateways: mesh_gateway(),
            port,
            tls: false,
        }
    }

    fn virtual_host(
        &self,
        port: u16,
        in_host: PortInHost,
        read: &mut Reading<'_>,
        part: &mut Part,
    ) -> Option<pb::VirtualHost> {
        let routes = match (&self.rule, self.service) {
            (Some((key, rule)), _) if !rule.http.is_empty() => {
                self.site(port).http(key, rule, read, part)
            }
            (_, Some(service)) => {
                let (cluster, policy) = routing::plain(service, port, self.class, read);
                vec![route::default_route(
                    &cluster,
                    outbound::hash(&policy).as_ref(),
                    settings::default_retry(&mut read.view()),
                )]
            }
            _ => return None,
        };
        let domains = self.domains(in_host, read);
        Some(route::virtual_host(self.host, port, domains, routes))
    }

    /// The names that mean this host, apart from those that are another host's full name or an older one's address.
    fn domains(&self, in_host: PortInHost, read: &mut Reading<'_>) -> Vec<String> {
        let mut view = read.view();
        let short = short_names(self.host, &self.class.namespace, view.domain());
        let taken: Vec<String> = short
            .into_iter()
            .filter(|name| {
                let namespace = &self.class.namespace;
                view.service(namespace, name).is_some()
                    || view
                        .mesh_routes(namespace, name)
                        .iter()
                        .any(|rule| *rule.host == **name)
            })
            .collect();
        let addresses: Vec<String> = match self.service {
            Some(service) => {
                let single = service
                    .spec
                    .addresses
                    .iter()
                    .filter(|address| address.parse::<std::net::IpAddr>().is_ok());
                single
                    .filter(|address| view.owns_address(&service.entry, address))
                    .cloned()
                    .collect()
            }
            None => Vec::new(),
        };
        // Of several hosts of one ServiceEntry the first has the addresses.
        let first = self.service.is_some_and(|service| {
            service
                .spec
                .hosts
                .first()
                .is_some_and(|host| host.eq_ignore_ascii_case(self.host))
        });
        let names = Names {
            host: self.host,
            addresses: if first { &addresses } else { &[] },
            namespace: &self.class.namespace,
            mesh_domain: view.domain(),
            port: in_host,
        };
        Claims::new(taken.iter().map(String::as_str)).claim(&names)
    }

    /// What intercepted connections to a port of this host meet.
    fn intercept(&self, port: u16, protocol: Protocol, read: &mut Reading<'_>, part: &mut Part) {
        if protocol.is_http() {
            let route: Arc<str> = port.to_string().into();
            let host = self.virtual_host(port, PortInHost::Ignored, read, part);
            part.virtual_hosts.push((
                route.clone(),
                route_config::piece(host.into_iter().collect()),
            ));
            let name = listener::name(ANY, port);
            let filter = http_filter(Http::outbound(
                &name,
                Routes::Named(&route),
                &mut read.view(),
            ));
            self.listen((ANY, port), false, Takes::Http(filter), read, part);
            return;
        }
        let chains = self.chains(port, protocol, read, part);
        let addresses = self
            .service
            .map(|service| service.spec.addresses.as_slice())
            .unwrap_or_default();
        // An address has a listener of its own, so that others of the port may speak something else, as in Istio.
        let (single, ranges): (Vec<String>, Vec<String>) = addresses
            .iter()
            .cloned()
            .partition(|address| address.parse::<std::net::IpAddr>().is_ok());
        for address in &single {
            let takes = Takes::Tcp(chains.clone(), Vec::new());
            self.listen((address, port), false, takes, read, part);
        }
        if single.is_empty() || !ranges.is_empty() {
            self.listen((ANY, port), false, Takes::Tcp(chains, ranges), read, part);
        }
    }

    /// The filter chains of a port that does not speak HTTP.
    fn chains(
        &self,
        port: u16,
        protocol: Protocol,
        read: &mut Reading<'_>,
        part: &mut Part,
    ) -> Vec<tcp::Chain> {
        let by_name = matches!(protocol, Protocol::Tls | Protocol::Https);
        if let Some((key, rule)) = &self.rule {
            let mut chains = self.site(port).tls(key, &rule.tls, read, part);
            chains.extend(self.site(port).tcp(key, &rule.tcp, read, part));
            if !chains.is_empty() {
                return chains;
            }
        }
        let Some(service) = self.service else {
            return Vec::new();
        };
        let (cluster, policy) = routing::plain(service, port, self.class, read);
        let names = if by_name {
            vec![self.host.to_string()]
        } else {
            Vec::new()
        };
        vec![tcp::default_chain(
            &cluster,
            names,
            routing::connections(&policy, read),
        )]
    }

    fn listen(
        &self,
        (address, port): (&str, u16),
        bound: bool,
        takes: Takes,
        read: &mut Reading<'_>,
        part: &mut Part,
    ) {
        let Some(age) = self.age() else { return };
        let piece = ListenerPiece {
            address: address.into(),
            port,
            bound,
            age,
            takes,
            // A connection made to the listener itself was going nowhere else.
            otherwise: unknown(self.scope.allow_any && !bound, read),
        };
        part.listeners
            .push((listener::name(address, port).into(), piece));
        debug_assert!(part.makes(ResourceType::Listener, &listener::name(address, port)));
    }

    fn age(&self) -> Option<model::mesh::Age> {
        self.service.map(|service| service.age.clone()).or_else(|| {
            let (key, _) = self.rule.as_ref()?;
            debug_assert_eq!(key.kind, Kind::VirtualService);
            Some(model::mesh::Age::youngest(key))
        })
    }
}

/// What sidecars are to VirtualServices.
fn mesh_gateway() -> &'static [String] {
    static MESH: std::sync::LazyLock<[String; 1]> =
        std::sync::LazyLock::new(|| ["mesh".to_owned()]);
    &*MESH
}
