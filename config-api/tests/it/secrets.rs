//! TlsSecrets: a private key goes in and never comes out, whatever is done with the resource.

use model::spec::SealedPrivateKey;
use model::{Key, Kind};
use rcgen::{CertificateParams, KeyPair};
use reqwest::Method;
use seal::OpeningKey;
use serde_json::{Value, json};
use store::memory::MemoryStore;
use store::{Area, Expect, Store, Vault, VaultOp};

use crate::clients::Kubectl;
use crate::fixture::{Api, answer};

const PATH: &str = "/apis/weft.mesh/v1/namespaces/shop/tlssecrets";

struct Pair {
    certificate: String,
    key: String,
}

fn pair(name: &str) -> Pair {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    Pair {
        certificate: params.self_signed(&key).unwrap().pem(),
        key: key.serialize_pem(),
    }
}

impl Pair {
    fn manifest(&self, name: &str) -> Value {
        json!({
            "apiVersion": "weft.mesh/v1", "kind": "TlsSecret", "metadata": {"name": name, "namespace": "shop"},
            "spec": {"certificate": self.certificate, "privateKey": self.key},
        })
    }

    /// No line of the key is in the text, nor the part of the first line that is the secret itself.
    fn hidden_in(&self, text: &str) {
        // 36 bytes of PKCS#8 come before the 32 of the secret.
        let mut lines = self.key.lines().skip(1);
        let first = &lines.next().unwrap()[48..];
        let lines = lines.filter(|line| !line.starts_with('-'));
        for canary in lines.chain([first]) {
            assert!(!text.contains(canary), "{text}");
        }
    }
}

async fn publish(store: &MemoryStore, key: &OpeningKey) {
    let before = store.read(Area::Ca, seal::PUBLISHED).await.unwrap();
    let put = VaultOp::Put {
        path: seal::PUBLISHED.into(),
        value: key.sealing_key().to_bytes(),
        expect: before.map_or(Expect::Absent, |entry| Expect::At(entry.revision)),
    };
    store.write(Area::Ca, vec![put], None).await.unwrap();
}

async fn started() -> (Api, OpeningKey) {
    let (api, key) = (Api::start().await, OpeningKey::generate("first"));
    publish(&api.store, &key).await;
    (api, key)
}

/// What is stored of the key of `shop/web`.
async fn sealed(api: &Api) -> SealedPrivateKey {
    let object = api.store.get(&web()).await.unwrap().unwrap();
    assert!(object.spec.get("privateKey").is_none(), "{object:?}");
    serde_json::from_value(object.spec["sealedPrivateKey"].clone()).unwrap()
}

fn web() -> Key {
    Key::new(Kind::TlsSecret, "shop", "web")
}

/// Everything that is stored: resources and change records.
async fn stored(api: &Api) -> String {
    let records = api.store.history(None, None, 0).await.unwrap();
    format!("{:?} {records:?}", api.everything().await)
}

#[tokio::test]
async fn a_key_goes_in_and_never_comes_out() {
    let (api, issuer) = started().await;
    let (first, second) = (pair("web.example"), pair("web.example"));
    let item = format!("{PATH}/web");
    let mut said = Vec::new();
    said.push(api.post(PATH, &first.manifest("web")).await);
    assert_eq!(said[0].0, 201, "{:?}", said[0].1);
    let opened = seal::open(std::slice::from_ref(&issuer), &web(), &sealed(&api).await);
    assert_eq!(*opened.unwrap(), first.key);

    let mut patch = second.manifest("web");
    patch["metadata"]["labels"] = json!({"a": "b"});
    let merge = "application/merge-patch+json";
    said.push(
        api.patch(&item, merge, &json!({"metadata": {"labels": {"c": "d"}}}))
            .await,
    );
    said.push(api.patch(&item, merge, &patch).await);
    let add = json!([{"op": "add", "path": "/spec/privateKey", "value": second.key}]);
    said.push(api.patch(&item, "application/json-patch+json", &add).await);
    said.push(api.put(&item, &first.manifest("web")).await);
    said.push(
        api.put(&format!("{item}?dryRun=All"), &second.manifest("web"))
            .await,
    );
    said.push(api.post("/v1/diff", &second.manifest("web")).await);
    said.push(api.post("/v1/apply", &second.manifest("web")).await);
    for (code, body) in &said {
        assert!(code.is_success(), "{code} {body}");
    }
    let opened = seal::open(&[issuer], &web(), &sealed(&api).await);
    assert_eq!(*opened.unwrap(), second.key);
    let rollback = json!({"kind": "TlsSecret", "namespace": "shop", "name": "web"});
    said.push(api.post("/v1/rollback", &rollback).await);
    assert_eq!(said.last().unwrap().0, 200, "{said:?}");

    for path in [
        &item,
        PATH,
        "/apis/weft.mesh/v1/tlssecrets?watch=true&timeoutSeconds=1",
        "/v1/history",
        "/v1/history/TlsSecret/shop/web",
        "/openapi/v3/apis/weft.mesh/v1",
    ] {
        said.push(api.get(path).await);
        assert_eq!(said.last().unwrap().0, 200, "{path}");
    }
    let table = api.request(Method::GET, PATH);
    let table = table.header("accept", "application/json;as=Table;g=meta.k8s.io;v=v1");
    said.push(answer(table).await);
    let everything = format!("{said:?} {}", stored(&api).await);
    first.hidden_in(&everything);
    second.hidden_in(&everything);
    assert!(everything.contains("sealedPrivateKey") && everything.contains("ciphertext"));
}

