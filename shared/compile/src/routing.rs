//! The routes of one VirtualService as one class has them on one port: delegates merged, destinations looked up.
//!
//! *Invariant:* every cluster that a route names is one the class has; where a destination does not exist the route leads to
//! the cluster without endpoints, which answers 503, and its author is told.

use std::borrow::Cow;
use std::cell::RefCell;
use std::time::Duration;

use model::mesh::{Exports, Service};
use model::spec::{Destination, HttpRoute, TcpRoute, TlsRoute, TrafficPolicy, VirtualService};
use model::{Key, Kind, Spec};

use crate::class::Class;
use crate::outbound::{self, Rules};
use crate::part::{Part, Report};
use crate::scope::Scope;
use crate::settings;
use crate::translate::{pb, policy::Upstream, route, tcp};
use crate::unit::Reading;

/// Where routes are for.
pub(crate) struct Site<'a> {
    pub(crate) class: &'a Class,
    pub(crate) scope: &'a Scope,
    /// `mesh`, or the gateways as `namespace/name`.
    pub(crate) gateways: &'a [String],
    /// The port of the listener.
    pub(crate) port: u16,
    /// Whether clients come by TLS that ends here.
    pub(crate) tls: bool,
}

impl Site<'_> {
    /// The HTTP routes of a VirtualService.
    pub(crate) fn http(
        &self,
        key: &Key,
        spec: &VirtualService,
        read: &mut Reading<'_>,
        part: &mut Part,
    ) -> Vec<pb::Route> {
        let rules: Vec<Cow<'_, HttpRoute>> = with_delegates(key, spec, read, part);
        let rules: Vec<HttpRoute> = rules.into_iter().map(Cow::into_owned).collect();
        let default_retry = settings::default_retry(&mut read.view());
        let work = RefCell::new((read, part));
        let resolve = |destination: &Destination| {
            let (read, part) = &mut *work.borrow_mut();
            self.resolve(key, destination, read, part).0
        };
        let scope = route::Scope {
            name: &key.name,
            namespace: &key.namespace,
            port: self.port,
            tls: self.tls,
            gateways: self.gateways,
            proxy_labels: &self.class.labels,
            proxy_namespace: &self.class.namespace,
            default_retry,
            resolve: &resolve,
        };
        route::routes(&rules, &scope)
    }

    /// The filter chains of the TLS routes of a VirtualService.
    pub(crate) fn tls(
        &self,
        key: &Key,
        rules: &[TlsRoute],
        read: &mut Reading<'_>,
        part: &mut Part,
    ) -> Vec<tcp::Chain> {
        self.chains(key, read, part, |scope| tcp::tls_chains(rules, scope))
    }

    /// The filter chains of the TCP routes of a VirtualService.
    pub(crate) fn tcp(
        &self,
        key: &Key,
        rules: &[TcpRoute],
        read: &mut Reading<'_>,
        part: &mut Part,
    ) -> Vec<tcp::Chain> {
        self.chains(key, read, part, |scope| tcp::tcp_chains(rules, scope))
    }

    fn chains(
        &self,
        key: &Key,
        read: &mut Reading<'_>,
        part: &mut Part,
        make: impl FnOnce(&tcp::Scope<'_>) -> Vec<tcp::Chain>,
    ) -> Vec<tcp::Chain> {
        let work = RefCell::new((read, part));
        let resolve = |destination: &Destination| {
            let (read, part) = &mut *work.borrow_mut();
            let (upstream, policy) = self.resolve(key, destination, read, part);
            (upstream, connections(&policy, read))
        };
        make(&tcp::Scope {
            name: &key.name,
            namespace: &key.namespace,
            port: self.port,
            gateways: self.gateways,
            proxy_labels: &self.class.labels,
            proxy_namespace: &self.class.namespace,
            resolve: &resolve,
        })
    }

    /// What a destination of a VirtualService leads to, with the policy that holds for it.
    fn resolve(
        &self,
        key: &Key,
        destination: &Destination,
        read: &mut Reading<'_>,
        part: &mut Part,
    ) -> (Upstream, TrafficPolicy) {
        let mut view = read.view();
        let host = view.full_host(&destination.host, &key.namespace);
        let service = view
            .service(&self.class.namespace, &host)
            .filter(|service| self.scope.imports(service));
        let found = service.ok_or_else(|| {
            format!(
                "the host {host:?} is no service that proxies in {} see",
                self.class.namespace
            )
        });
        let found = found.and_then(|service| {
            let keys = view.rules(&self.class.namespace, &self.class.labels, service);
            let rules = Rules::read(&keys, &mut view);
            let ports: Vec<u16> = service.spec.ports.iter().map(|port| port.number).collect();
            let upstream = Upstream {
                host: host.clone(),
                ports: ports.clone(),
                ..Upstream::default()
            };
            let port = upstream.port(destination, self.port);
            let subset = destination.subset.as_deref().unwrap_or_default();
            if !ports.contains(&port) {
                Err(format!(
                    "the service {host} has no port {port}; it has {ports:?}"
                ))
            } else if !rules.has(subset) {
                Err(format!(
                    "no DestinationRule in force for {host} has the subset {subset:?}"
                ))
            } else {
                let policy = rules.policy(subset, port);
                Ok((
                    Upstream {
                        hash: outbound::hash(&policy),
                        ..upstream
                    },
                    policy,
                ))
            }
        });
        found.unwrap_or_else(|reason| {
            let message = format!(
                "destination {}: {reason}; such requests get 503",
                shown(destination)
            );
            part.reports.insert(Report {
                key: key.clone(),
                message,
            });
            (Upstream::nowhere(), TrafficPolicy::default())
        })
    }
}

