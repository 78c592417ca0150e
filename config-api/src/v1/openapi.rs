//! The OpenAPI document of `/v1`.
//!
//! *Invariant:* every route of `/v1` is in it; a test compares.

use serde_json::{Map, Value, json};

/// A route: path, methods, what it does, query parameters, whether it takes a body.
type Route = (
    &'static str,
    &'static [&'static str],
    &'static str,
    &'static [&'static str],
    bool,
);

/// Every route of `/v1`.
const ROUTES: [Route; 23] = [
    ("/v1/openapi.json", &["get"], "This document", &[], false),
    (
        "/v1/apply",
        &["post"],
        "Applies many documents, all or none",
        &[
            "dryRun",
            "fieldValidation",
            "namespace",
            "gradual",
            "rollback",
            "deadline",
        ],
        true,
    ),
    (
        "/v1/diff",
        &["post"],
        "What an apply would change",
        &["fieldValidation", "namespace", "xds"],
        true,
    ),
    (
        "/v1/authz/check",
        &["post"],
        "What the policies make of a call, rule by rule",
        &[],
        true,
    ),
    (
        "/v1/history",
        &["get"],
        "Change records, newest first",
        &["limit", "before"],
        false,
    ),
    (
        "/v1/history/{kind}/{namespace}/{name}",
        &["get"],
        "Those of one resource",
        &["limit", "before"],
        false,
    ),
    (
        "/v1/history/{group}/{kind}/{namespace}/{name}",
        &["get"],
        "Those of one resource",
        &["limit", "before"],
        false,
    ),
    (
        "/v1/rollback",
        &["post"],
        "Back to an earlier state, in one revision",
        &["dryRun"],
        true,
    ),
    (
        "/v1/mtls",
        &["get"],
        "Which services take mutual TLS, by which policy and since when",
        &["namespace"],
        false,
    ),
    (
        "/v1/mtls/{service}",
        &["get"],
        "The same of one service",
        &["namespace"],
        false,
    ),
    (
        "/v1/ca",
        &["get", "post"],
        "The certificate authority; asks it for a rotation or a revocation",
        &[],
        true,
    ),
    (
        "/v1/rollouts",
        &["get"],
        "Changes that are delivered gradually, and those that were",
        &[],
        false,
    ),
    (
        "/v1/rollouts/{revision}/continue",
        &["post"],
        "Sends a change that is delivered gradually to everybody",
        &[],
        false,
    ),
    (
        "/v1/rollouts/{revision}/abort",
        &["post"],
        "Takes a change back that is delivered gradually",
        &[],
        false,
    ),
    (
        "/v1/rollouts/{revision}",
        &["get"],
        "Whether a revision has reached every connected proxy",
        &["wait", "limit"],
        false,
    ),
    ("/v1/proxies", &["get"], "Every connected proxy", &[], false),
    ("/v1/proxies/{id}", &["get"], "One proxy", &[], false),
    (
        "/v1/proxies/{id}/config",
        &["get"],
        "What was compiled for it",
        &["type"],
        false,
    ),
    (
        "/v1/shards",
        &["get"],
        "The pushers, and the proxies that each serves",
        &[],
        false,
    ),
    (
        "/v1/namespaces/{namespace}/workloads/{name}/bootstrap",
        &["get", "post"],
        "An Envoy bootstrap with a new credential (POST); without one, where xDS is served without TLS",
        &["variant", "type", "adminAddress", "adminPort"],
        false,
    ),
    (
        "/v1/namespaces/{namespace}/workloads/{name}/credentials",
        &["get", "delete"],
        "The credentials of a workload; revokes all of them",
        &[],
        false,
    ),
    (
        "/v1/namespaces/{namespace}/workloads/{name}/credentials/{id}",
        &["delete"],
        "Revokes one credential",
        &[],
        false,
    ),
    (
        "/v1/namespaces/{namespace}/workloads/{name}/heartbeat",
        &["put", "delete"],
        "A workload lives, or leaves",
        &[],
        true,
    ),
];

/// The document.
pub(crate) fn document() -> Value {
    let mut paths = Map::new();
    for (path, methods, summary, query, body) in ROUTES {
        let within = path
            .split('/')
            .filter_map(|p| p.strip_prefix('{')?.strip_suffix('}'));
        let parameter = |name: &str, place: &str| json!({"name": name, "in": place, "required": place == "path", "schema": {"type": "string"}});
        let parameters: Vec<Value> = within
            .map(|n| parameter(n, "path"))
            .chain(query.iter().map(|n| parameter(n, "query")))
            .collect();
        let content = || json!({"application/json": {"schema": {"type": "object"}}, "application/yaml": {"schema": {"type": "object"}}});
        let mut item = Map::new();
        for method in methods {
            let mut operation = json!({
                "summary": summary, "parameters": parameters,
                "responses": {
                    "200": {"description": "OK", "content": content()},
                    "default": {"description": "A Kubernetes Status", "content": content()},
                },
            });
            if body {
                operation["requestBody"] = json!({"content": content()});
            }
            item.insert((*method).to_owned(), operation);
        }
        paths.insert(path.to_owned(), item.into());
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Weft /v1", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_documented() {
        let (_, table) = crate::v1::routes().parts();
        let routed: Vec<&str> = table.into_keys().collect();
        let mut documented: Vec<&str> = ROUTES.iter().map(|r| r.0).collect();
        documented.sort_unstable();
        assert_eq!(routed, documented);
    }
}