#[tokio::test]
async fn a_key_that_is_refused_does_not_come_back_in_the_refusal() {
    let (api, _) = started().await;
    let (one, other) = (pair("web.example"), pair("other.example"));
    let with = |pointer: &str, value: Value| {
        let mut manifest = one.manifest("web");
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        manifest.pointer_mut(parent).unwrap()[name] = value;
        manifest
    };
    let both = format!("{}{}", one.certificate, one.key);
    let bodies = [
        with("/spec/certificate", other.certificate.clone().into()),
        with("/spec/certificate", both.into()),
        with("/spec/certificate", one.key.clone().into()),
        with("/spec/certificate", Value::Null),
        with("/spec/caCertificates", one.key.clone().into()),
        with("/spec/privateKey", json!([one.key])),
        with("/spec/privateKey", format!("{}x", one.key).into()),
        with("/spec/tls.key", one.key.clone().into()),
        with("/spec", one.key.clone().into()),
        with("/metadata/annotations", json!({"note": one.key})),
        with("/metadata/name", "web-cacert".into()),
    ];
    for body in bodies {
        let warned = format!("{PATH}?fieldValidation=Warn");
        for path in [PATH, &warned, "/v1/apply", "/v1/diff"] {
            let response = api
                .request(Method::POST, path)
                .json(&body)
                .send()
                .await
                .unwrap();
            let headers = format!("{:?}", response.headers());
            one.hidden_in(&headers);
            let (code, text) = (response.status(), response.text().await.unwrap());
            one.hidden_in(&text);
            let unknown_is_dropped = code == 201 && body["spec"].get("tls.key").is_some();
            assert!(
                code.is_client_error() || unknown_is_dropped,
                "{code} {text}"
            );
        }
        api.delete(&format!("{PATH}/web")).await;
    }
    let torn = one.manifest("web").to_string();
    for body in [
        &torn[..torn.len() - 2],
        &torn.replace("\\n", "\n"),
        &torn.replace("{\"apiV", "{{a: -----"),
    ] {
        for media in ["application/json", "application/yaml"] {
            let request = api
                .request(Method::POST, PATH)
                .header("content-type", media);
            let (code, text) = answer(request.body(body.to_owned())).await;
            one.hidden_in(&text.to_string());
            // Line ends in quotes are spaces in YAML, which makes a key that is none.
            assert!(code.is_client_error(), "{code} {text}");
        }
    }
    one.hidden_in(&stored(&api).await);
}

