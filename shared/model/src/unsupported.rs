//! The fields that Istio has and Weft knows, but that have no effect yet. Each line is removed when its field is built.

use serde_json::Value;

use crate::Kind;

/// Patterns of paths: `*` is any name, `[]` any index.
fn patterns(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::VirtualService => &[
            "http.[].fault.delay.exponentialDelay",
            "http.[].fault.abort.http2Error",
        ],
        Kind::DestinationRule => &[
            "trafficPolicy.tunnel",
            "subsets.[].trafficPolicy.tunnel",
            "trafficPolicy.*.*.httpCookie.attributes",
        ],
        Kind::Gateway => &["servers.[].defaultEndpoint"],
        Kind::Sidecar => &["outboundTrafficPolicy.egressProxy", "ingress.[].tls"],
        // Envoy asks over the network only.
        Kind::WorkloadGroup => &["probe.exec"],
        Kind::AuthorizationPolicy | Kind::RequestAuthentication => &["targetRef", "targetRefs"],
        Kind::MeshConfig => &[
            "outboundTrafficPolicy.egressProxy",
            "proxyListenPort",
            "proxyInboundListenPort",
            "proxyHttpPort",
            "protocolDetectionTimeout",
            "ingressClass",
            "ingressService",
            "ingressControllerMode",
            "ingressSelector",
            "enableTracing",
            "accessLogEncoding",
            "enableEnvoyAccessLogService",
            "disableEnvoyListenerLog",
            "defaultConfig",
            "inboundTrafficPolicy",
            "configSources",
            "enableAutoMtls",
            "trustDomain",
            "trustDomainAliases",
            "caCertificates",
            "rootNamespace",
            "dnsRefreshRate",
            "h2UpgradePolicy",
            "inboundClusterStatName",
            "outboundClusterStatName",
            "certificates",
            "serviceSettings",
            "enablePrometheusMerge",
            "verifyCertificateAtClient",
            "ca",
            "defaultProviders",
            "discoverySelectors",
            "meshMTLS",
            "tlsDefaults",
            "compliancePolicy",
            "serviceScopeConfigs",
        ],
        _ => &[],
    }
}

/// The fields of a spec that have no effect yet, as paths. What is there, but says nothing, is none of them.
pub(crate) fn fields(kind: Kind, spec: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for pattern in patterns(kind) {
        let steps: Vec<_> = pattern.split('.').collect();
        walk(spec, &steps, "spec", &mut found);
    }
    found.extend(values(kind, spec));
    found
}

/// Values, rather than fields, that have no effect yet: those that begin like this.
fn values(kind: Kind, spec: &Value) -> Vec<String> {
    let (pattern, refused): (&[&str], &[&str]) = match kind {
        Kind::Gateway => (&["servers.[].tls.mode"], &["AUTO_PASSTHROUGH"]),
        Kind::ServiceEntry => (&["resolution"], &["DYNAMIC_DNS"]),
        Kind::Sidecar => (&["egress.[].bind"], &["unix://"]),
        Kind::AuthorizationPolicy => (&["rules.[].when.[].key"], &["experimental."]),
        _ => return Vec::new(),
    };
    let mut found = Vec::new();
    for pattern in pattern {
        let steps: Vec<_> = pattern.split('.').collect();
        walk_values(spec, &steps, "spec", &mut |path, value| {
            let text = value.as_str().unwrap_or_default();
            if refused.iter().any(|refused| text.starts_with(refused)) {
                found.push(path.to_owned());
            }
        });
    }
    found
}

fn walk(value: &Value, steps: &[&str], path: &str, found: &mut Vec<String>) {
    walk_values(value, steps, path, &mut |path, value| {
        let empty = match value {
            Value::Null => true,
            Value::Array(items) => items.is_empty(),
            Value::String(text) => text.is_empty(),
            _ => false,
        };
        if !empty {
            found.push(path.to_owned());
        }
    });
}

fn walk_values(value: &Value, steps: &[&str], path: &str, visit: &mut impl FnMut(&str, &Value)) {
    let Some((step, rest)) = steps.split_first() else {
        return visit(path, value);
    };
    match (*step, value) {
        ("[]", Value::Array(items)) => {
            for (i, item) in items.iter().enumerate() {
                walk_values(item, rest, &format!("{path}[{i}]"), visit);
            }
        }
        ("*", Value::Object(map)) => {
            for (name, item) in map {
                walk_values(item, rest, &format!("{path}.{name}"), visit);
            }
        }
        (name, Value::Object(map)) => {
            if let Some(item) = map.get(name) {
                walk_values(item, rest, &format!("{path}.{name}"), visit);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::{Options, Reason, Treat, schema};

    /// Every field of Istio's MeshConfig is either read or said not to be supported; none is unknown.
    #[test]
    fn what_mesh_config_does_not_read_is_not_supported_yet() {
        let fields = schema(Kind::MeshConfig).unwrap()["properties"]
            .as_object()
            .unwrap();
        let unread = fields
            .iter()
            .filter(|(_, field)| field["x-kubernetes-preserve-unknown-fields"] == true);
        let names: Vec<_> = unread.map(|(name, _)| name.as_str()).collect();
        assert!(
            names.contains(&"meshMTLS") && names.contains(&"h2UpgradePolicy"),
            "{names:?}"
        );
        for name in names {
            let object = |unsupported| {
                let spec = json!({name: {"a": 1}});
                let metadata = crate::Metadata {
                    name: "default".into(),
                    namespace: "istio-system".into(),
                    ..Default::default()
                };
                crate::check(
                    crate::Object {
                        kind: Kind::MeshConfig,
                        metadata,
                        spec,
                    },
                    Options {
                        unsupported,
                        ..Options::default()
                    },
                )
            };
            let errors = object(Treat::Refuse).unwrap_err();
            let found: Vec<_> = errors
                .iter()
                .map(|e| (e.field.as_str(), e.reason))
                .collect();
            assert_eq!(
                found,
                [(format!("spec.{name}").as_str(), Reason::Unsupported)]
            );
            let stored = object(Treat::Warn).unwrap();
            assert_eq!(
                (stored.warnings.len(), &stored.object.spec[name]),
                (1, &json!({"a": 1}))
            );
        }
    }
}
