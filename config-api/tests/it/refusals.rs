//! Bad input: a 4xx that names field, value and rule, and changes nothing.

use reqwest::Method;
use serde_json::{Value, json};

use crate::fixture::{Api, PATIENCE, VS, answer, virtual_service};

/// Sends a body to the collection and to `/v1/apply`; both must refuse it, name `field` and `says`, and change nothing.
async fn refused(api: &Api, path: &str, body: &Value, field: &str, says: &str) {
    let before = api.everything().await;
    for (path, prefix) in [(path, ""), ("/v1/apply", "items[0].")] {
        let (code, status) = api.post(path, body).await;
        assert!(code.is_client_error(), "{path} {body}: {code} {status}");
        assert_eq!(
            (&status["kind"], &status["status"]),
            (&json!("Status"), &json!("Failure"))
        );
        let causes = status["details"]["causes"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let wanted = format!("{prefix}{field}");
        let named = causes.iter().any(|c| c["field"] == wanted.as_str())
            || (prefix.is_empty() && field.is_empty());
        let text = status.to_string();
        assert!(
            named || prefix.is_empty() && text.contains(field),
            "{path}: {wanted} in {text}"
        );
        assert!(text.contains(says), "{path}: {says} in {text}");
    }
    assert_eq!(api.everything().await, before);
}

#[tokio::test]
async fn fields_are_named_with_value_and_rule() {
    let api = Api::start().await;
    let with = |pointer: &str, value: Value| {
        let mut vs = virtual_service("a", "b");
        *vs.pointer_mut(pointer).unwrap() = value;
        vs
    };
    let mut unknown = virtual_service("a", "b");
    unknown["spec"]["http"][0]["rout"] = json!([]);
    refused(&api, VS, &unknown, "spec.http[0].rout", "unknown field").await;

    refused(
        &api,
        VS,
        &with("/spec/hosts", json!("a")),
        "spec.hosts",
        "\\\"a\\\"",
    )
    .await;
    let weight = with(
        "/spec/http/0/route/0",
        json!({"destination": {"host": "b"}, "weight": -1}),
    );
    refused(&api, VS, &weight, "spec.http[0].route[0].weight", "-1").await;
    let port = with(
        "/spec/http/0/route/0/destination",
        json!({"host": "b", "port": {"number": 0}}),
    );
    refused(
        &api,
        VS,
        &port,
        "spec.http[0].route[0].destination.port.number",
        "0",
    )
    .await;
    let mut regex = virtual_service("a", "b");
    regex["spec"]["http"][0]["match"] = json!([{"uri": {"regex": "(unclosed"}}]);
    refused(
        &api,
        VS,
        &regex,
        "spec.http[0].match[0].uri.regex",
        "unclosed",
    )
    .await;
    refused(
        &api,
        VS,
        &with("/metadata/name", json!("UPPER")),
        "metadata.name",
        "UPPER",
    )
    .await;
    refused(
        &api,
        VS,
        &with("/metadata/name", json!("")),
        "metadata.name",
        "Required",
    )
    .await;
    let mut label = virtual_service("a", "b");
    label["metadata"]["labels"] = json!({"a": "not ok"});
    refused(&api, VS, &label, "metadata.labels[a]", "not ok").await;

    let gateways = VS.replace("virtualservices", "gateways");
    let server =
        json!({"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]});
    let mut twice = server.clone();
    twice["port"]["protocol"] = "TCP".into();
    let gateway = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "g", "namespace": "shop"},
        "spec": {"selector": {"a": "b"}, "servers": [server, twice]},
    });
    let (code, status) = api.post(&gateways, &gateway).await;
    assert!(code.is_client_error(), "duplicate listener port: {status}");
    assert!(
        status.to_string().contains("spec.servers[1].port"),
        "{status}"
    );
}

#[tokio::test]
async fn kinds_versions_and_places_must_fit() {
    let api = Api::start().await;
    let with = |field: &str, value: &str| {
        let mut vs = virtual_service("a", "b");
        vs[field] = value.into();
        vs
    };
    for (path, body, says) in [
        (VS, with("kind", "Gateway"), "Gateway"),
        (VS, with("apiVersion", "networking.istio.io/v9"), "v9"),
        ("/v1/apply", with("kind", "Nonsense"), "Nonsense"),
        ("/v1/apply", with("apiVersion", "v1"), "VirtualService"),
        (
            "/apis/networking.istio.io/v1/namespaces/shop/nonsenses",
            virtual_service("a", "b"),
            "nonsenses",
        ),
        (
            "/apis/networking.istio.io/v1/namespaces/other/virtualservices",
            virtual_service("a", "b"),
            "shop",
        ),
        (
            "/apis/networking.istio.io/v1/virtualservices",
            virtual_service("a", "b"),
            "namespace",
        ),
        (
            "/apis/telemetry.istio.io/v1/namespaces/shop/telemetries",
            json!({}),
            "not supported yet",
        ),
    ] {
        let (code, status) = api.post(path, &body).await;
        assert!(code.is_client_error(), "{path}: {code} {status}");
        assert!(
            status["message"].as_str().unwrap().contains(says),
            "{says} in {status}"
        );
    }
    assert!(api.everything().await.is_empty());
}

