//! What security policies put before a workload: the filters of its listeners, and the clusters those filters ask.
//!
//! `CUSTOM` policies come first, then tokens, then `AUDIT` and `DENY`, then `ALLOW`.
//!
//! *Invariant:* a policy that cannot be carried out denies what it is about, and its author is told.

use std::sync::Arc;

use model::authz::{Policy, is_dry_run};
use model::mesh::View;
use model::spec::{
    AuthorizationPolicy, ClientTlsSettings, ExtensionProvider, JwtRule, NormalizationType,
    RequestAuthentication, TlsMode, TrafficPolicy, is_local, jwks_host_and_port,
};
use model::{Key, Spec};
use xds::Resource;
use xds::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;

use crate::class::Class;
use crate::listener::Filter;
use crate::part::{Part, Report};
use crate::port::Protocol;
use crate::scope::Scope;
use crate::settings;
use crate::translate::authz::ext_authz::{self, Provider};
use crate::translate::{authz, cluster, endpoint, jwt, locality, names};
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
    let mut view = read.view();
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
    let mut http = ext_authz::http_filters(&policies, provider);
    http.extend(jwt::filter(&rules));
    http.extend(authz::http_filters(&policies));
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
        let cluster = self.service(namespace, host, port).ok_or_else(|| {
            format!(
                "spec.provider.name: {name:?} leads to port {port} of {service}, which is no service that the proxies see"
            )
        })?;
        Ok((provider, cluster))
    }

    /// The cluster of a service of the mesh, as the class calls it.
    fn service(&mut self, namespace: Option<&str>, host: &str, port: u16) -> Option<String> {
        let host = host.to_ascii_lowercase();
        let service = self.read.view().service(&self.class.namespace, &host)?;
        let declared = namespace.is_none_or(|namespace| **service.namespace() == *namespace);
        let listens = service.spec.ports.iter().any(|it| it.number == port);
        if !declared || !listens || !self.scope.imports(service) {
            return None;
        }
        Some(names::outbound(port, "", &host))
    }

    /// The rules of a RequestAuthentication, each with the cluster its keys are fetched from.
    fn jwt_rules<'s>(
        &mut self,
        key: &Key,
        spec: &'s RequestAuthentication,
    ) -> Vec<(&'s JwtRule, String)> {
        let rules = spec.jwt_rules.iter().enumerate();
        rules
            .map(|(at, rule)| {
                let uri = rule.jwks_uri.as_deref().filter(|it| !it.is_empty());
                let cluster = uri.map_or(Ok(String::new()), |uri| self.keys(uri));
                let cluster = cluster.unwrap_or_else(|reason| {
                    self.report(key, format!("spec.jwtRules[{at}].jwksUri: {reason}. Every token of its issuer is refused"));
                    names::BLACK_HOLE.into()
                });
                (rule, cluster)
            })
            .collect()
    }

    fn keys(&mut self, uri: &str) -> Result<String, String> {
        let (host, port, tls) = jwks_host_and_port(uri).ok_or("is no URL of a host")?;
        let name = jwt::cluster_name(uri).ok_or("is no URL of a host")?;
        let allowed = self
            .read
            .view()
            .mesh_config()
            .is_some_and(|it| it.allow_local_jwks_uri);
        if is_local(host) && !allowed {
            return Err(format!(
                "{host} is of the proxy's own machine or link, and MeshConfig's allowLocalJwksUri is not set"
            ));
        }
        if let Some(cluster) = self.service(None, host, port) {
            return Ok(cluster);
        }
        let mut view = self.read.view();
        let policy = TrafficPolicy {
            tls: tls.then(|| ClientTlsSettings {
                mode: TlsMode::Simple,
                sni: Some(host.into()),
                subject_alt_names: vec![host.into()],
                ..Default::default()
            }),
            ..Default::default()
        };
        let endpoint = endpoint::Endpoint {
            address: endpoint::Address::new(host, port),
            ..Default::default()
        };
        let endpoints = [endpoint];
        let discovery = if host.parse::<std::net::IpAddr>().is_ok() {
            cluster::Discovery::Static(&endpoints)
        } else {
            cluster::Discovery::LogicalDns(&endpoints)
        };
        let cluster = cluster::outbound(&cluster::Input {
            name: &name,
            discovery,
            protocol: Protocol::Http.of_cluster(),
            policy: &policy,
            subject_alt_names: &[],
            peers: None,
            uploaded: None,
            health_check: None,
            rule: None,
            defaults: settings::cluster_defaults(&mut view),
            caller: cluster::Caller {
                place: &locality::Place::default(),
                labels: &Default::default(),
            },
        });
        let cluster = Resource::new(&cluster);
        if !self.part.resources.contains(&cluster) {
            self.part.resources.push(cluster);
        }
        Ok(name)
    }
}