#[tokio::test]
async fn what_is_read_back_keeps_its_key_and_opens_under_no_other_name() {
    let (api, issuer) = started().await;
    let (one, other) = (pair("web.example"), pair("other.example"));
    let item = format!("{PATH}/web");
    let (_, created) = api.post(PATH, &one.manifest("web")).await;
    let before = sealed(&api).await;

    let (code, same) = api.put(&item, &one.manifest("web")).await;
    assert_eq!(
        (code.as_u16(), &same["metadata"]),
        (200, &created["metadata"]),
        "nothing was written"
    );
    let (_, mut read) = api.get(&item).await;
    read["metadata"]["labels"] = json!({"a": "b"});
    let (code, labelled) = api.put(&item, &read).await;
    assert_eq!(
        (code.as_u16(), &labelled["metadata"]["generation"]),
        (200, &json!(1)),
        "{labelled}"
    );
    assert_eq!(sealed(&api).await, before);

    read["metadata"] = json!({"name": "copy", "namespace": "shop"});
    let (code, refusal) = api.post(PATH, &read).await;
    assert!(
        code == 422 && refusal.to_string().contains("opens under no other name"),
        "{refusal}"
    );
    let merge = "application/merge-patch+json";
    let certificate = json!({"spec": {"certificate": other.certificate}});
    let (code, refusal) = api.patch(&item, merge, &certificate).await;
    assert!(
        code == 422 && refusal.to_string().contains("give its privateKey"),
        "{refusal}"
    );

    // A new sealing key is used from the next write of the private key on.
    let next = OpeningKey::generate("second");
    publish(&api.store, &next).await;
    let (code, _) = api.put(&item, &one.manifest("web")).await;
    let resealed = sealed(&api).await;
    assert_eq!((code.as_u16(), resealed.key.as_str()), (200, "second"));
    assert_eq!(
        *seal::open(&[next, issuer], &web(), &resealed).unwrap(),
        one.key
    );
}

#[tokio::test]
async fn before_the_issuer_was_there_keys_wait_and_authorities_do_not() {
    let api = Api::start().await;
    let one = pair("web.example");
    let (code, refusal) = api.post(PATH, &one.manifest("web")).await;
    assert!(
        code == 503 && refusal.to_string().contains("start cert-issuer"),
        "{refusal}"
    );
    let mut authorities = one.manifest("web-cacert");
    authorities["spec"] = json!({"caCertificates": one.certificate});
    let (code, answer) = api.post(PATH, &authorities).await;
    assert_eq!(code, 201, "{answer}");
}

#[tokio::test]
async fn kubectl_does_its_work_with_it_and_notes_no_key_down() {
    let (api, issuer) = started().await;
    let Some(k) = Kubectl::new(&api) else { return };
    let (one, other) = (pair("web.example"), pair("other.example"));
    let mut manifest = one.manifest("web");
    manifest["spec"]["caCertificates"] = other.certificate.clone().into();
    let file = k.file("web.json", &manifest.to_string());
    k.ok(&["apply", "-f", &file]).await;
    let first = sealed(&api).await;
    let (_, _, warnings) = k.run(&["apply", "-f", &file]).await;
    assert!(!warnings.contains("missing"), "{warnings}");
    k.ok(&["label", "-n", "shop", "ts", "web", "a=b"]).await;
    let shown = k
        .ok(&["get", "-n", "shop", "ts", "web", "-o", "yaml"])
        .await;
    one.hidden_in(&shown);
    // Without a resourceVersion, which kubectl would note down and hold against later writes.
    let (_, mut read) = api.get(&format!("{PATH}/web")).await;
    read["metadata"] = json!({"name": "web", "namespace": "shop"});
    let back = k.file("back.json", &read.to_string());
    k.ok(&["replace", "-f", &back]).await;
    k.ok(&["apply", "-f", &back]).await;
    assert_eq!(sealed(&api).await, first);
    let table = k.ok(&["get", "-n", "shop", "tlssecrets"]).await;
    assert!(
        table.contains("KEY SHA-256") && table.contains(&first.public_key_sha256),
        "{table}"
    );

    // What a manifest does not have any more is taken out, as ever.
    let file = k.file("web.json", &other.manifest("web").to_string());
    k.ok(&["apply", "-f", &file]).await;
    let (_, now) = api.get(&format!("{PATH}/web")).await;
    assert!(now["spec"].get("caCertificates").is_none(), "{now}");
    let opened = seal::open(&[issuer], &web(), &sealed(&api).await);
    assert_eq!(*opened.unwrap(), other.key);
    let everything = stored(&api).await;
    one.hidden_in(&everything);
    other.hidden_in(&everything);
    assert!(everything.contains("last-applied-configuration"));
}