#[tokio::test]
async fn validation_can_be_a_warning() {
    let api = Api::start().await;
    let mut unknown = virtual_service("a", "b");
    unknown["spec"]["nonsense"] = 1.into();
    unknown["metadata"]["nonsense"] = 1.into();
    let post = api
        .request(Method::POST, &format!("{VS}?fieldValidation=Warn"))
        .json(&unknown);
    let response = post.send().await.unwrap();
    assert_eq!(response.status(), 201);
    let warnings: Vec<_> = response
        .headers()
        .get_all("warning")
        .iter()
        .map(|w| w.to_str().unwrap())
        .collect();
    assert_eq!(
        warnings.len(),
        3,
        "two fields and a dangling host: {warnings:?}"
    );
    assert!(
        warnings[0].starts_with("299 - \"unknown field \\\"metadata.nonsense"),
        "{warnings:?}"
    );
    assert!(
        !response.text().await.unwrap().contains("nonsense"),
        "it is not stored"
    );
}

#[tokio::test]
async fn bodies_that_cannot_be_read() {
    let api = Api::with(|c| c.max_body_bytes = 100_000).await;
    let nested = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    let deep = format!(
        r#"{{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{{"name":"a"}},"spec":{nested}}}"#
    );
    let mut bomb = String::from("a: &a [x,x,x,x,x,x,x,x,x]\n");
    for (i, c) in ('b'..='i').enumerate() {
        let p = char::from(b'a' + i as u8);
        bomb += &format!("{c}: &{c} [*{p},*{p},*{p},*{p},*{p},*{p},*{p},*{p},*{p}]\n");
    }
    let deep_yaml = format!("spec: {}", "[".repeat(3000));
    for (media, body, code) in [
        ("application/json", b"{\"a\":\xff}".to_vec(), 400),
        ("application/yaml", b"a: \xff".to_vec(), 400),
        ("application/json", b"{".to_vec(), 400),
        ("application/json", b"".to_vec(), 400),
        ("application/json", b"null".to_vec(), 400),
        ("application/json", b"[]".to_vec(), 400),
        ("application/json", deep.clone().into_bytes(), 413),
        ("application/json", deep.as_bytes()[..40_000].to_vec(), 400),
        ("application/yaml", bomb.into_bytes(), 400),
        ("application/yaml", deep_yaml.into_bytes(), 400),
        ("application/yaml", b"a: \0".to_vec(), 400),
        ("text/plain", b"{}".to_vec(), 415),
        ("application/x-www-form-urlencoded", b"a=b".to_vec(), 415),
        ("application/merge-patch+json", b"{}".to_vec(), 415),
    ] {
        for (method, path) in [
            (Method::POST, VS.to_owned()),
            (Method::PUT, format!("{VS}/a")),
            (Method::POST, "/v1/apply".into()),
        ] {
            let request = api
                .request(method, &path)
                .header("content-type", media)
                .body(body.clone());
            let (got, status) = answer(request).await;
            let start: String = String::from_utf8_lossy(&body).chars().take(30).collect();
            assert_eq!(got, code, "{path} {media} {start}: {status}");
            assert_eq!(status["kind"], "Status");
        }
    }
    assert!(api.everything().await.is_empty());
}

#[tokio::test]
async fn a_huge_body_is_refused_before_it_is_read() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let api = Api::start().await;
    let mut socket = tokio::net::TcpStream::connect(api.url.trim_start_matches("http://"))
        .await
        .unwrap();
    let head = format!(
        "POST {VS} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 20971520\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    tokio::time::timeout(PATIENCE, socket.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn methods_media_and_parameters_have_their_status() {
    let api = Api::start().await;
    api.post(VS, &virtual_service("a", "b")).await;
    let item = format!("{VS}/a");
    for (method, path, code) in [
        (Method::GET, "/nonsense", 404),
        (Method::GET, "/apis/nonsense.io", 404),
        (Method::GET, "/apis/networking.istio.io/v9", 404),
        (Method::POST, item.as_str(), 405),
        (Method::PUT, VS, 405),
        (Method::POST, "/apis", 405),
        (Method::GET, &format!("{VS}?limit=many"), 400),
        (Method::GET, &format!("{VS}?labelSelector=a%20b"), 400),
        (
            Method::GET,
            &format!("{VS}?fieldSelector=spec.hosts%3Da"),
            400,
        ),
        (Method::GET, &format!("{VS}?resourceVersion=x"), 400),
        (
            Method::GET,
            &format!("{VS}?resourceVersionMatch=Exact"),
            400,
        ),
        (Method::GET, &format!("{VS}?resourceVersion=999999"), 504),
        (Method::GET, &format!("{VS}?watch=perhaps"), 400),
        (
            Method::GET,
            &format!("{VS}?watch=true&resourceVersion=999999"),
            410,
        ),
        (
            Method::GET,
            &format!("{VS}?watch=true&sendInitialEvents=true"),
            400,
        ),
        (Method::DELETE, &format!("{item}?dryRun=Some"), 400),
        (
            Method::GET,
            "/apis/networking.istio.io/v1/namespaces/%ff/virtualservices",
            400,
        ),
    ] {
        let (got, status) = answer(api.request(method.clone(), path)).await;
        assert_eq!(got, code, "{method} {path}: {status}");
        assert_eq!(
            (&status["kind"], &status["code"]),
            (&json!("Status"), &json!(code)),
            "{method} {path}"
        );
    }
    let protobuf = api
        .request(Method::GET, &item)
        .header("accept", "application/vnd.kubernetes.protobuf");
    assert_eq!(answer(protobuf).await.0, 406);
    for (media, code) in [
        ("application/strategic-merge-patch+json", 415),
        ("application/apply-patch+yaml", 415),
        ("application/json", 415),
    ] {
        let (got, status) = api.patch(&item, media, &json!({})).await;
        assert_eq!(got, code, "{status}");
    }
    assert!(
        api.patch(&item, "application/apply-patch+yaml", &json!({}))
            .await
            .1["message"]
            .as_str()
            .unwrap()
            .contains("client-side")
    );
    let test = json!([{"op": "test", "path": "/spec/hosts/0", "value": "other"}, {"op": "remove", "path": "/spec/http"}]);
    assert_eq!(
        api.patch(&item, "application/json-patch+json", &test)
            .await
            .0,
        422
    );
    let stale = json!({"metadata": {"resourceVersion": "1", "labels": {"a": "b"}}});
    assert_eq!(
        api.patch(&item, "application/merge-patch+json", &stale)
            .await
            .0,
        409
    );
    let rename = json!({"metadata": {"name": "b"}});
    assert_eq!(
        api.patch(&item, "application/merge-patch+json", &rename)
            .await
            .0,
        400
    );
}

