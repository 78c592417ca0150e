//! Bootstraps with credentials: what is in them, what is stored of them, and how they are taken back.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use model::{Credential, CredentialRecord};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use store::{Area, Expect, Store, Vault, VaultOp};

use crate::fixture::{Api, PATIENCE};
use crate::keyring::Authority;

const WORKLOADS: &str = "/apis/networking.istio.io/v1/namespaces/shop/workloadentries";
const BOOTSTRAP: &str = "/v1/namespaces/shop/workloads/web-1/bootstrap";
const CREDENTIALS: &str = "/v1/namespaces/shop/workloads/web-1/credentials";

fn workload(spec: &Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry",
        "metadata": {"name": "web-1", "namespace": "shop"}, "spec": spec,
    })
}

async fn created(api: &Api, spec: &Value) {
    let (code, answer) = api.post(WORKLOADS, &workload(spec)).await;
    assert_eq!(code, 201, "{answer}");
}

/// An API that gives out credentials, with a workload and the roots of an authority.
async fn mesh(spec: &Value) -> (Api, String) {
    mesh_of(Api::with_identities().await, spec).await
}

async fn mesh_of(api: Api, spec: &Value) -> (Api, String) {
    created(&api, spec).await;
    let bundle = Authority::new().pem;
    let put = VaultOp::Put {
        path: "bundle.pem".into(),
        value: bundle.clone().into_bytes(),
        expect: Expect::Absent,
    };
    api.store.write(Area::Ca, vec![put], None).await.unwrap();
    (api, bundle)
}

/// A new bootstrap of the workload.
async fn bootstrap(api: &Api) -> Value {
    let (code, bootstrap) = api.post(BOOTSTRAP, &Value::Null).await;
    assert_eq!(code, 200, "{bootstrap}");
    bootstrap
}

/// The credential in a bootstrap.
fn credential(bootstrap: &Value) -> Credential {
    let secret = &bootstrap["static_resources"]["secrets"][0];
    assert_eq!(secret["name"], "weft-credential");
    let bearer = secret["generic_secret"]["secret"]["inline_string"].as_str();
    Credential::parse(bearer.unwrap().strip_prefix("Bearer ").unwrap()).unwrap()
}

async fn stored(api: &Api) -> Vec<(String, CredentialRecord)> {
    let entries = api.store.read_all(Area::Tokens).await.unwrap();
    let record = |value: &[u8]| CredentialRecord::from_bytes(value).unwrap();
    let all = entries.iter();
    all.map(|(path, entry)| (path.to_string(), record(&entry.value)))
        .collect()
}

