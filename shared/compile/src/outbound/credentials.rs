//! Uploaded certificates that DestinationRules name: whose they are, and who is told that they cannot be had.
//!
//! *Invariant:* clusters without such a certificate are the same for all namespaces.

use std::sync::Arc;

use model::mesh::View;
use model::spec::{ClientTlsSettings, TrafficPolicy};
use model::{Key, Spec};

use super::{Rules, Target};
use crate::Role;
use crate::class::Class;
use crate::part::{Part, Report};
use crate::translate::{cluster, secrets};

/// Why a certificate that a policy names cannot be had is told to its author.
pub(super) fn report(
    tls: &ClientTlsSettings,
    had: bool,
    target: &Target,
    rules: &Rules<'_>,
    part: &mut Part,
) {
    let (Some(name), false, Some(rule)) = (cluster::tls::credential(tls), had, &rules.first) else {
        return;
    };
    let why = match target.credentials {
        Some(_) => secrets::impossible(),
        None => "holds at gateways, and at sidecars only in a DestinationRule with a workloadSelector; at others no client certificate is shown and the system's authorities are trusted".into(),
    };
    part.reports.insert(Report {
        key: rule.clone(),
        message: format!("spec.trafficPolicy.tls.credentialName: {name:?} {why}"),
    });
}

/// The namespace whose TlsSecrets a class may use in clusters of these rules; nothing if no rule names any, so that namespaces
/// share what is the same.
pub(super) fn of(rules: &[Key], class: &Class, view: &mut View<'_, '_>) -> Option<Arc<str>> {
    let names = |policy: &TrafficPolicy| {
        let ports = policy.port_level_settings.iter();
        let all = ports.map(|port| &port.tls).chain([&policy.tls]);
        all.flatten()
            .any(|tls| cluster::tls::credential(tls).is_some())
    };
    let named = rules.iter().any(|key| {
        let Some(Spec::DestinationRule(rule)) = view.resource(key).map(|it| &it.spec) else {
            return false;
        };
        let here = class.role == Role::Gateway || rule.workload_selector.is_some();
        let subsets = rule.subsets.iter().map(|subset| &subset.traffic_policy);
        let policies = subsets.chain([&rule.traffic_policy]);
        here && policies.flatten().any(names)
    });
    named.then(|| class.namespace.clone())
}
