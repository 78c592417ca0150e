//! Rules of `DestinationRule`; those of its policies are in [`super::traffic_policy`].

use super::{Findings, Path, names, traffic_policy};
use crate::spec::DestinationRule;

pub(super) fn validate(spec: &DestinationRule, path: &Path, findings: &mut Findings) {
    findings.rule(&path.at("host"), names::wildcard_host(&spec.host));
    if let Some(policy) = &spec.traffic_policy {
        traffic_policy::validate(policy, &path.at("trafficPolicy"), findings);
    }
    for (path, subset) in path.each("subsets", &spec.subsets) {
        findings.rule(&path.at("name"), names::dns_label(&subset.name));
        names::labels(&subset.labels, &path.at("labels"), findings);
        if let Some(policy) = &subset.traffic_policy {
            traffic_policy::validate(policy, &path.at("trafficPolicy"), findings);
        }
    }
    let named = path
        .each("subsets", &spec.subsets)
        .map(|(path, subset)| (path.at("name"), &subset.name));
    findings.unique(named, "the subset");
    if let Some(selector) = &spec.workload_selector {
        names::selector(selector, &path.at("workloadSelector"), findings);
    }
    names::export_to(&spec.export_to, false, path, findings);
    let beyond = spec.export_to.len() > 1 || spec.export_to.iter().any(|to| to == "*");
    findings.ensure(
        spec.workload_selector.is_none() || !beyond,
        &path.at("exportTo"),
        "must be this namespace alone beside workloadSelector",
    );
}
