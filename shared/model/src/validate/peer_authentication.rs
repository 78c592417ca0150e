//! Rules of `PeerAuthentication` (Istio: `ValidatePeerAuthentication` in `pkg/config/validation/validation.go`).

use super::{Findings, Path, names};
use crate::spec::PeerAuthentication;

pub(super) fn validate(spec: &PeerAuthentication, path: &Path, findings: &mut Findings) {
    let labels = spec.selector.as_ref().map(|it| &it.match_labels);
    if let Some(labels) = labels {
        let path = path.at("selector.matchLabels");
        names::labels(labels, &path, findings);
        if labels.is_empty() {
            findings.warn(&path, "is empty, which selects every workload");
        }
    }
    let Some(ports) = &spec.port_level_mtls else {
        return;
    };
    let path = path.at("portLevelMtls");
    findings.ensure(
        !ports.is_empty(),
        &path,
        "must have at least one port; remove it to have none",
    );
    findings.ensure(
        ports.is_empty() || labels.is_some_and(|labels| !labels.is_empty()),
        &path,
        "needs a selector: ports are those of selected workloads, not of a whole namespace or mesh",
    );
    for port in ports.keys() {
        findings.rule(&path.at(port), names::port(*port));
    }
}
