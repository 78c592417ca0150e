//! `/v1/apply`, `/v1/diff`, `/v1/history`, `/v1/rollback`, `/v1/…/bootstrap`.

use reqwest::Method;
use serde_json::{Value, json};

use crate::fixture::{Api, VS, answer, virtual_service};

fn list(items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

fn results(answer: &Value) -> Vec<&str> {
    answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["result"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn an_apply_is_one_revision_or_nothing() {
    let api = Api::start().await;
    let (code, applied) = api
        .post(
            "/v1/apply",
            &list(&[virtual_service("a", "x"), virtual_service("b", "x")]),
        )
        .await;
    assert_eq!(code, 200, "{applied}");
    assert_eq!(results(&applied), ["created", "created"]);
    let (_, a) = api.get(&format!("{VS}/a")).await;
    let (_, b) = api.get(&format!("{VS}/b")).await;
    assert_eq!(
        a["metadata"]["resourceVersion"],
        b["metadata"]["resourceVersion"]
    );
    assert_eq!(a["metadata"]["resourceVersion"], applied["revision"]);

    let (_, again) = api
        .post(
            "/v1/apply",
            &list(&[virtual_service("a", "x"), virtual_service("b", "y")]),
        )
        .await;
    assert_eq!(results(&again), ["unchanged", "configured"]);

    let before = api.everything().await;
    let mut bad = virtual_service("c", "x");
    bad["spec"]["nonsense"] = 1.into();
    let mut worse = virtual_service("d", "x");
    worse["spec"]["http"][0]["route"][0]["weight"] = "many".into();
    let (code, refused) = api
        .post("/v1/apply", &list(&[virtual_service("a", "z"), bad, worse]))
        .await;
    assert!(code.is_client_error(), "{refused}");
    let fields: Vec<&str> = refused["details"]["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["field"].as_str().unwrap())
        .collect();
    assert_eq!(
        fields,
        [
            "items[1].spec.nonsense",
            "items[2].spec.http[0].route[0].weight"
        ],
        "{refused}"
    );
    assert_eq!(api.everything().await, before);

    let (code, twice) = api
        .post(
            "/v1/apply",
            &list(&[virtual_service("a", "x"), virtual_service("a", "y")]),
        )
        .await;
    assert_eq!(code, 400, "{twice}");

    let many: Vec<Value> = (0..200)
        .map(|i| virtual_service(&format!("v{i}"), "x"))
        .collect();
    let (code, too_many) = api.post("/v1/apply", &list(&many)).await;
    assert_eq!(code, 413, "{too_many}");
    assert!(
        too_many["message"].as_str().unwrap().contains("127"),
        "names the limit: {too_many}"
    );
    assert_eq!(api.everything().await, before);
}

#[tokio::test]
async fn yaml_streams_and_dry_runs() {
    let api = Api::start().await;
    let yaml = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec: {hosts: [a], http: [{route: [{destination: {host: a}}]}]}
---
# nothing here
---
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: {name: a, namespace: shop}
spec: {host: a}
---
";
    let apply = |query: &str| {
        api.request(Method::POST, &format!("/v1/apply{query}"))
            .header("content-type", "application/yaml")
            .body(yaml)
    };
    let (code, dry) = answer(apply("?dryRun=All")).await;
    assert_eq!(
        (code.as_u16(), results(&dry)),
        (200, vec!["created", "created"]),
        "{dry}"
    );
    assert!(api.everything().await.is_empty());
    let (code, applied) = answer(apply("")).await;
    assert_eq!(code, 200, "{applied}");
    assert_eq!(applied["results"][0]["namespace"], "default");
    assert_eq!(applied["results"][1]["namespace"], "shop");
}

#[tokio::test]
async fn a_diff_shows_before_and_after() {
    let api = Api::start().await;
    api.post(VS, &virtual_service("a", "x")).await;
    let (code, diff) = api
        .post(
            "/v1/diff",
            &list(&[virtual_service("a", "y"), virtual_service("b", "x")]),
        )
        .await;
    assert_eq!(code, 200, "{diff}");
    assert_eq!(results(&diff), ["configured", "created"]);
    let host = "/spec/http/0/route/0/destination/host";
    assert_eq!(diff["results"][0]["before"].pointer(host).unwrap(), "x");
    assert_eq!(diff["results"][0]["after"].pointer(host).unwrap(), "y");
    assert!(diff["results"][1]["before"].is_null());
    let (_, same) = api.post("/v1/diff", &virtual_service("a", "x")).await;
    assert!(results(&same).is_empty());
}

#[tokio::test]
async fn history_remembers_and_rollback_restores() {
    let api = Api::start().await;
    let (_, first) = api
        .post(
            "/v1/apply",
            &list(&[virtual_service("a", "x"), virtual_service("b", "x")]),
        )
        .await;
    api.post(
        "/v1/apply",
        &list(&[virtual_service("a", "y"), virtual_service("c", "y")]),
    )
    .await;
    api.delete(&format!("{VS}/b")).await;

    let path = "/v1/history/networking.istio.io/VirtualService/shop/a";
    let (code, history) = api.get(path).await;
    assert_eq!(code, 200, "{history}");
    let changes = history["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 2);
    assert_eq!(
        (&changes[0]["who"], &changes[0]["verb"]),
        (&json!("anonymous"), &json!("apply"))
    );
    assert_eq!(
        changes[0]["edits"].as_array().unwrap().len(),
        1,
        "only what was asked for"
    );
    assert_eq!(api.get("/v1/history/vs/shop/a").await.1, history);
    assert_eq!(
        api.get("/v1/history?limit=1").await.1["changes"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(api.get("/v1/history/nonsense/shop/a").await.0, 404);

    // The last change was the deletion of b.
    let (code, undone) = api.post("/v1/rollback", &json!({})).await;
    assert_eq!(
        (code.as_u16(), results(&undone)),
        (200, vec!["created"]),
        "{undone}"
    );
    assert_eq!(undone["results"][0]["name"], "b");

    // Everything back to the first revision, in one.
    let (code, back) = api
        .post("/v1/rollback", &json!({"revision": first["revision"]}))
        .await;
    assert_eq!(code, 200, "{back}");
    assert_eq!(api.get(&format!("{VS}/c")).await.0, 404);
    let (_, a) = api.get(&format!("{VS}/a")).await;
    assert_eq!(
        a.pointer("/spec/http/0/route/0/destination/host").unwrap(),
        "x"
    );
    assert_eq!(a["metadata"]["resourceVersion"], back["revision"]);

    // One resource to a generation: the second was "y".
    let one = json!({"kind": "VirtualService", "namespace": "shop", "name": "a", "generation": 2});
    let (code, _) = api.post("/v1/rollback?dryRun=All", &one).await;
    assert_eq!(code, 200);
    api.post("/v1/rollback", &one).await;
    let (_, a) = api.get(&format!("{VS}/a")).await;
    assert_eq!(
        a.pointer("/spec/http/0/route/0/destination/host").unwrap(),
        "y"
    );
    assert_eq!(
        a["metadata"]["generation"], 4,
        "a rollback is a change like any other"
    );

    for bad in [
        json!({"kind": "VirtualService"}),
        json!({"generation": 1}),
        json!({"revision": "x"}),
        json!({"unknown": 1}),
        json!({"kind": "VirtualService", "namespace": "shop", "name": "a", "generation": 99}),
        json!({"change": "01890000-0000-7000-8000-000000000000"}),
    ] {
        let (code, refused) = api.post("/v1/rollback", &bad).await;
        assert!(code.is_client_error(), "{bad} {refused}");
    }
}

#[tokio::test]
async fn a_bootstrap_says_who_and_where() {
    let api = Api::start().await;
    let path = "/v1/namespaces/shop/workloads/web-1/bootstrap";
    assert_eq!(api.get(path).await.0, 404);
    let workload = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry",
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"app": "web"}},
        "spec": {"address": "127.0.1.1", "locality": "eu/a"},
    });
    let (code, created) = api
        .post(
            "/apis/networking.istio.io/v1/namespaces/shop/workloadentries",
            &workload,
        )
        .await;
    assert_eq!(code, 201, "{created}");
    let (code, bootstrap) = api
        .get(&format!(
            "{path}?variant=sotw&adminPort=9999&adminAddress=127.0.0.9"
        ))
        .await;
    assert_eq!(code, 200, "{bootstrap}");
    assert_eq!(bootstrap["node"]["id"], "sidecar~shop~web-1");
    assert_eq!(
        bootstrap["node"]["locality"],
        json!({"region": "eu", "zone": "a"})
    );
    assert_eq!(
        bootstrap["dynamic_resources"]["ads_config"]["api_type"],
        "GRPC"
    );
    assert_eq!(
        bootstrap["admin"]["address"]["socket_address"]["port_value"],
        9999
    );
    assert_eq!(
        bootstrap["dynamic_resources"]["cds_config"]["initial_fetch_timeout"],
        "0s"
    );
    let (_, gateway) = api.get(&format!("{path}?type=gateway")).await;
    assert_eq!(gateway["node"]["id"], "gateway~shop~web-1");
    assert_eq!(api.get(&format!("{path}?variant=rest")).await.0, 400);
    let yaml = api
        .request(Method::GET, path)
        .header("accept", "application/yaml")
        .send()
        .await
        .unwrap();
    assert_eq!(yaml.headers()["content-type"], "application/yaml");
    assert!(yaml.text().await.unwrap().contains("sidecar~shop~web-1"));
}

#[tokio::test]
async fn proxies_are_asked_live_and_the_silent_are_named() {
    use store::Store;
    let api = Api::start().await;
    assert_eq!(api.get("/v1/proxies").await.1["proxies"], json!([]));
    let member = store::Member {
        instance: "gone".into(),
        addresses: [("grpc".into(), "127.0.0.1:1".into())].into(),
        since: model::Revision(0),
    };
    let _membership = api
        .store
        .join("xds-pusher", member, std::time::Duration::from_secs(10))
        .await
        .unwrap();
    let silent = async {
        loop {
            let (code, answer) = api.get("/v1/proxies").await;
            assert_eq!(code, 200);
            if let Some(silent) = answer["silent"].as_array().filter(|s| !s.is_empty()) {
                return silent[0]["instance"].clone();
            }
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(silent.await, "gone");
    let (code, unknown) = api.get("/v1/proxies/sidecar~a~b/config").await;
    assert_eq!(code, 503, "nobody knows whether it exists: {unknown}");
}

#[tokio::test]
async fn what_is_missing_is_a_warning_until_it_is_there() {
    let api = Api::start().await;
    let mut split = virtual_service("reviews", "reviews");
    split["spec"]["http"][0]["route"][0]["destination"]["subset"] = "v2".into();
    let response = api
        .request(Method::POST, VS)
        .json(&split)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 201, "a dangling reference is no error");
    let warning = response.headers()["warning"].to_str().unwrap().to_owned();
    assert!(
        warning.contains("spec.http[0].route[0].destination"),
        "{warning}"
    );
    let (_, read) = api.get(&format!("{VS}/reviews")).await;
    assert_eq!(
        read["status"]["conditions"][0]["type"], "PassedAnalysis",
        "{read}"
    );
    let rule = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": "reviews", "namespace": "shop"},
        "spec": {"host": "reviews", "subsets": [{"name": "v2", "labels": {"version": "v2"}}]},
    });
    let service = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "reviews", "namespace": "shop"},
        "spec": {
            "hosts": ["reviews.shop.svc.cluster.local"], "location": "MESH_INTERNAL", "resolution": "STATIC",
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "endpoints": [{"address": "127.0.1.1", "labels": {"version": "v2"}}],
        },
    });
    let (code, applied) = api.post("/v1/apply", &list(&[split, rule, service])).await;
    assert_eq!(
        (code.as_u16(), &applied["warnings"]),
        (200, &json!([])),
        "{applied}"
    );
    api.get("/api/v1/namespaces").await;
    let (_, read) = api.get(&format!("{VS}/reviews")).await;
    assert!(read["status"].is_null(), "{read}");
}

