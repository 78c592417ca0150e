//! The fields that Istio has and Weft knows, but that have no effect yet. Each line is removed when its field is built.

use serde_json::Value;

use crate::Kind;

/// Patterns of paths: `*` is any name, `[]` any index.
fn patterns(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::ServiceEntry => &["subjectAltNames"],
        Kind::VirtualService => &[
            "http.[].fault.delay.exponentialDelay",
            "http.[].fault.abort.http2Error",
        ],
        Kind::DestinationRule => &[
            "trafficPolicy.tunnel",
            "subsets.[].trafficPolicy.tunnel",
            "trafficPolicy.*.*.httpCookie.attributes",
            "trafficPolicy.tls.credentialName",
            "subsets.[].trafficPolicy.tls.credentialName",
            "trafficPolicy.portLevelSettings.[].tls.credentialName",
        ],
        Kind::Gateway => &[
            "servers.[].tls.credentialName",
            "servers.[].tls.credentialNames",
            "servers.[].tls.tlsCertificates",
            "servers.[].tls.verifyCertificateSpki",
            "servers.[].tls.verifyCertificateHash",
            "servers.[].defaultEndpoint",
        ],
        Kind::Sidecar => &["outboundTrafficPolicy.egressProxy", "ingress.[].tls"],
        // Envoy asks over the network only.
        Kind::WorkloadGroup => &["probe.exec"],
        Kind::MeshConfig => &["outboundTrafficPolicy.egressProxy"],
        _ => &[],
    }
}

/// The fields of a spec that have no effect yet, as paths.
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
        Kind::Gateway => (
            &["servers.[].tls.mode"],
            &["ISTIO_MUTUAL", "AUTO_PASSTHROUGH"],
        ),
        Kind::DestinationRule => (
            &[
                "trafficPolicy.tls.mode",
                "trafficPolicy.portLevelSettings.[].tls.mode",
                "subsets.[].trafficPolicy.tls.mode",
                "subsets.[].trafficPolicy.portLevelSettings.[].tls.mode",
            ],
            &["ISTIO_MUTUAL"],
        ),
        Kind::ServiceEntry => (&["resolution"], &["DYNAMIC_DNS"]),
        Kind::Sidecar => (&["egress.[].bind"], &["unix://"]),
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
