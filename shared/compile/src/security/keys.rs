//! Where proxies fetch the keys of RequestAuthentications.
//!
//! Envoys fetch them, and nothing in an Envoy looks where a name leads before they do: its upstream RBAC filter is passed over
//! for what no client sent. So a name is fetched from only if the mesh says so.
//!
//! *Invariant:* unless MeshConfig allows it, nothing is fetched from the proxy's own machine or link: not by address, not by the
//! endpoints of a service, and not by a name, wherever DNS may lead it.

use std::net::IpAddr;

use model::Key;
use model::mesh::Service;
use model::spec::{
    ClientTlsSettings, JwtRule, RequestAuthentication, Resolution, TlsMode, TrafficPolicy,
    is_local, jwks_host_and_port,
};
use xds::Resource;

use super::Asked;
use crate::port::Protocol;
use crate::settings;
use crate::translate::{cluster, endpoint, jwt, locality, names};

impl Asked<'_, '_> {
    /// The rules of a RequestAuthentication, each with the cluster its keys are fetched from.
    pub(super) fn jwt_rules<'s>(
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

    /// The cluster that keys are fetched from.
    fn keys(&mut self, uri: &str) -> Result<String, String> {
        let (host, port, tls) = jwks_host_and_port(uri).ok_or("is no URL of a host")?;
        let name = jwt::cluster_name(uri).ok_or("is no URL of a host")?;
        let mut view = self.read.view();
        let config = view.mesh_config();
        let allowed = config.is_some_and(|it| it.allows_keys_of(host));
        if is_local(host) && !allowed {
            return Err(format!(
                "{host} is of the proxy's own machine or link, and MeshConfig's allowLocalJwksUri is not set"
            ));
        }
        if let Some(service) = self.service(None, host, port)
            && (allowed || self.has_addresses(service, host)?)
        {
            return Ok(names::outbound(port, "", &host.to_ascii_lowercase()));
        }
        let address = host.parse::<IpAddr>().is_ok();
        if !address && !allowed {
            return Err(format!(
                "{host} is a name, which DNS may lead to the proxy's own machine or link, and none of MeshConfig's allowedJwksHosts"
            ));
        }
        let cluster = self.cluster(&name, (host, port, tls), address);
        let cluster = Resource::new(&cluster);
        if !self.part.resources.contains(&cluster) {
            self.part.resources.push(cluster);
        }
        Ok(name)
    }

    /// Whether a service says at which addresses it is; one of them may be forbidden.
    fn has_addresses(&mut self, service: &Service, host: &str) -> Result<bool, String> {
        if service.spec.resolution != Resolution::Static {
            return Ok(false);
        }
        let endpoints = self.read.view().endpoints(service);
        let addresses = endpoints.iter().filter_map(|it| it.spec.address.as_deref());
        match addresses.into_iter().find(|it| is_local(it)) {
            None => Ok(true),
            Some(address) => Err(format!(
                "{host} has an endpoint on {address}, of the proxy's own machine or link; MeshConfig's allowedJwksHosts may allow it"
            )),
        }
    }

    fn cluster(
        &mut self,
        name: &str,
        (host, port, tls): (&str, u16, bool),
        address: bool,
    ) -> crate::translate::pb::Cluster {
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
        let discovery = if address {
            cluster::Discovery::Static(&endpoints)
        } else {
            cluster::Discovery::LogicalDns(&endpoints)
        };
        cluster::outbound(&cluster::Input {
            name,
            discovery,
            protocol: Protocol::Http.of_cluster(),
            policy: &policy,
            subject_alt_names: &[],
            peers: None,
            uploaded: None,
            health_check: None,
            rule: None,
            defaults: settings::cluster_defaults(&mut self.read.view()),
            caller: cluster::Caller {
                place: &locality::Place::default(),
                labels: &Default::default(),
            },
        })
    }
}
