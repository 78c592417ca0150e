//! What security policies put before a workload: the filters of its listeners, and the clusters those filters ask.
//!
//! `CUSTOM` policies come first, then tokens, then `AUDIT` and `DENY`, then `ALLOW`.
//!
//! *Invariant:* a policy that cannot be carried out denies what it is about, and its author is told.

mod keys;

use std::sync::Arc;

use model::authz::{Policy, is_dry_run};
use model::mesh::{Service, View};
use model::spec::{AuthorizationPolicy, ExtensionProvider, JwtRule, NormalizationType};
use model::{Key, Spec};
use xds::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;

use crate::Role;
use crate::class::Class;
use crate::listener::Filter;
use crate::part::{Part, Report};
use crate::scope::Scope;
use crate::translate::authz::Clients;
use crate::translate::authz::ext_authz::{self, Provider};
use crate::translate::{authz, jwt, names};
use crate::unit::Reading;

/// What stands before a workload.
#[derive(Clone, Default)]
pub(crate) struct Security {
    /// The filters for requests.
    pub(crate) http: Vec<HttpFilter>,
    /// The filters for connections.
    pub(crate) network: Vec<Filter>,
}

impl Security {
    /// A filter, behind those for connections.
    pub(crate) fn before(&self, filter: Filter) -> Vec<Filter> {
        self.network.iter().cloned().chain([filter]).collect()
    }
}

/// The policies that hold for a workload with these labels.
pub(crate) fn policies(
    namespace: &Arc<str>,
    labels: &std::collections::BTreeMap<String, String>,
    view: &mut View<'_, '_>,
) -> Vec<Key> {
    let mut keys = view.authorization_policies(namespace, labels);
    keys.extend(view.request_authentications(namespace, labels));
    keys
}

/// How paths are normalised.
pub(crate) fn normalization(view: &mut View<'_, '_>) -> NormalizationType {
    let config = view.mesh_config();
    config
        .and_then(|config| config.path_normalization.as_ref())
        .map(|it| it.normalization)
        .unwrap_or_default()
}

/// What these policies put before a workload of a class. Clusters that are asked and are no services of the mesh go to `part`.
pub(crate) fn of(keys: &[Key], class: &Class, read: &mut Reading<'_>, part: &mut Part) -> Security {
    let identities = read.identities();
    let home = identities.as_ref().and_then(|it| it.home());
    let mut view = read.view();
    let clients = match class.role {
        Role::Gateway => Clients::Seen,
        // Whoever is in the root namespace sets policy for the whole mesh already, so its gateways are believed.
        Role::Sidecar => Clients::Told(
            identities.map(|it| format!("{}/ns/{}/", it.trust_domain.id(), view.root_namespace())),
        ),
    };
    let (mut policies, mut authentications) = (Vec::new(), Vec::new());
    for key in keys {
        let Some(resource) = view.resource(key) else {
            continue;
        };
        match &resource.spec {
            Spec::AuthorizationPolicy(spec) => policies.push(Policy {
                key: key.clone(),
                dry_run: is_dry_run(&resource.metadata),
                spec,
                home: home.clone(),
            }),
            Spec::RequestAuthentication(spec) => authentications.push((key, spec)),
            _ => {}
        }
    }
    let scope = Scope::of(class, &mut view);
    let mut asked = Asked {
        class,
        scope,
        read,
        part,
    };
    let provider = asked.provider(&policies);
    let provider = provider
        .as_ref()
        .map(|(config, cluster)| Provider { config, cluster });
    let rules: Vec<(&JwtRule, String)> = authentications
        .iter()
        .flat_map(|(key, spec)| asked.jwt_rules(key, spec))
        .collect();
    let mut http = ext_authz::http_filters(&policies, provider, &clients);
    http.extend(jwt::filter(&rules));
    http.extend(authz::http_filters(&policies, &clients));
    let mut network = ext_authz::network_filters(&policies, provider);
    network.extend(authz::network_filters(&policies));
    Security { http, network }
}

/// Finds whom the filters ask.
struct Asked<'a, 'r> {
    class: &'a Class,
    scope: Scope,
    read: &'a mut Reading<'r>,
    part: &'a mut Part,
}

impl<'r> Asked<'_, 'r> {
    fn report(&mut self, key: &Key, message: String) {
        self.part.reports.insert(Report {
            key: key.clone(),
            message,
        });
    }

    /// The one provider of the `CUSTOM` policies, and the cluster that leads to it.
    fn provider(&mut self, policies: &[Policy<'_>]) -> Option<(&'r ExtensionProvider, String)> {
        let named = |policy: &Policy<'_>| {
            let spec: &AuthorizationPolicy = policy.spec;
            spec.provider
                .as_ref()
                .map(|it| it.name.clone())
                .unwrap_or_default()
        };
        let custom: Vec<&Policy<'_>> = ext_authz::custom(policies).collect();
        let name = named(custom.first()?);
        let refused = match custom
            .iter()
            .map(|policy| named(policy))
            .find(|it| *it != name)
        {
            Some(other) => Err(format!(
                "spec.provider.name: the policies of a workload name two providers, {name:?} and {other:?}; name one"
            )),
            None => self.reach(&name),
        };
        match refused {
            Ok(found) => Some(found),
            Err(reason) => {
                for policy in custom {
                    self.report(
                        &policy.key,
                        format!("{reason}. What the policy matches is denied"),
                    );
                }
                None
            }
        }
    }

    fn reach(&mut self, name: &str) -> Result<(&'r ExtensionProvider, String), String> {
        let config = self.read.view().mesh_config();
        let mut providers = config
            .into_iter()
            .flat_map(|config| &config.extension_providers);
        let provider = providers.find(|it| it.name == name).ok_or_else(|| {
            format!("spec.provider.name: {name:?} is none of MeshConfig's extensionProviders")
        })?;
        let (service, port) = provider
            .service()
            .ok_or("the provider says nothing of itself")?;
        let (namespace, host) = match service.split_once('/') {
            Some((namespace, host)) => (Some(namespace), host),
            None => (None, service),
        };
        self.service(namespace, host, port).ok_or_else(|| {
            format!(
                "spec.provider.name: {name:?} leads to port {port} of {service}, which is no service that the proxies see"
            )
        })?;
        let cluster = names::outbound(port, "", &host.to_ascii_lowercase());
        Ok((provider, cluster))
    }

    /// A service of the mesh, as the class sees it.
    fn service(
        &mut self,
        namespace: Option<&str>,
        host: &str,
        port: u16,
    ) -> Option<&'r Arc<Service>> {
        let host = host.to_ascii_lowercase();
        let service = self.read.view().service(&self.class.namespace, &host)?;
        let declared = namespace.is_none_or(|namespace| **service.namespace() == *namespace);
        let listens = service.spec.ports.iter().any(|it| it.number == port);
        (declared && listens && self.scope.imports(service)).then_some(service)
    }
}
