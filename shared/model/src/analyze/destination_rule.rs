//! DestinationRules: ports and labels that nothing has, and policies that an older rule overrules.
//!
//! *Invariant:* a service without endpoints is given the benefit of the doubt.

use std::collections::BTreeMap;

use super::Analysis;
use crate::mesh::host::full_host;
use crate::mesh::{Age, Service, selects};
use crate::spec::{DestinationRule, TrafficPolicy};
use crate::validate::Path;
use crate::{Kind, Spec};

impl Analysis<'_, '_> {
    pub(super) fn destination_rule(&mut self, spec: &DestinationRule, path: &Path) {
        let host = full_host(&spec.host, self.namespace(), self.mesh.domain());
        self.overruled(spec, &host, path);
        if host.starts_with('*') {
            return;
        }
        let Some(service) = self.service(&host) else {
            return; // That it is missing is said already.
        };
        if let Some(policy) = &spec.traffic_policy {
            self.policy_ports(policy, &service, &path.at("trafficPolicy"));
        }
        let labels: Vec<BTreeMap<_, _>> = self
            .view
            .endpoints(&service)
            .into_iter()
            .map(|endpoint| endpoint.labels)
            .collect();
        for (path, subset) in path.each("subsets", &spec.subsets) {
            if let Some(policy) = &subset.traffic_policy {
                self.policy_ports(policy, &service, &path.at("trafficPolicy"));
            }
            if !labels.is_empty() && !labels.iter().any(|labels| selects(&subset.labels, labels)) {
                let text = format!(
                    "no endpoint of {host:?} has these labels; requests to the subset {:?} get 503",
                    subset.name
                );
                self.warn(&path.at("labels"), text);
            }
        }
    }

    fn policy_ports(&mut self, policy: &TrafficPolicy, service: &Service, path: &Path) {
        for (path, port) in path.each("portLevelSettings", &policy.port_level_settings) {
            let number = port.port.number;
            if !service.spec.ports.iter().any(|port| port.number == number) {
                let text = format!("{:?} has no port {number}", &*service.host);
                self.warn(&path.at("port.number"), text);
            }
        }
    }

    /// Of rules for one host in one namespace the subsets are united, and the oldest trafficPolicy holds.
    fn overruled(&mut self, spec: &DestinationRule, host: &str, path: &Path) {
        let own = self.resource;
        let unborn = own.metadata.creation_timestamp.is_none();
        let age = Age::new(Kind::DestinationRule, &own.metadata);
        let mut found = Vec::new();
        let rules = self.view.rules_of(&own.key().namespace, host);
        for key in rules.into_iter().filter(|key| *key != own.key()) {
            let Some(other) = self.view.resource(&key) else {
                continue;
            };
            let Spec::DestinationRule(rule) = &other.spec else {
                continue;
            };
            let same = rule.workload_selector == spec.workload_selector;
            let older = unborn || Age::new(Kind::DestinationRule, &other.metadata) < age;
            if !same || !older {
                continue;
            }
            if spec.traffic_policy.is_some() && rule.traffic_policy.is_some() {
                let text =
                    format!("has no effect: {key} is older and has one for {host:?}; use one rule");
                found.push((path.at("trafficPolicy"), text));
            }
            for (path, subset) in path.each("subsets", &spec.subsets) {
                if rule.subsets.iter().any(|s| s.name == subset.name) {
                    let text = format!(
                        "has no effect: {key} is older and has the subset {:?} too",
                        subset.name
                    );
                    found.push((path, text));
                }
            }
        }
        for (path, text) in found {
            self.warn(&path, text);
        }
    }
}
