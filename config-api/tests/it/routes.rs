//! Every route asks for the role that was decided for it, in the right place.

use config_api::{Needs, routes};
use reqwest::{Method, StatusCode};

use crate::fixture::{Api, answer};
use crate::keyring::{Keyring, token_of};

/// What each route takes, written down a second time: (path, to read, to write, whether the namespace of the path counts).
/// A dash is for nobody in particular.
const EXPECTED: [(&str, &str, &str, &str); 37] = [
    ("/livez", "-", "-", ""),
    ("/readyz", "-", "-", ""),
    ("/healthz", "-", "-", ""),
    ("/grpc.health.v1.Health/{*rest}", "-", "-", ""),
    ("/metrics", "viewer", "editor", "every"),
    ("/version", "known", "known", ""),
    ("/openapi/v3", "known", "known", ""),
    ("/openapi/v3/api/v1", "known", "known", ""),
    ("/openapi/v3/v1", "known", "known", ""),
    ("/openapi/v3/apis/{group}/{version}", "known", "known", ""),
    ("/api", "known", "known", ""),
    ("/api/v1", "known", "known", ""),
    ("/api/v1/namespaces", "viewer", "editor", "every"),
    ("/api/v1/namespaces/{namespace}", "viewer", "editor", "own"),
    ("/api/v1/events", "viewer", "editor", "every"),
    (
        "/api/v1/namespaces/{namespace}/events",
        "viewer",
        "editor",
        "own",
    ),
    ("/apis", "known", "known", ""),
    ("/apis/{group}", "known", "known", ""),
    ("/apis/{group}/{version}", "known", "known", ""),
    (
        "/apis/{group}/{version}/{plural}",
        "viewer",
        "editor",
        "every",
    ),
    (
        "/apis/{group}/{version}/namespaces/{namespace}/{plural}",
        "viewer",
        "editor",
        "own",
    ),
    (
        "/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}",
        "viewer",
        "editor",
        "own",
    ),
    (
        "/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}/status",
        "viewer",
        "editor",
        "own",
    ),
    (
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        "known",
        "known",
        "",
    ),
    (
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        "known",
        "known",
        "",
    ),
    ("/v1/openapi.json", "known", "known", ""),
    ("/v1/apply", "editor", "editor", "some"),
    ("/v1/diff", "viewer", "viewer", "some"),
    ("/v1/history", "viewer", "viewer", "some"),
    (
        "/v1/history/{kind}/{namespace}/{name}",
        "viewer",
        "viewer",
        "own",
    ),
    (
        "/v1/history/{group}/{kind}/{namespace}/{name}",
        "viewer",
        "viewer",
        "own",
    ),
    ("/v1/rollback", "editor", "editor", "some"),
    ("/v1/proxies", "viewer", "viewer", "some"),
    ("/v1/shards", "viewer", "viewer", "some"),
    ("/v1/authz/check", "viewer", "viewer", "some"),
    ("/v1/mtls", "viewer", "viewer", "some"),
    ("/v1/mtls/{service}", "viewer", "viewer", "some"),
];

/// Those that do not fit: the authority's, the proxy's id names the namespace, and two more of a workload.
const EXPECTED_OF_WORKLOADS: [(&str, &str, &str, &str); 7] = [
    ("/v1/ca", "viewer", "admin", "every"),
    ("/v1/proxies/{id}", "viewer", "viewer", "own"),
    ("/v1/proxies/{id}/config", "viewer", "viewer", "own"),
    (
        "/v1/namespaces/{namespace}/workloads/{name}/bootstrap",
        "admin",
        "admin",
        "own",
    ),
    (
        "/v1/namespaces/{namespace}/workloads/{name}/credentials",
        "admin",
        "admin",
        "own",
    ),
    (
        "/v1/namespaces/{namespace}/workloads/{name}/credentials/{id}",
        "admin",
        "admin",
        "own",
    ),
    (
        "/v1/namespaces/{namespace}/workloads/{name}/heartbeat",
        "editor",
        "editor",
        "own",
    ),
];

