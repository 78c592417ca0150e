//! `POST /v1/authz/check`, and the kinds it is about.

use serde_json::{Value, json};

use crate::fixture::Api;

async fn mesh() -> Api {
    let api = Api::start().await;
    let object = |kind: &str, api_version: &str, name: &str, spec: Value| json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": "shop"}, "spec": spec});
    let networking = "networking.istio.io/v1";
    let security = "security.istio.io/v1";
    let items = [
        object(
            "ServiceEntry",
            networking,
            "cart",
            json!({
                "hosts": ["cart.shop.svc.cluster.local"], "location": "MESH_INTERNAL", "resolution": "STATIC",
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080}, {"number": 6379, "name": "redis", "protocol": "TCP"}],
                "workloadSelector": {"labels": {"app": "cart"}},
            }),
        ),
        object(
            "WorkloadEntry",
            networking,
            "cart-1",
            json!({"address": "10.0.0.1", "labels": {"app": "cart"}, "serviceAccount": "cart"}),
        ),
        object(
            "WorkloadEntry",
            networking,
            "web-1",
            json!({"address": "10.0.0.2", "labels": {"app": "web"}, "serviceAccount": "web"}),
        ),
        object(
            "AuthorizationPolicy",
            security,
            "no-admin",
            json!({
                "action": "DENY", "rules": [{"to": [{"operation": {"paths": ["/admin*"], "ports": ["8080"]}}]}],
            }),
        ),
        object(
            "AuthorizationPolicy",
            security,
            "cart",
            json!({
                "selector": {"matchLabels": {"app": "cart"}},
                "rules": [
                    {"from": [{"source": {"serviceAccounts": ["web"]}}], "to": [{"operation": {"methods": ["GET"]}}]},
                    {"when": [{"key": "request.headers[x-role]", "values": ["admin"]}]},
                ],
            }),
        ),
        object(
            "RequestAuthentication",
            security,
            "tokens",
            json!({"jwtRules": [{"issuer": "i", "jwksUri": "https://192.0.2.1/keys"}]}),
        ),
    ];
    let (code, applied) = api
        .post(
            "/v1/apply",
            &json!({"apiVersion": "v1", "kind": "List", "items": items}),
        )
        .await;
    assert_eq!(code, 200, "{applied}");
    api
}

/// The only workload's part of the answer.
async fn check(api: &Api, call: Value) -> Value {
    let (code, answer) = api.post("/v1/authz/check", &call).await;
    assert_eq!(code, 200, "{answer}");
    assert_eq!(answer["workloads"].as_array().unwrap().len(), 1, "{answer}");
    answer["workloads"][0].clone()
}

