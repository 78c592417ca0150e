//! Istio's `ValidatePeerAuthentication`.

use serde_json::json;

use super::*;
use crate::validate::{Findings, validate};

/// The field that is refused, or the one that people are warned of after a `!`.
fn found(spec: &Value) -> String {
    let object = Object {
        kind: Kind::PeerAuthentication,
        metadata: Metadata::default(),
        spec: spec.clone(),
    };
    let resource = match object.decode() {
        Ok(resource) => resource,
        Err(error) => return error.field,
    };
    let mut findings = Findings::default();
    validate(&resource.spec, &mut findings);
    let errors = findings.errors.into_iter().map(|(field, _)| field);
    let warnings = findings
        .warnings
        .into_iter()
        .map(|(field, _)| format!("!{field}"));
    errors.chain(warnings).collect::<Vec<_>>().join(" ")
}

#[test]
fn peer_authentications_keep_istios_rules() {
    let ports = "spec.portLevelMtls";
    let select = json!({"matchLabels": {"app": "a"}});
    #[rustfmt::skip]
    let rows = [
        (json!({}), ""),
        (json!({"mtls": {}}), ""),
        (json!({"mtls": {"mode": "STRICT"}}), ""),
        (json!({"mtls": {"mode": "NONE"}}), ""),
        (json!({"selector": select, "portLevelMtls": {"8080": {"mode": "DISABLE"}, "65535": {"mode": "UNSET"}}}), ""),
        // A namespace or mesh cannot have ports.
        (json!({"portLevelMtls": {"80": {"mode": "DISABLE"}}}), ports),
        (json!({"selector": {}, "portLevelMtls": {"80": {}}}), "spec.portLevelMtls !spec.selector.matchLabels"),
        (json!({"selector": select, "portLevelMtls": {}}), ports),
        (json!({"selector": select, "portLevelMtls": {"0": {}}}), "spec.portLevelMtls.0"),
        (json!({"selector": select, "portLevelMtls": {"65536": {}}}), ports),
        (json!({"selector": select, "portLevelMtls": {"http": {}}}), ports),
        (json!({"selector": {}}), "!spec.selector.matchLabels"),
        (json!({"selector": {"matchLabels": {"": "a"}}}), "spec.selector.matchLabels."),
        (json!({"selector": {"matchLabels": {"app": "*"}}}), "spec.selector.matchLabels.app"),
        (json!({"mtls": {"mode": "MUTUAL"}}), "spec.mtls.mode"),
        (json!({"mtls": {"mdoe": "STRICT"}}), "spec.mtls.mdoe"),
        (json!({"selector": {"labels": {"app": "a"}}}), "spec.selector.labels"),
    ];
    for (spec, expected) in rows {
        assert_eq!(found(&spec), expected, "{spec}");
    }
}
