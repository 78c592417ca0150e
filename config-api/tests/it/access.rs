//! Who may do what: tokens, roles, and what is said to those who may not.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::fixture::{Api, VS, answer, virtual_service};
use crate::keyring::{Keyring, token_of};

impl Api {
    /// A request with somebody's token.
    pub(crate) fn by(&self, who: &str, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.request(method, path).bearer_auth(token_of(who))
    }

    pub(crate) async fn code(&self, who: &str, method: Method, path: &str) -> u16 {
        answer(self.by(who, method, path)).await.0.as_u16()
    }
}

/// Waits for an answer of this kind.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn on_loopback_it_is_open_and_says_so() {
    let api = Api::start().await;
    let ready = api.get("/readyz").await.1;
    let warning = ready["checks"]["access"]["warning"].as_str().unwrap();
    assert!(
        warning.contains("not authenticated") && warning.contains("--access-file"),
        "{warning}"
    );
    assert_eq!(api.post(VS, &virtual_service("a", "b")).await.0, 201);
    assert_eq!(
        api.get("/v1/history").await.1["changes"][0]["who"],
        "anonymous"
    );
    // Credentials that nobody asked for are no fault.
    assert_eq!(api.code("alice", Method::GET, VS).await, 200);
}

/// What a browser sends for `fetch(url, {method: "POST", mode: "no-cors", body: new Blob([…])})`, and what it asks under a
/// name that a page had resolve to loopback.
#[tokio::test]
async fn a_web_page_can_do_nothing_where_it_is_open() {
    let api = Api::start().await;
    let before = api.everything().await;
    let policy = virtual_service("a", "b").to_string();
    for (path, body) in [
        ("/v1/apply", policy.as_str()),
        ("/v1/ca", "{}"),
        (VS, &policy),
    ] {
        for header in [
            ("origin", "https://evil.example"),
            ("sec-fetch-site", "cross-site"),
        ] {
            let request = api.request(Method::POST, path).body(body.to_owned());
            let (code, status) = answer(request.header(header.0, header.1)).await;
            assert_eq!(code, 403, "{path} {header:?}: {status}");
            let message = status["message"].as_str().unwrap();
            assert!(message.contains("another site"), "{message}");
        }
    }
    let rebound = |path: &str, method| {
        api.request(method, path)
            .header("host", "evil.example:8080")
    };
    for (path, method) in [
        ("/v1/apply", Method::POST),
        ("/v1/namespaces/shop/workloads/a/bootstrap", Method::POST),
        (VS, Method::GET),
        ("/metrics", Method::GET),
    ] {
        let (code, status) = answer(rebound(path, method)).await;
        assert_eq!(code, 403, "{path}: {status}");
        let message = status["message"].as_str().unwrap();
        assert!(
            message.contains("--allowed-hosts evil.example"),
            "{message}"
        );
    }
    assert_eq!(api.everything().await, before);
    // The same without a page behind it is what curl sends.
    let request = api.request(Method::POST, "/v1/apply").body(policy);
    assert_eq!(
        answer(request.header("host", "localhost:8080")).await.0,
        200
    );
}

#[tokio::test]
async fn who_is_not_known_is_told_how_to_be() {
    let keys = Keyring::new();
    let api = Api::with(|c| c.access = keys.by_token(&[("alice", "admin", &["*"])])).await;
    let bare = api.request(Method::GET, VS);
    let (code, status) = answer(bare).await;
    assert_eq!(
        (code.as_u16(), &status["reason"]),
        (401, &json!("Unauthorized"))
    );
    let message = status["message"].as_str().unwrap();
    assert!(
        message.contains("carries no credentials") && message.contains("--token-file"),
        "{message}"
    );
    for header in [
        "Bearer wrong",
        "Bearer ",
        "Basic YTpi",
        "bearer",
        "ecila",
        "Bearer ecila x",
    ] {
        let request = api.request(Method::GET, VS).header("authorization", header);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 401, "{header}");
        assert!(
            response.headers()["www-authenticate"]
                .to_str()
                .unwrap()
                .starts_with("Bearer")
        );
    }
    let twice = api
        .by("alice", Method::GET, VS)
        .header("authorization", "Bearer ecila");
    assert_eq!(answer(twice).await.0, 401);
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let request = api
            .request(Method::GET, VS)
            .header("authorization", format!("{scheme} ecila"));
        assert_eq!(answer(request).await.0, 200, "{scheme}");
    }
    for open in ["/livez", "/readyz"] {
        assert_eq!(
            answer(api.request(Method::GET, open)).await.0,
            200,
            "{open}"
        );
        let wrong = api.request(Method::GET, open).bearer_auth("wrong");
        assert_eq!(answer(wrong).await.0, 200, "{open}");
    }
    // Nobody learns what is there and what is not.
    assert_eq!(answer(api.request(Method::GET, "/nothing")).await.0, 401);
    assert_eq!(api.code("alice", Method::GET, "/nothing").await, 404);
}