/// Where a change has been is seen by whoever sees a proxy; what becomes of it is decided by who may change it.
const EXPECTED_OF_ROLLOUTS: [(&str, &str, &str, &str); 4] = [
    ("/v1/rollouts", "viewer", "viewer", "some"),
    ("/v1/rollouts/{revision}", "viewer", "viewer", "some"),
    (
        "/v1/rollouts/{revision}/continue",
        "editor",
        "editor",
        "some",
    ),
    ("/v1/rollouts/{revision}/abort", "editor", "editor", "some"),
];

#[tokio::test]
async fn every_route_asks_for_its_role() {
    let roles = ["viewer", "editor", "admin"];
    let names: Vec<(String, &str, &str)> = roles
        .iter()
        .flat_map(|role| {
            ["shop", "pay", "*"].map(|place| (format!("{role}-of-{place}"), *role, place))
        })
        .collect();
    let places: Vec<[&str; 1]> = names.iter().map(|(_, _, place)| [*place]).collect();
    let mut grants: Vec<(&str, &str, &[&str])> = Vec::new();
    for ((name, role, _), place) in names.iter().zip(&places) {
        grants.push((name, role, place));
    }
    let keys = Keyring::new();
    let mut access = keys.by_token(&grants);
    let mut tokens: Vec<String> = names.iter().map(|(name, ..)| token_of(name)).collect();
    tokens.push(token_of("known"));
    let none: &[&str] = &[];
    let mut entries: Vec<_> = names
        .iter()
        .zip(&tokens)
        .map(|((n, ..), t)| (n.as_str(), none, t.as_str()))
        .collect();
    entries.push(("known", none, &tokens[names.len()]));
    access.token_hashes_file = Some(keys.tokens(&entries));
    let api = Api::with(|c| c.access = access).await;

    let expected: Vec<_> = EXPECTED
        .iter()
        .chain(&EXPECTED_OF_WORKLOADS)
        .chain(&EXPECTED_OF_ROLLOUTS)
        .copied()
        .collect();
    let table = routes();
    for path in table.keys() {
        assert!(
            expected.iter().any(|(p, ..)| p == path),
            "{path}: nobody has decided who may call it; add it to the tables here"
        );
    }
    let rank = |role: &str| {
        ["-", "known", "viewer", "editor", "admin"]
            .iter()
            .position(|r| *r == role)
            .unwrap()
    };
    for (path, read, write, place) in expected {
        assert!(table.contains_key(path), "{path} is no route");
        assert_eq!(table[path] == Needs::Nothing, read == "-", "{path}");
        let url = path
            .replace("{group}", "networking.istio.io")
            .replace("{version}", "v1")
            .replace("{plural}", "virtualservices")
            .replace("{kind}", "virtualservice")
            .replace("{namespace}", "shop")
            .replace("{name}", "a")
            .replace("{service}", "orders")
            .replace("{revision}", "1")
            .replace("{id}", "sidecar~shop~a");
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
            let needed = if ["GET", "HEAD"].contains(&method) {
                read
            } else {
                write
            };
            let method: Method = method.parse().unwrap();
            let nobody = answer(api.request(method.clone(), &url)).await.0;
            assert_eq!(
                nobody == StatusCode::UNAUTHORIZED,
                needed != "-",
                "{method} {path}: {nobody}"
            );
            let known = api.code("known", method.clone(), &url).await;
            assert_eq!(
                known != 403,
                rank(needed) <= rank("known"),
                "{method} {path} by known: {known}"
            );
            assert_ne!(known, 401, "{method} {path}");
            for (name, role, held) in &names {
                let there = match place {
                    "every" => *held == "*",
                    "own" => ["*", "shop"].contains(held),
                    _ => true,
                };
                let may = rank(needed) <= rank("known") || (there && rank(role) >= rank(needed));
                let code = api.code(name, method.clone(), &url).await;
                // Whose the proxy is, is asked by the handler; a method without one has nothing to protect.
                if code == 405 && path.contains("{id}") {
                    continue;
                }
                assert_eq!(code != 403, may, "{method} {path} by {name}: {code}");
                assert_ne!(code, 401, "{method} {path} by {name}");
                assert_ne!(code, 500, "{method} {path} by {name}");
            }
        }
    }
}