#[tokio::test]
async fn too_much_at_once_is_told_when_to_return() {
    let api = Api::with(|c| (c.max_watches, c.max_headers) = (1, 20)).await;
    let watch = || api.request(Method::GET, &format!("{VS}?watch=true")).send();
    let first = watch().await.unwrap();
    assert_eq!(first.status(), 200);
    let second = watch().await.unwrap();
    assert_eq!(
        (
            second.status().as_u16(),
            second.headers()["retry-after"].to_str().unwrap()
        ),
        (429, "1")
    );
    let mut many = api.request(Method::GET, VS);
    for i in 0..30 {
        many = many.header(format!("x-{i}"), "y");
    }
    assert_eq!(many.send().await.unwrap().status(), 431);
}

#[tokio::test]
async fn without_a_store_nothing_is_claimed() {
    let api = Api::start().await;
    api.post(VS, &virtual_service("a", "b")).await;
    api.store.set_available(false);
    for (method, path) in [
        (Method::GET, VS.to_owned()),
        (Method::GET, format!("{VS}/a")),
        (Method::DELETE, format!("{VS}/a")),
    ] {
        let (code, status) = answer(api.request(method, &path)).await;
        assert_eq!(
            (code.as_u16(), &status["reason"]),
            (503, &json!("ServiceUnavailable")),
            "{status}"
        );
    }
    assert_eq!(api.post(VS, &virtual_service("b", "b")).await.0, 503);
    let ready = api.until_readyz(503).await;
    assert_eq!(ready["checks"]["store"]["ok"], false, "{ready}");
    assert!(
        ready["checks"]["store"]["reason"]
            .as_str()
            .unwrap()
            .contains("etcd"),
        "{ready}"
    );
    assert_eq!(api.get("/livez").await.0, 200);
    api.store.set_available(true);
    api.until_readyz(200).await;
    assert_eq!(api.everything().await.len(), 1);
}

#[tokio::test]
async fn a_damaged_value_is_told_and_can_be_mended() {
    let api = Api::start().await;
    api.post(VS, &virtual_service("b", "b")).await;
    api.store.put_raw(
        "config/networking.istio.io/VirtualService/shop/a",
        b"not json",
    );
    let response = api.request(Method::GET, VS).send().await.unwrap();
    assert!(
        response.headers()["warning"]
            .to_str()
            .unwrap()
            .contains("shop/a")
    );
    let list: Value = response.json().await.unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    assert_eq!(api.get(&format!("{VS}/a")).await.0, 500);
    assert_eq!(
        api.put(&format!("{VS}/a"), &virtual_service("a", "b"))
            .await
            .0,
        201
    );
    assert_eq!(api.get(&format!("{VS}/a")).await.0, 200);
}

#[tokio::test]
async fn an_open_address_needs_a_word() {
    let store = std::sync::Arc::new(store::memory::MemoryStore::new());
    let mut config = config_api::Config {
        listen: "0.0.0.0:0".parse().unwrap(),
        insecure_plaintext_xds: true,
        ..config_api::Config::default()
    };
    let refused = config_api::Server::bind(config.clone(), store.clone())
        .await
        .err()
        .unwrap();
    assert!(
        refused
            .to_string()
            .contains("--insecure-published-on-loopback-only")
    );
    config.insecure_published_on_loopback_only = true;
    config.listen = "127.0.0.1:0".parse().unwrap();
    config_api::Server::bind(config, store).await.unwrap();
}