#[tokio::test]
async fn a_refusal_names_everything() {
    let keys = Keyring::new();
    let grants: &[(&str, &str, &[&str])] = &[("bob", "viewer", &["shop"])];
    let api = Api::with(|c| c.access = keys.by_token(grants)).await;
    let request = api
        .by("bob", Method::PUT, &format!("{VS}/reviews"))
        .json(&virtual_service("reviews", "b"));
    let (code, status) = answer(request).await;
    assert_eq!(
        (code.as_u16(), &status["reason"]),
        (403, &json!("Forbidden"))
    );
    assert_eq!(
        status["details"],
        json!({"name": "reviews", "group": "networking.istio.io", "kind": "virtualservices"})
    );
    let message = status["message"].as_str().unwrap();
    for part in [
        "virtualservices.networking.istio.io \"reviews\" is forbidden",
        "User \"bob\" cannot update resource \"virtualservices\" in API group \"networking.istio.io\" in the namespace \"shop\"",
        "role editor",
        "viewer in shop",
        "--access-file",
    ] {
        assert!(message.contains(part), "{part:?} in {message}");
    }
    let everywhere = "/apis/networking.istio.io/v1/virtualservices";
    let (code, status) = answer(api.by("bob", Method::GET, everywhere)).await;
    let message = status["message"].as_str().unwrap();
    assert!(
        code == 403 && message.contains("cannot list") && message.contains("in all namespaces"),
        "{message}"
    );
    assert!(api.everything().await.is_empty());
}

fn documents(namespaces: &[&str]) -> Value {
    let one = |namespace: &&str| {
        let mut object = virtual_service("a", "b");
        object["metadata"]["namespace"] = json!(namespace);
        object
    };
    json!({"kind": "List", "apiVersion": "v1", "items": namespaces.iter().map(one).collect::<Vec<_>>()})
}