#[tokio::test]
async fn a_verdict_is_explained_rule_by_rule() {
    let api = mesh().await;
    let at = |call: Value| {
        let mut whole = json!({"namespace": "shop", "to": "cart:80"});
        whole
            .as_object_mut()
            .unwrap()
            .extend(call.as_object().unwrap().clone());
        whole
    };
    let judged = check(&api, at(json!({"from": "web-1", "path": "/cart"}))).await;
    assert_eq!(judged["verdict"], "ALLOWED", "{judged}");
    assert_eq!(judged["by"], json!({"policy": "shop/cart", "rule": 0}));
    assert_eq!(judged["workload"], "shop/cart-1");
    assert_eq!(judged["port"], 8080);
    let rules = &judged["policies"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["policy"] == "shop/cart")
        .unwrap()["rules"];
    assert_eq!(rules[0]["matches"], true, "{rules}");
    assert_eq!(
        rules[0]["sources"][0][0]["found"],
        "cluster.local/ns/shop/sa/web"
    );
    assert_eq!(
        rules[1]["sources"][0][0]["attribute"],
        "request.headers[x-role]"
    );
    assert_eq!(rules[1]["sources"][0][0]["holds"], false);

    let judged = check(&api, at(json!({"from": "shop/web", "path": "/admin/x"}))).await;
    assert_eq!(
        (&judged["verdict"], &judged["by"]["policy"]),
        (&json!("DENIED"), &json!("shop/no-admin"))
    );
    let judged = check(
        &api,
        at(json!({"from": "cluster.local/ns/far/sa/web", "path": "/"})),
    )
    .await;
    assert_eq!(
        (&judged["verdict"], &judged["by"]),
        (&json!("DENIED"), &Value::Null)
    );
    // Paths are judged as the proxy makes them, and the answer says so.
    for (path, note) in [
        ("/x/..//%61dmin/y", "the proxy makes the path /admin/y"),
        ("/x/..%2Fadmin/y", "answers with a redirect to /admin/y"),
    ] {
        let judged = check(&api, at(json!({"from": "shop/web", "path": path}))).await;
        assert_eq!(judged["by"]["policy"], "shop/no-admin", "{judged}");
        assert!(judged["notes"].to_string().contains(note), "{judged}");
    }
    // One of several values lets nobody through.
    let judged = check(&api, at(json!({"headers": ["x-role: admin"]}))).await;
    assert_eq!(judged["verdict"], "ALLOWED", "{judged}");
    let judged = check(
        &api,
        at(json!({"headers": ["x-role: user", "X-Role: admin"]})),
    )
    .await;
    assert_eq!(judged["verdict"], "DENIED", "{judged}");
    // A connection: rules that allow by what requests have are left out.
    let judged = check(&api, json!({"to": "shop/cart-1:6379", "from": "shop/web"})).await;
    assert_eq!(
        (&judged["verdict"], &judged["protocol"]),
        (&json!("DENIED"), &json!("TCP"))
    );
    let left_out = judged["policies"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| it["action"] == "ALLOW");
    assert!(left_out.clone().count() > 0);
    assert!(
        left_out
            .flat_map(|it| it["rules"].as_array().unwrap())
            .all(|it| it["leftOut"] == true)
    );
}

#[tokio::test]
async fn a_name_that_means_nothing_is_told() {
    let api = mesh().await;
    for (call, expected) in [
        (
            json!({"to": "cart", "namespace": "shop"}),
            "needs one of its ports: 80, 6379",
        ),
        (
            json!({"to": "car:80", "namespace": "shop"}),
            "is no service",
        ),
        (json!({"to": "shop/cart-2:80"}), "is no WorkloadEntry"),
        (json!({"to": "shop/cart-1"}), "needs a port: 6379, 8080"),
        (
            json!({"to": "cart:80", "namespace": "shop", "from": "nobody"}),
            "is no workload of the namespace shop",
        ),
        (
            json!({"to": "cart:x", "namespace": "shop"}),
            "must have a port after the colon",
        ),
        (
            json!({"to": "cart:80", "namespace": "shop", "headers": ["x"]}),
            "name: value",
        ),
        (json!({"too": "cart"}), "too"),
    ] {
        let (code, answer) = api.post("/v1/authz/check", &call).await;
        assert_eq!(code, 400, "{call}: {answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(expected), "{call}: {message}");
    }
}

#[tokio::test]
async fn where_mutual_tls_decides_policies_are_not_asked() {
    let api = mesh().await;
    let policy = |mode: &str| {
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
            "metadata": {"name": "cart", "namespace": "shop"}, "spec": {"mtls": {"mode": mode}},
        })
    };
    let call = |from: Value| json!({"namespace": "shop", "to": "cart:80", "from": from, "headers": ["x-role: admin"], "method": "GET"});
    for (mode, from, verdict, notes) in [
        ("STRICT", Value::Null, "DENIED", 1),
        ("STRICT", json!("web-1"), "ALLOWED", 0),
        ("DISABLE", json!("web-1"), "ALLOWED", 1),
    ] {
        let (code, applied) = api.post("/v1/apply", &policy(mode)).await;
        assert_eq!(code, 200, "{applied}");
        let judged = check(&api, call(from)).await;
        assert_eq!(
            judged["mtls"],
            json!({"mode": mode, "policy": "shop/cart"}),
            "{judged}"
        );
        assert_eq!(judged["verdict"], verdict, "{mode}: {judged}");
        assert_eq!(
            judged["notes"].as_array().unwrap().len(),
            notes,
            "{mode}: {judged}"
        );
    }
}