/// The HTTP rules of a VirtualService with those of its delegates in their places.
fn with_delegates<'m>(
    key: &Key,
    spec: &'m VirtualService,
    read: &mut Reading<'_>,
    part: &mut Part,
) -> Vec<Cow<'m, HttpRoute>> {
    let mut rules = Vec::new();
    for (at, rule) in spec.http.iter().enumerate() {
        let Some(delegate) = &rule.delegate else {
            rules.push(Cow::Borrowed(rule));
            continue;
        };
        let namespace = delegate.namespace.as_deref().unwrap_or(&key.namespace);
        let of = Key::new(Kind::VirtualService, namespace, delegate.name.as_str());
        match read.view().resource(&of).map(|resource| &resource.spec) {
            Some(Spec::VirtualService(inner))
                if inner.hosts.is_empty() && exported(inner, namespace, key, read) =>
            {
                rules.extend(
                    route::delegate::merge(rule, &inner.http)
                        .into_iter()
                        .map(Cow::Owned),
                );
            }
            found => {
                let reason = match found {
                    Some(Spec::VirtualService(inner)) if inner.hosts.is_empty() => {
                        "is not exported to this namespace"
                    }
                    Some(_) => "has hosts of its own, so it is no delegate",
                    None => "does not exist",
                };
                let message = format!(
                    "spec.http[{at}].delegate: VirtualService {namespace}/{} {reason}; the route is left out",
                    delegate.name
                );
                part.reports.insert(Report {
                    key: key.clone(),
                    message,
                });
            }
        }
    }
    rules
}

/// Whether a delegate of a namespace is visible where its root is, as Istio demands of both.
fn exported(
    delegate: &VirtualService,
    namespace: &str,
    root: &Key,
    read: &mut Reading<'_>,
) -> bool {
    let mut view = read.view();
    let default = view
        .mesh_config()
        .map(|it| it.default_virtual_service_export_to.as_slice());
    Exports::new(&delegate.export_to, namespace).reach(
        &root.namespace,
        namespace,
        default.unwrap_or_default(),
    )
}

/// What the policy of a destination, and the mesh, say of connections through it.
pub(crate) fn connections(policy: &TrafficPolicy, read: &mut Reading<'_>) -> tcp::Connections {
    let pool = policy
        .connection_pool
        .as_ref()
        .and_then(|pool| pool.tcp.as_ref());
    let duration = |of: fn(&model::spec::TcpSettings) -> Option<Duration>| pool.and_then(of);
    tcp::Connections {
        idle_timeout: duration(|tcp| tcp.idle_timeout.map(|it| it.0)),
        max_duration: duration(|tcp| tcp.max_connection_duration.map(|it| it.0)),
        hash_source_ip: outbound::hash(policy).is_some_and(|hash| hash.use_source_ip == Some(true)),
        access_log: settings::access_log(&mut read.view()),
    }
}

/// The cluster of a service port that no VirtualService speaks of, with its policy.
pub(crate) fn plain(
    service: &Service,
    port: u16,
    class: &Class,
    read: &mut Reading<'_>,
) -> (String, TrafficPolicy) {
    let mut view = read.view();
    let keys = view.rules(&class.namespace, &class.labels, service);
    let policy = Rules::read(&keys, &mut view).policy("", port);
    (
        crate::translate::names::outbound(port, "", &service.host),
        policy,
    )
}

fn shown(destination: &Destination) -> String {
    let port = destination
        .port
        .map(|port| format!(":{}", port.number))
        .unwrap_or_default();
    let subset = destination
        .subset
        .as_ref()
        .map(|subset| format!(" subset {subset}"))
        .unwrap_or_default();
    format!("{}{port}{subset}", destination.host)
}