fn resource(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

#[tokio::test]
async fn a_write_a_diff_and_the_status_warn_alike() {
    let api = Api::start().await;
    let server =
        json!({"port": {"number": 9000, "name": "tcp", "protocol": "TCP"}, "hosts": ["*"]});
    let gateway = |name| {
        resource(
            "Gateway",
            name,
            &json!({"selector": {"app": "gw"}, "servers": [server]}),
        )
    };
    let workload = json!({"address": "127.0.0.9", "labels": {"app": "gw"}});
    let first = list(&[resource("WorkloadEntry", "gw", &workload), gateway("a")]);
    let (code, applied) = api.post("/v1/apply", &first).await;
    assert_eq!((code.as_u16(), &applied["warnings"]), (200, &json!([])));

    let found = "spec.servers[0].port.number: takes the same connections as spec.servers[0] of Gateway shop/a, which is older and is in force; use another port or other hosts";
    let warnings = json!([format!("Gateway shop/b: {found}")]);
    let (_, diff) = api.post("/v1/diff", &gateway("b")).await;
    assert_eq!(diff["warnings"], warnings);
    let gateways = "/apis/networking.istio.io/v1/namespaces/shop/gateways";
    let response = api.request(Method::POST, gateways).json(&gateway("b"));
    let response = response.send().await.unwrap();
    let header = response.headers()["warning"].to_str().unwrap().to_owned();
    assert_eq!(header, format!("299 - \"{found}\""));
    let (_, read) = api.get(&format!("{gateways}/b")).await;
    assert_eq!(read["status"]["conditions"][0]["message"], found);
}

#[tokio::test]
async fn a_write_right_after_another_sees_it() {
    let api = Api::start().await;
    let services = "/apis/networking.istio.io/v1/namespaces/shop/serviceentries";
    for i in 0..30 {
        let name = format!("s{i}");
        let spec = json!({"hosts": [format!("{name}.shop.svc.cluster.local")],
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], "resolution": "STATIC", "endpoints": [{"address": "127.0.0.2"}]});
        let (code, made) = api
            .post(services, &resource("ServiceEntry", &name, &spec))
            .await;
        assert_eq!(code, 201, "{made}");
        let response = api
            .request(Method::POST, VS)
            .json(&virtual_service(&name, &name));
        let response = response.send().await.unwrap();
        assert_eq!(response.status(), 201);
        assert_eq!(
            response.headers().get("warning"),
            None,
            "{name} was written before"
        );
    }
}
