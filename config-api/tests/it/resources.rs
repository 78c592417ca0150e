//! Create, read, replace, patch and delete, by Kubernetes' conventions.

use reqwest::Method;
use serde_json::{Value, json};

use crate::fixture::{Api, VS, answer, virtual_service};

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap()
}

#[tokio::test]
async fn a_resource_lives_its_life() {
    let api = Api::start().await;
    let (code, created) = api.post(VS, &virtual_service("a", "b")).await;
    assert_eq!(code, 201, "{created}");
    assert_eq!(created["metadata"]["generation"], 1);
    assert!(created["metadata"]["creationTimestamp"].is_string());
    let uid = created["metadata"]["uid"].clone();

    assert_eq!(
        api.post(VS, &virtual_service("a", "b")).await.1["reason"],
        "AlreadyExists"
    );

    let (code, read) = api.get(&format!("{VS}/a")).await;
    assert_eq!((code.as_u16(), version(&read)), (200, version(&created)));

    let (code, same) = api
        .put(&format!("{VS}/a"), &virtual_service("a", "b"))
        .await;
    assert_eq!(
        (code.as_u16(), version(&same)),
        (200, version(&created)),
        "nothing changed, nothing written"
    );

    let (code, replaced) = api
        .put(&format!("{VS}/a"), &virtual_service("a", "c"))
        .await;
    assert_eq!(
        (code.as_u16(), &replaced["metadata"]["generation"]),
        (200, &json!(2))
    );
    assert_eq!(replaced["metadata"]["uid"], uid);

    let mut stale = virtual_service("a", "d");
    stale["metadata"]["resourceVersion"] = created["metadata"]["resourceVersion"].clone();
    let (code, refused) = api.put(&format!("{VS}/a"), &stale).await;
    assert_eq!(
        (code.as_u16(), &refused["reason"]),
        (409, &json!("Conflict"))
    );
    assert_eq!(refused["kind"], "Status");

    let labels = json!({"metadata": {"labels": {"x": "y"}}});
    let (code, patched) = api
        .patch(&format!("{VS}/a"), "application/merge-patch+json", &labels)
        .await;
    assert_eq!(
        (code.as_u16(), &patched["metadata"]["generation"]),
        (200, &json!(2))
    );
    assert_eq!(patched["metadata"]["labels"]["x"], "y");

    let ops = json!([{"op": "replace", "path": "/spec/hosts/0", "value": "z"}]);
    let (code, patched) = api
        .patch(&format!("{VS}/a"), "application/json-patch+json", &ops)
        .await;
    assert_eq!(
        (code.as_u16(), &patched["spec"]["hosts"][0]),
        (200, &json!("z"))
    );

    let (code, gone) = api.delete(&format!("{VS}/a")).await;
    assert_eq!((code.as_u16(), &gone["details"]["uid"]), (200, &uid));
    assert_eq!(api.get(&format!("{VS}/a")).await.0, 404);
}

#[tokio::test]
async fn every_served_version_reads_the_same_resource() {
    let api = Api::start().await;
    let mut old = virtual_service("a", "b");
    old["apiVersion"] = "networking.istio.io/v1alpha3".into();
    let path = VS.replace("/v1/", "/v1alpha3/");
    let (code, created) = api.post(&path, &old).await;
    assert_eq!(
        (code.as_u16(), &created["apiVersion"]),
        (201, &json!("networking.istio.io/v1alpha3")),
        "{created}"
    );
    let (_, read) = api.get(&format!("{VS}/a")).await;
    assert_eq!(read["apiVersion"], "networking.istio.io/v1");
    assert_eq!(version(&read), version(&created));
}

#[tokio::test]
async fn lists_are_narrowed_and_paged_at_one_revision() {
    let api = Api::start().await;
    for name in ["a", "b", "c", "d", "e"] {
        let mut vs = virtual_service(name, "x");
        vs["metadata"]["labels"] =
            json!({"odd": if name == "b" || name == "d" { "no" } else { "yes" }});
        api.post(VS, &vs).await;
    }
    let (_, page) = api.get(&format!("{VS}?limit=2")).await;
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    assert_eq!(page["metadata"]["remainingItemCount"], 3);
    api.delete(&format!("{VS}/e")).await;
    let token = page["metadata"]["continue"].as_str().unwrap();
    let (_, rest) = api.get(&format!("{VS}?continue={token}")).await;
    assert_eq!(
        rest["items"].as_array().unwrap().len(),
        3,
        "the deleted one is still there at that revision"
    );
    assert_eq!(
        rest["metadata"]["resourceVersion"],
        page["metadata"]["resourceVersion"]
    );

    let (_, odd) = api
        .get("/apis/networking.istio.io/v1/virtualservices?labelSelector=odd%3Dyes&limit=1")
        .await;
    assert_eq!(odd["items"][0]["metadata"]["name"], "a");
    let token = odd["metadata"]["continue"].as_str().unwrap();
    let (_, odd) = api
        .get(&format!(
            "{VS}?labelSelector=odd%3Dyes&limit=1&continue={token}"
        ))
        .await;
    assert_eq!(odd["items"][0]["metadata"]["name"], "c");

    let (code, _) = api.get(&format!("{VS}?continue=nonsense")).await;
    assert_eq!(code, 400);
    api.store
        .compact(store::Store::revision(&*api.store).await.unwrap());
    let token = page["metadata"]["continue"].as_str().unwrap();
    assert_eq!(api.get(&format!("{VS}?continue={token}")).await.0, 410);
}

#[tokio::test]
async fn a_dry_run_writes_nothing() {
    let api = Api::start().await;
    let (code, answer_) = api
        .post(&format!("{VS}?dryRun=All"), &virtual_service("a", "b"))
        .await;
    assert_eq!(code, 201, "{answer_}");
    assert!(api.everything().await.is_empty());
    api.post(VS, &virtual_service("a", "b")).await;
    let before = api.everything().await;
    assert_eq!(
        api.put(&format!("{VS}/a?dryRun=All"), &virtual_service("a", "c"))
            .await
            .0,
        200
    );
    assert_eq!(api.delete(&format!("{VS}/a?dryRun=All")).await.0, 200);
    assert_eq!(
        answer(api.request(Method::DELETE, &format!("{VS}?dryRun=All")))
            .await
            .0,
        200
    );
    assert_eq!(api.everything().await, before);
}

#[tokio::test]
async fn entity_tags_are_preconditions() {
    let api = Api::start().await;
    api.post(VS, &virtual_service("a", "b")).await;
    let response = api
        .request(Method::GET, &format!("{VS}/a"))
        .send()
        .await
        .unwrap();
    let tag = response.headers()["etag"].clone();
    let put = |tag: &str, host: &str| {
        api.request(Method::PUT, &format!("{VS}/a"))
            .header("if-match", tag)
            .json(&virtual_service("a", host))
    };
    assert_eq!(answer(put(tag.to_str().unwrap(), "c")).await.0, 200);
    assert_eq!(answer(put(tag.to_str().unwrap(), "d")).await.0, 409);
    assert_eq!(answer(put("nonsense", "d")).await.0, 400);
    let create_only = api
        .request(Method::PUT, &format!("{VS}/a"))
        .header("if-none-match", "*")
        .json(&virtual_service("a", "x"));
    assert_eq!(answer(create_only).await.0, 409);
}
