//! Security policies that deny until something else is put right.

use super::*;

#[test]
fn what_is_closed_until_something_else_is_right_is_told() {
    let keys = |uri: &str| json!({"jwtRules": [{"issuer": "a", "jwksUri": uri}]});
    let custom = json!({"action": "CUSTOM", "provider": {"name": "opa"}, "rules": [{}]});
    let told = |kind, spec: &Value| warnings(kind, "x", spec).join(" ");
    let name = "https://keys.example/";
    assert!(
        told(Kind::AuthorizationPolicy, &custom)
            .contains("none of MeshConfig's extensionProviders")
    );
    for (uri, expected) in [
        ("http://127.0.0.1/keys", "allowLocalJwksUri"),
        (name, "allowedJwksHosts"),
        ("http://192.0.2.1/keys", ""),
        ("http://reviews.default.svc.cluster.local:9080/keys", ""),
    ] {
        let found = told(Kind::RequestAuthentication, &keys(uri));
        assert_eq!(found.is_empty(), expected.is_empty(), "{uri}: {found}");
        assert!(found.contains(expected), "{uri}: {found}");
    }
}
