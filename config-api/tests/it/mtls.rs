//! The status of mutual TLS, without proxies: what is stored of them is written here as a pusher would.

use jiff::Timestamp;
use model::mtls::{Acknowledged, Mode};
use reqwest::Method;
use serde_json::{Value, json};
use store::{Area, Expect, Vault, VaultOp};

use crate::fixture::{Api, PATIENCE, answer};
use crate::keyring::Keyring;

const ORDERS: &str = "/v1/mtls/orders";

fn document(api: &str, kind: &str, (namespace, name): (&str, &str), spec: &Value) -> Value {
    json!({"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

/// `orders` of a namespace with the workload `orders-1`, and a policy for the namespace.
fn documents(namespace: &str, mode: &str) -> Value {
    let labels = json!({"app": "orders"});
    let items = [
        document(
            "networking.istio.io/v1",
            "ServiceEntry",
            (namespace, "orders"),
            &json!({
                "hosts": [format!("orders.{namespace}.svc.cluster.local")], "resolution": "STATIC", "location": "MESH_INTERNAL",
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080}],
                "workloadSelector": {"labels": labels},
            }),
        ),
        document(
            "networking.istio.io/v1",
            "WorkloadEntry",
            (namespace, "orders-1"),
            &json!({"address": "127.0.0.1", "labels": labels}),
        ),
        document(
            "security.istio.io/v1",
            "PeerAuthentication",
            (namespace, "default"),
            &json!({"mtls": {"mode": mode}}),
        ),
    ];
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

async fn declare(api: &Api, namespace: &str, mode: &str) {
    let (code, answer) = api.post("/v1/apply", &documents(namespace, mode)).await;
    assert_eq!(code, 200, "{answer}");
}

/// Stores what a pusher does once the proxy of shop/orders-1 acknowledged a mode on its port.
async fn acknowledged(api: &Api, mode: Mode, since: Timestamp, drain_seconds: u64) {
    let modes = [(8080, mode)].into();
    let drain = std::time::Duration::from_secs(drain_seconds);
    let value = Acknowledged::default().turned(&modes, drain, since);
    let path = "shop/orders-1";
    let present = api.store.read(Area::Mtls, path).await.unwrap();
    let put = VaultOp::Put {
        path: path.into(),
        value: value.to_bytes(),
        expect: present.map_or(Expect::Absent, |entry| Expect::At(entry.revision)),
    };
    api.store.write(Area::Mtls, vec![put], None).await.unwrap();
}

/// The answer once the mode is this.
async fn until(api: &Api, path: &str, mode: &str) -> Value {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let (code, answer) = api.get(path).await;
        if code == 200 && answer["mtls_mode"] == mode {
            return answer;
        }
        assert!(std::time::Instant::now() < deadline, "{code}: {answer}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_service_is_strict_when_its_proxies_said_so_and_drained() {
    let api = Api::with_identities().await;
    declare(&api, "shop", "STRICT").await;
    let unknown = until(&api, ORDERS, "UNKNOWN").await;
    assert_eq!(unknown["workloads"], json!(["orders-1"]));
    assert!(unknown["reason"].as_str().unwrap().contains("acknowledged"));
    let port = &unknown["details"][0]["ports"][0];
    let policy = json!({"kind": "PeerAuthentication", "namespace": "shop", "name": "default"});
    assert_eq!(
        *port,
        json!({
            "port": 8080, "service_ports": [80], "mode": "UNKNOWN", "policy_mode": "STRICT", "scope": "namespace", "policy": policy,
            "acked": false,
        })
    );
    assert_eq!(unknown["details"][0]["proxy"], json!({"connected": false}));

    acknowledged(&api, Mode::Permissive, Timestamp::now(), 1000).await;
    let answer = until(&api, ORDERS, "PERMISSIVE").await;
    assert_eq!(answer["details"][0]["ports"][0]["acked"], false);

    let since = Timestamp::now();
    acknowledged(&api, Mode::Strict, since, 1000).await;
    let answer = until(&api, ORDERS, "DRAINING").await;
    let ends: Timestamp = answer["draining_until"].as_str().unwrap().parse().unwrap();
    assert!((ends - since).total(jiff::Unit::Second).unwrap() > 1000.0);
    let port = &answer["details"][0]["ports"][0];
    assert_eq!(
        (&port["acked"], &port["mode"]),
        (&json!(true), &json!("DRAINING"))
    );
    assert_eq!(port["since"], since.to_string());

    acknowledged(&api, Mode::Strict, Timestamp::UNIX_EPOCH, 1000).await;
    let answer = until(&api, ORDERS, "STRICT").await;
    assert_eq!(answer["draining_until"], Value::Null);
    let (_, all) = api.get("/v1/mtls").await;
    let mut listed = answer.clone();
    listed.as_object_mut().unwrap().remove("silent");
    assert_eq!(all["services"], json!([listed]));

    // A policy that leaves STRICT ends it at once: the proxy may be faster than its word.
    declare(&api, "shop", "PERMISSIVE").await;
    let (_, answer) = api.get(ORDERS).await;
    assert_eq!(answer["mtls_mode"], "PERMISSIVE", "{answer}");
}

#[tokio::test]
async fn names_that_mean_several_services_or_none_are_refused() {
    let api = Api::with_identities().await;
    declare(&api, "shop", "STRICT").await;
    declare(&api, "bank", "STRICT").await;
    until(&api, "/v1/mtls/orders.shop", "UNKNOWN").await;
    let (code, status) = api.get(ORDERS).await;
    assert_eq!(code, 409, "{status}");
    let causes = status["details"]["causes"].as_array().unwrap();
    assert_eq!(causes.len(), 2, "{status}");
    for (path, namespace) in [
        ("/v1/mtls/orders?namespace=bank", "bank"),
        ("/v1/mtls/orders.shop.svc.cluster.local", "shop"),
    ] {
        let (code, answer) = api.get(path).await;
        assert_eq!(
            (code.as_u16(), &answer["namespace"]),
            (200, &json!(namespace))
        );
    }
    let (code, status) = api.get("/v1/mtls/ordres").await;
    assert_eq!(code, 404, "{status}");
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains("did you mean orders")
    );
    let (_, all) = api.get("/v1/mtls?namespace=bank").await;
    assert_eq!(all["services"].as_array().unwrap().len(), 1, "{all}");
}

#[tokio::test]
async fn without_identities_every_mode_is_disable_and_policies_are_warned_of() {
    let api = Api::start().await;
    let path = "/apis/security.istio.io/v1/namespaces/shop/peerauthentications";
    let policy = document(
        "security.istio.io/v1",
        "PeerAuthentication",
        ("shop", "mine"),
        &json!({"mtls": {"mode": "STRICT"}}),
    );
    let response = api.request(Method::POST, path).json(&policy).send().await;
    let response = response.unwrap();
    assert_eq!(response.status(), 201);
    let warning = response.headers()["warning"].to_str().unwrap().to_owned();
    assert!(warning.contains("--insecure-plaintext-xds"), "{warning}");
    declare(&api, "shop", "STRICT").await;
    acknowledged(&api, Mode::Strict, Timestamp::UNIX_EPOCH, 1).await;
    let answer = until(&api, ORDERS, "DISABLE").await;
    assert!(
        answer["reason"]
            .as_str()
            .unwrap()
            .contains("--insecure-plaintext-xds")
    );
    assert_eq!(answer["details"][0]["ports"][0]["mode"], "DISABLE");
    let api = Api::with_identities().await;
    let response = api.request(Method::POST, path).json(&policy).send().await;
    assert_eq!(response.unwrap().headers().get("warning"), None);
}

#[tokio::test]
async fn callers_see_the_services_of_their_namespaces() {
    let keys = Keyring::new();
    let access = keys.by_token(&[("vera", "viewer", &["shop"]), ("ed", "admin", &["*"])]);
    let api = Api::with(|config| config.access = access).await;
    for namespace in ["shop", "bank"] {
        let request = api.by("ed", Method::POST, "/v1/apply");
        let (code, answer) = answer(request.json(&documents(namespace, "STRICT"))).await;
        assert_eq!(code, 200, "{answer}");
    }
    let of = async |who: &str, path: &str| answer(api.by(who, Method::GET, path)).await;
    crate::access::until("the modes to be read", async || {
        of("ed", "/v1/mtls").await.0 == 200
    })
    .await;
    for (who, count) in [("ed", 2), ("vera", 1)] {
        let (_, all) = of(who, "/v1/mtls").await;
        assert_eq!(
            all["services"].as_array().unwrap().len(),
            count,
            "{who}: {all}"
        );
    }
    // What she does not see makes nothing ambiguous, and is not there.
    let (code, answer) = of("vera", ORDERS).await;
    assert_eq!((code.as_u16(), &answer["namespace"]), (200, &json!("shop")));
    for (path, expected) in [
        ("/v1/mtls/orders.bank", 404),
        ("/v1/mtls/orders?namespace=bank", 403),
        ("/v1/mtls?namespace=bank", 403),
    ] {
        let (code, answer) = of("vera", path).await;
        assert_eq!(code.as_u16(), expected, "{answer}");
    }
}