#[tokio::test]
async fn many_documents_need_the_role_in_each_namespace() {
    let keys = Keyring::new();
    let grants: &[(&str, &str, &[&str])] = &[
        ("alice", "editor", &["shop", "pay"]),
        ("bob", "editor", &["shop"]),
        ("bob", "viewer", &["pay"]),
        ("eve", "viewer", &["shop"]),
    ];
    let api = Api::with(|c| c.access = keys.by_token(grants)).await;
    let send = async |who: &str, path: &str, body: &Value| {
        answer(api.by(who, Method::POST, path).json(body)).await
    };
    for query in ["", "?dryRun=All"] {
        let (code, status) = send(
            "bob",
            &format!("/v1/apply{query}"),
            &documents(&["shop", "pay"]),
        )
        .await;
        assert_eq!(code, 403, "{status}");
        let causes = status["details"]["causes"].as_array().unwrap();
        assert_eq!(
            (causes.len(), &causes[0]["field"]),
            (1, &json!("items[1]")),
            "{status}"
        );
        assert!(
            causes[0]["message"].as_str().unwrap().contains("\"pay\""),
            "{status}"
        );
    }
    // The namespace that documents without one get counts as well.
    let mut bare = documents(&["shop"]);
    bare["items"][0]["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("namespace");
    assert_eq!(send("bob", "/v1/apply?namespace=pay", &bare).await.0, 403);
    assert_eq!(send("eve", "/v1/apply", &documents(&["shop"])).await.0, 403);
    assert!(api.everything().await.is_empty());
    assert_eq!(
        send("bob", "/v1/diff", &documents(&["shop", "pay"]))
            .await
            .0,
        200
    );
    assert_eq!(send("eve", "/v1/diff", &documents(&["pay"])).await.0, 403);
    assert_eq!(
        send("alice", "/v1/apply", &documents(&["shop", "pay"]))
            .await
            .0,
        200
    );

    // History shows who, and to each their own.
    let history = async |who: &str, path: &str| answer(api.by(who, Method::GET, path)).await.1;
    let told = history("alice", "/v1/history").await;
    assert_eq!(told["changes"][0]["who"], "alice");
    assert_eq!(told["changes"][0]["edits"].as_array().unwrap().len(), 2);
    for path in ["/v1/history", "/v1/history/vs/shop/a"] {
        let told = history("eve", path).await;
        let edits = told["changes"][0]["edits"].as_array().unwrap();
        assert_eq!(
            (edits.len(), &edits[0]["namespace"]),
            (1, &json!("shop")),
            "{told}"
        );
    }

    // The last change touched both namespaces, so whoever undoes it must be editor of both.
    let (code, status) = send("bob", "/v1/rollback", &json!({})).await;
    assert_eq!(code, 403, "{status}");
    assert_eq!(api.everything().await.len(), 2);
    let one = json!({"kind": "VirtualService", "namespace": "shop", "name": "a"});
    assert_eq!(send("eve", "/v1/rollback", &one).await.0, 403);
    assert_eq!(send("bob", "/v1/rollback", &one).await.0, 200);
    assert_eq!(
        history("alice", "/v1/history").await["changes"][0]["who"],
        "bob"
    );
    assert_eq!(send("alice", "/v1/rollback", &json!({})).await.0, 200);
}

#[tokio::test]
async fn a_revoked_token_and_a_withdrawn_role_stop_working() {
    let keys = Keyring::new();
    let access = keys.by_token(&[("alice", "editor", &["shop"]), ("bob", "viewer", &["shop"])]);
    let api = Api::with(|c| c.access = access).await;
    assert_eq!(api.code("bob", Method::GET, VS).await, 200);
    keys.grants(&[("alice", "editor", &["shop"])]);
    until("bob has no role any more", async || {
        api.code("bob", Method::GET, VS).await == 403
    })
    .await;
    keys.tokens(&[("alice", &[], &token_of("alice"))]);
    until("bob has no token any more", async || {
        api.code("bob", Method::GET, VS).await == 401
    })
    .await;
    // A file that is no good changes nothing, and readiness says so.
    keys.write("tokens.yaml", "tokens: [{hash: plain}]");
    until("the bad file is told", async || {
        let ready = api.get("/readyz").await.1;
        let warning = ready["checks"]["token-hashes-file"]["warning"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        warning.contains("tokens.yaml") && warning.contains("stays in force")
    })
    .await;
    assert_eq!(api.code("alice", Method::GET, VS).await, 200);
    keys.tokens(&[]);
    until("nobody has a token", async || {
        api.code("alice", Method::GET, VS).await == 401
    })
    .await;
}

#[tokio::test]
async fn one_may_ask_what_one_may() {
    let keys = Keyring::new();
    let api = Api::with(|c| c.access = keys.by_token(&[("bob", "viewer", &["shop"])])).await;
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    for (verb, namespace, resource, allowed) in [
        ("get", "shop", "virtualservices", true),
        ("watch", "shop", "destinationrules", true),
        ("update", "shop", "virtualservices", false),
        ("get", "pay", "virtualservices", false),
        ("list", "", "virtualservices", false),
        ("*", "shop", "virtualservices", false),
        ("get", "shop", "pods", false),
        ("impersonate", "shop", "virtualservices", false),
    ] {
        let attributes = json!({"verb": verb, "namespace": namespace, "resource": resource, "group": "networking.istio.io"});
        let body = json!({"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "spec": {"resourceAttributes": attributes}});
        let (code, review) = answer(api.by("bob", Method::POST, path).json(&body)).await;
        assert_eq!(
            (code.as_u16(), &review["status"]["allowed"]),
            (201, &json!(allowed)),
            "{review}"
        );
    }
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let (_, review) = answer(api.by("bob", Method::POST, path).json(&json!({}))).await;
    assert_eq!(review["status"]["userInfo"]["username"], "bob");
}

#[tokio::test]
async fn a_heartbeat_is_passed_on_in_the_name_of_its_sender() {
    let keys = Keyring::new();
    let access = keys.with_tls(keys.by_token(&[("alice", "editor", &["shop"])]));
    let mut first = Api::with(|c| {
        c.instance = Some("one".into());
        c.access = access.clone();
    })
    .await;
    first.http = keys.client(None);
    let mut second = Api::beside(first.store.clone(), |c| {
        c.instance = Some("two".into());
        c.access = access;
    })
    .await;
    second.http = keys.client(None);
    let body = json!({"ttl": "1h", "spec": {"address": "127.0.1.1"}});
    let mut owners = std::collections::BTreeSet::new();
    for n in 0..64 {
        let path = format!("/v1/namespaces/shop/workloads/w{n}/heartbeat");
        let mut told = Value::Null;
        until("the heartbeat is taken", async || {
            // Until the replicas know each other, the owner may refuse the other's word.
            let (code, answer) = answer(first.by("alice", Method::PUT, &path).json(&body)).await;
            assert!(code == 200 || code == 503, "{answer}");
            told = answer;
            code == 200
        })
        .await;
        owners.insert(told["owner"].as_str().unwrap().to_owned());
        if owners.len() == 2 {
            break;
        }
    }
    assert_eq!(
        owners.len(),
        2,
        "one replica passed a heartbeat to the other"
    );
    let history = answer(first.by("alice", Method::GET, "/v1/history"))
        .await
        .1;
    for change in history["changes"].as_array().unwrap() {
        assert_eq!(change["who"], "alice");
    }
    // Nobody else passes for a replica.
    let path = "/v1/namespaces/shop/workloads/w0/heartbeat";
    let forged = first
        .request(Method::PUT, path)
        .header("x-weft-forwarded", "1")
        .header("x-weft-caller", "alice");
    assert_eq!(answer(forged).await.0, 401);
}