/// Waits until no credential is stored.
async fn until_revoked(api: &Api) {
    let deadline = Instant::now() + PATIENCE;
    while !stored(api).await.is_empty() {
        assert!(Instant::now() < deadline, "{:?}", stored(api).await);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_bootstrap_holds_a_new_credential_that_is_stored_as_a_hash() {
    let (api, bundle) = mesh(&json!({"address": "127.0.1.1", "serviceAccount": "web"})).await;
    let response = api.request(Method::POST, BOOTSTRAP).send().await.unwrap();
    assert_eq!(response.headers()["cache-control"], "no-store");
    let warnings: Vec<_> = response.headers().get_all("warning").iter().collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    let first: Value = response.json().await.unwrap();
    let one = credential(&first);
    let (path, record) = stored(&api).await.remove(0);
    assert_eq!(path, one.hash());
    assert_eq!(
        record.identity.to_string(),
        "spiffe://cluster.local/ns/shop/sa/web"
    );
    let (_, object) = api.get(&format!("{WORKLOADS}/web-1")).await;
    let uid = object["metadata"]["uid"].as_str().map(ToOwned::to_owned);
    assert_eq!((&*record.workload, record.workload_uid), ("web-1", uid));

    let [xds, issuer] = first["static_resources"]["clusters"]
        .as_array()
        .unwrap()
        .as_slice()
    else {
        panic!("{first}")
    };
    assert_eq!(
        (&xds["name"], &issuer["name"]),
        (&json!("weft-xds"), &json!("weft-issuer"))
    );
    let trusted = "/transport_socket/typed_config/common_tls_context/validation_context";
    let trusted = issuer.pointer(trusted).unwrap();
    assert_eq!(trusted["trusted_ca"]["inline_string"], bundle);
    assert_eq!(
        trusted["match_typed_subject_alt_names"][0]["matcher"]["exact"],
        "spiffe://cluster.local/ns/weft-system/sa/cert-issuer"
    );
    assert!(
        xds.to_string()
            .contains("spiffe://cluster.local/ns/weft-system/sa/xds-pusher")
    );
    let first_address =
        "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/port_value";
    assert_eq!(
        issuer.pointer(first_address),
        Some(&json!(18010)),
        "the usual one"
    );

    let second = bootstrap(&api).await;
    assert_ne!(credential(&second).expose(), one.expose());
    assert_eq!(stored(&api).await.len(), 2, "the first is valid still");

    // It is shown nowhere else.
    let secrets = [one.expose().to_owned(), credential(&second).hash()];
    for path in [
        "/v1/history",
        CREDENTIALS,
        WORKLOADS,
        "/metrics",
        "/readyz",
        "/apis/networking.istio.io/v1/namespaces/shop/workloadentries/web-1",
    ] {
        let text = api.request(Method::GET, path).send().await.unwrap();
        // No issuer gives this service a certificate of its own, so it is not ready.
        let fine = text.status().is_success() || path == "/readyz";
        assert!(fine, "{path}");
        let text = text.text().await.unwrap();
        assert!(
            !secrets.iter().any(|secret| text.contains(secret)),
            "{path}: {text}"
        );
    }
}

/// Who made a credential, and who revoked it, is in the history before the answer.
#[tokio::test]
async fn who_makes_and_revokes_credentials_is_on_record() {
    let (api, _) = mesh(&json!({"address": "127.0.1.1"})).await;
    let newest = async || {
        let (code, history) = api.get("/v1/history?limit=1").await;
        assert_eq!(code, 200, "{history}");
        history["changes"][0].clone()
    };
    let hash = credential(&bootstrap(&api).await).hash();
    let name = format!("web-1/{}", &hash[..16]);
    let made = newest().await;
    let at = made["revision"].clone();
    let (who, verb) = (&made["who"], &made["verb"]);
    assert_eq!(
        (who, verb),
        (&json!("anonymous"), &json!("POST shop/web-1/bootstrap"))
    );
    let deed = |before: &Value, after: &Value| json!([{"kind": "Credential", "namespace": "shop", "name": name, "before": before, "after": after}]);
    assert_eq!(made["deeds"], deed(&Value::Null, &at));
    assert!(!made.to_string().contains(&hash));

    let path = format!("{CREDENTIALS}/{}", &hash[..16]);
    assert_eq!(api.delete(&path).await.0, 200);
    let revoked = newest().await;
    assert_eq!(revoked["verb"], "revoke credentials");
    assert_eq!(revoked["deeds"], deed(&at, &Value::Null));

    // A workload that goes takes its credentials with it, and that is on record, too.
    bootstrap(&api).await;
    let made = newest().await["revision"].clone();
    assert_eq!(api.delete(&format!("{WORKLOADS}/web-1")).await.0, 200);
    until_revoked(&api).await;
    let orphan = newest().await;
    assert_eq!(orphan["who"], "config-api");
    assert_eq!(orphan["deeds"][0]["before"], made);
    assert_eq!(orphan["deeds"][0]["after"], Value::Null);
}

#[tokio::test]
async fn a_bootstrap_names_the_pushers_that_live_and_then_where_any_is_found() {
    let api =
        Api::with(|config| config.bootstrap_pushers = vec!["pushers.example:18000".into()]).await;
    created(&api, &json!({"address": "127.0.1.1"})).await;
    let member = store::Member {
        instance: "a".into(),
        addresses: [("grpc".into(), "10.0.0.1:18000".into())].into(),
        since: model::Revision(0),
    };
    let ttl = std::time::Duration::from_secs(60);
    let named = async || {
        let clusters = bootstrap(&api).await["static_resources"]["clusters"].take();
        let places = clusters[0]["load_assignment"]["endpoints"]
            .as_array()
            .unwrap()
            .clone();
        let host = |place: &Value| {
            place["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]["address"].clone()
        };
        places.iter().map(host).collect::<Vec<_>>()
    };
    assert_eq!(named().await, ["pushers.example"]);
    let _one = api.store.join("xds-pusher", member, ttl).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let named = named().await;
        if named == ["10.0.0.1", "pushers.example"] {
            break;
        }
        assert!(Instant::now() < deadline, "{named:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_bootstrap_names_the_issuers_that_live_and_then_where_any_is_found() {
    let always = vec!["issuers.example:18010".into()];
    let api = Api::with_identities_and(|config| config.bootstrap_issuers = always).await;
    let (api, _) = mesh_of(api, &json!({"address": "127.0.1.1"})).await;
    let member = |instance: &str, grpc: &str| store::Member {
        instance: instance.into(),
        addresses: [("grpc".into(), grpc.into())].into(),
        since: model::Revision(0),
    };
    let ttl = std::time::Duration::from_secs(60);
    let service = "cert-issuer";
    let _one = api
        .store
        .join(service, member("a", "issuer.example:1234"), ttl)
        .await
        .unwrap();
    let _two = api
        .store
        .join(service, member("b", "[::1]:1235"), ttl)
        .await
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    let issuer = loop {
        let issuer = bootstrap(&api).await["static_resources"]["clusters"][1].clone();
        if issuer["load_assignment"]["endpoints"]
            .as_array()
            .unwrap()
            .len()
            == 3
        {
            break issuer;
        }
        assert!(Instant::now() < deadline, "{issuer}");
    };
    assert_eq!(issuer["type"], "STRICT_DNS");
    let mut places: Vec<Value> = issuer["load_assignment"]["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
        .map(|(priority, locality)| {
            assert_eq!(locality["priority"], priority);
            locality["lb_endpoints"][0]["endpoint"]["address"]["socket_address"].clone()
        })
        .collect();
    places.sort_by_key(|place| place["port_value"].as_u64());
    assert_eq!(
        places,
        [
            json!({"address": "issuer.example", "port_value": 1234}),
            json!({"address": "::1", "port_value": 1235}),
            json!({"address": "issuers.example", "port_value": 18010}),
        ]
    );
}

#[tokio::test]
async fn what_cannot_be_given_is_refused_and_makes_no_credential() {
    let api = Api::with_identities().await;
    assert_eq!(api.post(BOOTSTRAP, &Value::Null).await.0, 404);
    created(&api, &json!({"address": "127.0.1.1"})).await;
    let (code, refused) = api.post(BOOTSTRAP, &Value::Null).await;
    assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("no certificate authority yet"),
        "{message}"
    );
    let response = api.request(Method::GET, BOOTSTRAP).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(response.headers()["allow"], "POST");
    assert!(response.text().await.unwrap().contains("shown once"));
    for (query, code) in [
        ("type=x", 400),
        ("variant=rest", 400),
        ("adminPort=70000", 400),
    ] {
        let (is, refused) = api
            .post(&format!("{BOOTSTRAP}?{query}"), &Value::Null)
            .await;
        assert_eq!(is, code, "{query}: {refused}");
    }
    assert!(stored(&api).await.is_empty());
}

#[tokio::test]
async fn credentials_are_listed_and_revoked() {
    let (api, _) = mesh(&json!({"address": "127.0.1.1"})).await;
    assert_eq!(api.get(CREDENTIALS).await.1["credentials"], json!([]));
    let tokens = [
        bootstrap(&api).await,
        bootstrap(&api).await,
        bootstrap(&api).await,
    ];
    let ids: Vec<String> = tokens
        .iter()
        .map(|b| credential(b).hash()[..16].to_owned())
        .collect();
    let (_, list) = api.get(CREDENTIALS).await;
    let listed: Vec<&str> = list["credentials"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["id"].as_str().unwrap())
        .collect();
    assert_eq!(listed, ids, "oldest first");
    assert_eq!(
        list["credentials"][0]["identity"],
        "spiffe://cluster.local/ns/shop/sa/default"
    );

    let (code, revoked) = api.delete(&format!("{CREDENTIALS}/{}", ids[1])).await;
    assert_eq!(
        (code, &revoked["revoked"]),
        (StatusCode::OK, &json!([ids[1]]))
    );
    assert_eq!(stored(&api).await.len(), 2);
    for unknown in [ids[1].as_str(), "", "0000000000000000", &ids[0][..8]] {
        let (code, refused) = api.delete(&format!("{CREDENTIALS}/{unknown}")).await;
        assert_eq!(code, 404, "{unknown:?}: {refused}");
    }
    assert_eq!(stored(&api).await.len(), 2);
    let (code, revoked) = api.delete(CREDENTIALS).await;
    assert_eq!(
        (code, &revoked["revoked"]),
        (StatusCode::OK, &json!([ids[0], ids[2]]))
    );
    assert!(stored(&api).await.is_empty());
    let none = "/v1/namespaces/shop/workloads/none/credentials";
    assert_eq!(api.get(none).await.0, 404);
    assert_eq!(api.delete(none).await.0, 404);
}

#[tokio::test]
async fn more_credentials_than_one_transaction_takes_are_revoked() {
    let (api, _) = mesh(&json!({"address": "127.0.1.1"})).await;
    bootstrap(&api).await;
    // More than a workload may have now: some of before there was a limit.
    let (_, first) = stored(&api).await.remove(0);
    for n in 1..130_u8 {
        let put = VaultOp::Put {
            path: Credential::new(&[n; model::CREDENTIAL_BYTES].into()).hash(),
            value: first.to_bytes(),
            expect: Expect::Absent,
        };
        api.store
            .write(Area::Tokens, vec![put], None)
            .await
            .unwrap();
    }
    let (code, revoked) = api.delete(CREDENTIALS).await;
    assert_eq!(code, 200, "{revoked}");
    assert_eq!(revoked["revoked"].as_array().unwrap().len(), 130);
    assert!(stored(&api).await.is_empty());
}

#[tokio::test]
async fn a_workload_has_so_many_credentials_and_no_more() {
    let (api, _) = mesh(&json!({"address": "127.0.1.1"})).await;
    for _ in 0..16 {
        bootstrap(&api).await;
    }
    let (code, refused) = api.post(BOOTSTRAP, &Value::Null).await;
    assert_eq!(code, StatusCode::CONFLICT, "{refused}");
    let way_out = refused["message"].as_str().unwrap();
    assert!(
        way_out.contains("meshctl credentials revoke web-1"),
        "{way_out}"
    );
    assert_eq!(stored(&api).await.len(), 16, "nothing was stored");
    let (_, list) = api.get(CREDENTIALS).await;
    let oldest = list["credentials"][0]["id"].as_str().unwrap();
    assert_eq!(api.delete(&format!("{CREDENTIALS}/{oldest}")).await.0, 200);
    bootstrap(&api).await;
}

#[tokio::test]
async fn a_credential_ends_with_its_workload() {
    let (api, _) = mesh(&json!({"address": "127.0.1.1"})).await;
    // Another workload's, and that of a service, stay.
    let other = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry",
        "metadata": {"name": "web-2", "namespace": "shop"}, "spec": {"address": "127.0.1.2"},
    });
    bootstrap(&api).await;
    assert_eq!(api.delete(&format!("{WORKLOADS}/web-1")).await.0, 200);
    until_revoked(&api).await;

    // By an apply, to another account; and what was made for the new account stays.
    created(&api, &json!({"address": "127.0.1.1"})).await;
    assert_eq!(api.post(WORKLOADS, &other).await.0, 201);
    bootstrap(&api).await;
    let (code, kept) = api
        .post(
            "/v1/namespaces/shop/workloads/web-2/bootstrap",
            &Value::Null,
        )
        .await;
    assert_eq!(code, 200, "{kept}");
    let changed = workload(&json!({"address": "127.0.1.1", "serviceAccount": "other"}));
    let (code, applied) = api.post("/v1/apply", &changed).await;
    assert_eq!(code, 200, "{applied}");
    let new = credential(&bootstrap(&api).await).hash();
    let mut expected = [credential(&kept).hash(), new];
    expected.sort();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let paths: Vec<String> = stored(&api)
            .await
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        if paths == expected {
            break;
        }
        assert!(
            Instant::now() < deadline && paths.len() >= 2,
            "{paths:?}, not {expected:?}"
        );
        tokio::task::yield_now().await;
    }

    // Deleted and created anew within one change.
    let (code, list) = api.delete(WORKLOADS).await;
    assert_eq!(code, 200, "{list}");
    created(
        &api,
        &json!({"address": "127.0.1.1", "serviceAccount": "other"}),
    )
    .await;
    until_revoked(&api).await;
}

#[tokio::test]
async fn envoys_take_a_bootstrap_with_a_credential() {
    let (api, _) = mesh(&json!({"address": "127.0.1.1", "locality": "eu/a"})).await;
    let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    for variant in ["delta", "sotw"] {
        let path = format!("{BOOTSTRAP}?variant={variant}");
        let (code, bootstrap) = api.post(&path, &Value::Null).await;
        assert_eq!(code, 200, "{bootstrap}");
        std::fs::write(file.path(), bootstrap.to_string()).unwrap();
        for version in ["1.40.0", "1.36.4"] {
            let envoy = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../.tools/envoy-")
                .display()
                .to_string()
                + version;
            let output = Command::new(&envoy)
                .args(["--mode", "validate", "-c"])
                .arg(file.path())
                .output();
            let output =
                output.unwrap_or_else(|error| panic!("{envoy}: {error}; run tests/install-tools"));
            let log = String::from_utf8_lossy(&output.stderr);
            let complaint = |line: &&str| {
                ["[warning]", "[error]", "[critical]"]
                    .iter()
                    .any(|level| line.contains(level))
            };
            let bad: Vec<&str> = log.lines().filter(complaint).collect();
            assert!(
                output.status.success() && bad.is_empty(),
                "{version}: {bad:?}"
            );
        }
    }
}
