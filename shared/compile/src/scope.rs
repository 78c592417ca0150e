//! What a sidecar sees of the mesh: the services and routes that its Sidecar resource imports, per egress listener.
//!
//! *Invariant:* whether a host is seen depends on the scope and on that host alone, so a new service is judged without
//! looking at the others.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::mesh::{Service, View, host};
use model::spec::{CaptureMode, OutboundTrafficMode, Port, VirtualService};
use model::{Key, Spec};

use crate::class::Class;

/// What a class sees.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scope {
    /// Its egress listeners: those with a port, and one without, which is for everything else.
    pub(crate) listeners: Vec<Egress>,
    /// Whether hosts that nobody knows may be called.
    pub(crate) allow_any: bool,
    /// The hosts that MeshConfig's providers are at: the proxy itself asks them, whatever its workload sees.
    asked: BTreeSet<String>,
}

/// One egress listener.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Egress {
    /// The port it is bound to; `None` for the listener of everything else.
    pub(crate) port: Option<Port>,
    /// The address it is bound to, if one is given.
    pub(crate) bind: Option<String>,
    /// Whether applications connect to it although other traffic is intercepted (`captureMode: NONE`).
    pub(crate) connected_to: bool,
    /// What it imports: namespace pattern and host pattern.
    hosts: Vec<(Arc<str>, Arc<str>)>,
    /// The hosts that imported VirtualServices lead to.
    imported: BTreeSet<String>,
}

impl Egress {
    fn everything() -> Self {
        Self {
            port: None,
            bind: None,
            connected_to: false,
            hosts: vec![("*".into(), "*".into())],
            imported: BTreeSet::new(),
        }
    }

    fn takes(&self, namespace: &str, host: &str) -> bool {
        self.hosts.iter().any(|(ns, pattern)| {
            (&**ns == "*" || **ns == *namespace) && host::covers(pattern, host)
        })
    }

    /// Whether it imports a service, which its caller knows to be visible.
    pub(crate) fn imports(&self, service: &Service) -> bool {
        self.takes(service.namespace(), &service.host) || self.imported.contains(&*service.host)
    }

    /// Whether it imports a VirtualService of this namespace, for this host.
    pub(crate) fn imports_route(&self, namespace: &str, host: &str) -> bool {
        self.takes(namespace, host)
    }
}

impl Scope {
    /// The scope of a class.
    pub(crate) fn of(class: &Class, view: &mut View<'_, '_>) -> Self {
        let sidecar = class.sidecar.as_ref().and_then(|key| view.resource(key));
        let sidecar = sidecar.and_then(|resource| match &resource.spec {
            Spec::Sidecar(sidecar) => Some(sidecar),
            _ => None,
        });
        let policy = sidecar.and_then(|sidecar| sidecar.outbound_traffic_policy.as_ref());
        let policy = policy.or(view
            .mesh_config()
            .and_then(|mesh| mesh.outbound_traffic_policy.as_ref()));
        let allow_any = policy.is_none_or(|policy| policy.mode == OutboundTrafficMode::AllowAny);
        let listeners: Vec<Egress> = match sidecar {
            Some(sidecar) if !sidecar.egress.is_empty() => {
                let listener = |egress: &model::spec::EgressListener| {
                    let hosts = egress
                        .hosts
                        .iter()
                        .map(|host| pattern(host, &class.namespace))
                        .collect();
                    let mut listener = Egress {
                        port: egress.port.clone(),
                        bind: egress.bind.clone(),
                        connected_to: egress.capture_mode == CaptureMode::None,
                        hosts,
                        imported: BTreeSet::new(),
                    };
                    listener.imported = destinations(&listener, class, view);
                    listener
                };
                sidecar.egress.iter().map(listener).collect()
            }
            _ => vec![Egress::everything()],
        };
        // Of several listeners in one place the first is in force.
        let mut places = BTreeSet::new();
        let place = |listener: &Egress| {
            let port = listener.port.as_ref().map(|port| port.number);
            (port, listener.bind.clone().filter(|_| port.is_some()))
        };
        let listeners = listeners
            .into_iter()
            .filter(|listener| places.insert(place(listener)));
        let providers = view.mesh_config().map(|mesh| &mesh.extension_providers);
        let asked = providers.into_iter().flatten().filter_map(|provider| {
            let (service, _) = provider.service()?;
            Some(service.rsplit('/').next()?.to_ascii_lowercase())
        });
        Self {
            listeners: listeners.collect(),
            allow_any,
            asked: asked.collect(),
        }
    }

    /// Whether a listener of its own, on every address, takes a port from the listener of everything else.
    pub(crate) fn takes_apart(&self, port: u16) -> bool {
        self.listeners.iter().any(|listener| {
            listener.bind.is_none() && listener.port.as_ref().is_some_and(|own| own.number == port)
        })
    }

    /// Whether any listener imports a service, or a provider is at it.
    pub(crate) fn imports(&self, service: &Service) -> bool {
        let mut listeners = self.listeners.iter();
        listeners.any(|listener| listener.imports(service)) || self.asked.contains(&*service.host)
    }
}

/// Reads `namespace/host` of a Sidecar: `.` is its own namespace, `~` none.
fn pattern(text: &str, namespace: &Arc<str>) -> (Arc<str>, Arc<str>) {
    let (ns, host) = text.split_once('/').unwrap_or(("*", text));
    let ns = if ns == "." {
        namespace.clone()
    } else {
        ns.into()
    };
    (ns, host.to_ascii_lowercase().into())
}

/// The hosts that the VirtualServices which a listener imports lead to.
fn destinations(listener: &Egress, class: &Class, view: &mut View<'_, '_>) -> BTreeSet<String> {
    if listener.takes("*", "*") {
        return BTreeSet::new(); // It imports everything anyway.
    }
    let namespaces: BTreeSet<Option<Arc<str>>> = listener
        .hosts
        .iter()
        .map(|(ns, _)| (&**ns != "*").then(|| ns.clone()))
        .collect();
    let mut keys: BTreeSet<Key> = BTreeSet::new();
    for namespace in &namespaces {
        keys.extend(view.mesh_routes_in(namespace.as_ref(), &class.namespace));
    }
    let mut hosts = BTreeSet::new();
    for key in keys {
        let Some(Spec::VirtualService(spec)) = view.resource(&key).map(|resource| &resource.spec)
        else {
            continue;
        };
        let named = spec
            .hosts
            .iter()
            .map(|host| view.full_host(host, &key.namespace));
        if named
            .into_iter()
            .any(|host| listener.takes(&key.namespace, &host))
        {
            hosts.extend(leads_to(spec).map(|host| view.full_host(host, &key.namespace)));
        }
    }
    hosts
}

/// The hosts of all destinations of a VirtualService, as written.
fn leads_to(spec: &VirtualService) -> impl Iterator<Item = &str> {
    let http = spec.http.iter().flat_map(|route| {
        let mirrors = route
            .mirror
            .iter()
            .chain(route.mirrors.iter().map(|mirror| &mirror.destination));
        route.route.iter().map(|to| &to.destination).chain(mirrors)
    });
    let tcp = spec
        .tcp
        .iter()
        .flat_map(|route| &route.route)
        .map(|to| &to.destination);
    let tls = spec
        .tls
        .iter()
        .flat_map(|route| &route.route)
        .map(|to| &to.destination);
    http.chain(tcp)
        .chain(tls)
        .map(|destination| destination.host.as_str())
}
