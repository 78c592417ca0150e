//! The API over HTTPS with the mesh's own certificate, its replicas by theirs, and the authority by `meshctl ca`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use weft_tests::mesh::Mesh;
use weft_tests::process::Process;
use weft_tests::{binaries, envoy, http, stack, wait};

use crate::meshctl::meshctl;
use crate::mtls::Identity;

const CART: &str = "spiffe://cluster.local/ns/shop/sa/cart";

/// One more replica on address `n`, over HTTPS, to which the mesh's certificates say who calls.
async fn replica(mesh: &Mesh, n: u8, access: &Path) -> Result<Process> {
    let (name, listen) = (format!("config-api-{n}"), mesh.net.at(n, 8080));
    let etcd = format!("http://{}", mesh.net.at(1, 2379));
    let credential = mesh.run.path("credentials").join("config-api");
    let args = [
        "--etcd-endpoints",
        &etcd,
        "--etcd-prefix",
        weft_tests::mesh::PREFIX,
        "--listen",
        &listen.to_string(),
        "--instance",
        &name,
        "--credential-file",
        credential.to_str().context("a path")?,
        "--https",
        "--mesh-client-certificates",
        "--access-file",
        access.to_str().context("a path")?,
    ]
    .map(ToOwned::to_owned);
    let log = mesh.run.path(&format!("{name}.log"));
    let process = Process::start(&name, &binaries::built("config-api")?, &args, &log)?;
    process.listens(listen, stack::PATIENCE).await?;
    Ok(process)
}

/// A client that believes the mesh's roots, with a certificate or none.
fn client(roots: &str, identity: Option<&Identity>) -> Result<Client> {
    let roots = reqwest::Certificate::from_pem_bundle(roots.as_bytes())?;
    let mut builder = Client::builder().no_proxy().tls_certs_only(roots);
    if let Some(identity) = identity {
        let read = |name: &str| std::fs::read(identity.path(name));
        let pem = [read("chain.pem")?, read("key.pem")?].concat();
        builder = builder.identity(reqwest::Identity::from_pem(&pem)?);
    }
    Ok(builder.timeout(wait::PATIENCE).build()?)
}

fn s_client(at: SocketAddr, roots: &Path, more: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command
        .args([
            "s_client",
            "-connect",
            &at.to_string(),
            "-verify_return_error",
        ])
        .args([
            "-servername",
            "config-api",
            "-verify_hostname",
            "config-api",
            "-CAfile",
        ])
        .arg(roots)
        .args(more)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command
}

/// The certificate that is shown there now.
async fn shown(at: SocketAddr, roots: &Path) -> Result<String> {
    let ran = s_client(at, roots, &[])
        .stdin(Stdio::null())
        .output()
        .await?;
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    let begin = text
        .find("-----BEGIN")
        .context("no certificate was shown")?;
    let end = text.find("-----END").context("no certificate was shown")?;
    Ok(text[begin..end].to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_and_its_replicas_speak_by_certificates_of_the_mesh() {
    let mut mesh = Mesh::secure("api-https", &[]).await.unwrap();
    let names = format!(
        "--api-server-names=config-api,{},{}",
        mesh.net.ip(2),
        mesh.net.ip(3)
    );
    let brief = ["--svid-ttl=30s", "--issuing-ttl=240h", &names];
    mesh.restart_issuer(&brief).await.unwrap();
    let entry = |name: &str| {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"address": mesh.net.ip(40).to_string(), "serviceAccount": name},
        })
    };
    mesh.apply(&entry("cart").to_string()).await.unwrap();
    let cart = Identity::signed(&mesh, "cart").await.unwrap();
    let access = mesh.run.path("access.yaml");
    let grants =
        json!({"grants": [{"subjects": [CART], "role": "editor", "namespaces": ["shop"]}]});
    std::fs::write(&access, grants.to_string()).unwrap();
    let mut replicas = Vec::new();
    for n in [2, 3] {
        replicas.push(replica(&mesh, n, &access).await.unwrap());
    }
    let bundle = http::get(format!("http://{}/bundle.pem", mesh.net.at(1, 18011)));
    let roots = bundle.await.unwrap().body;
    let roots_file = mesh.run.path("roots.pem");
    std::fs::write(&roots_file, &roots).unwrap();
    let (somebody, anybody) = (
        client(&roots, Some(&cart)).unwrap(),
        client(&roots, None).unwrap(),
    );
    let url = |n: u8, path: &str| format!("https://{}{path}", mesh.net.at(n, 8080));
    for n in [2, 3] {
        wait::until("the replica to be ready", envoy::PATIENCE, async || {
            http::send(anybody.get(url(n, "/readyz"))).await?.ok()
        })
        .await
        .unwrap();
    }

    // Who calls is whom the certificate names.
    let services = "/apis/networking.istio.io/v1/namespaces/shop/serviceentries";
    let status = async |client: &Client, path: &str| {
        http::send(client.get(url(2, path))).await.unwrap().status
    };
    assert_eq!(status(&anybody, services).await, 401);
    assert_eq!(status(&somebody, services).await, 200);
    assert_eq!(
        status(&somebody, &services.replace("shop", "bank")).await,
        403
    );
    let plain = format!("http://{}/readyz", mesh.net.at(2, 8080));
    assert!(http::get(plain).await.is_err(), "nothing is in the clear");
    // meshctl, as people have it.
    let mut ctl = meshctl(&url(2, ""), "get serviceentries");
    ctl.env("WEFT_CERTIFICATE_AUTHORITY", &roots_file)
        .env("WEFT_CLIENT_CERTIFICATE", cart.path("chain.pem"))
        .env("WEFT_CLIENT_KEY", cart.path("key.pem"));
    let ran = ctl.output().await.unwrap();
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );

    // A connection that was opened before outlives a renewal; those after it see the new certificate.
    let at = mesh.net.at(2, 8080);
    let mut open = s_client(at, &roots_file, &["-quiet"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut tell, mut hear) = (open.stdin.take().unwrap(), open.stdout.take().unwrap());
    let mut ask = async || -> Result<()> {
        tell.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n")
            .await?;
        let mut heard = String::new();
        while !heard.contains("\r\n\r\n") {
            let mut some = [0; 1024];
            let count = tokio::time::timeout(wait::PATIENCE, hear.read(&mut some)).await??;
            ensure!(count > 0, "the connection ended after {heard:?}");
            heard.push_str(&String::from_utf8_lossy(&some[..count]));
        }
        ensure!(heard.contains("HTTP/1.1 200"), "{heard}");
        Ok(())
    };
    ask().await.unwrap();
    let before = shown(at, &roots_file).await.unwrap();
    wait::until("another certificate", envoy::PATIENCE, async || {
        // One that says nothing for long is closed, renewal or not.
        ask().await.unwrap();
        match shown(at, &roots_file).await? == before {
            true => bail!("it is the same"),
            false => Ok(()),
        }
    })
    .await
    .unwrap();
    ask().await.unwrap();

    // Heartbeats find their owners, whichever replica takes them; the first one serves its clients in the clear.
    let beat = json!({"ttl": "1h", "spec": {"address": mesh.net.ip(41).to_string()}});
    let mut owners = BTreeSet::new();
    for n in 0..200 {
        let path = format!("/v1/namespaces/shop/workloads/w{n}/heartbeat");
        let told: Value = wait::until("the heartbeat to be taken", envoy::PATIENCE, async || {
            let request = somebody.put(url(2, &path)).json(&beat);
            http::send(request).await?.ok()?.json()
        })
        .await
        .unwrap();
        owners.insert(told["owner"].as_str().unwrap().to_owned());
        if owners.len() == 3 {
            break;
        }
    }
    assert_eq!(owners.len(), 3, "{owners:?}");
    let history = mesh.call(Method::GET, "/v1/history", None).await.unwrap();
    let history = history.ok().unwrap().json().unwrap();
    let changes = history["changes"].as_array().unwrap().iter();
    let beats: Vec<&Value> = changes
        .filter(|change| change["verb"].as_str().unwrap().contains("heartbeat"))
        .collect();
    assert!(!beats.is_empty(), "{history}");
    for change in beats {
        assert_eq!(change["who"], CART, "{change}");
    }
    drop(replicas);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_authority_is_operated_by_meshctl() {
    let mesh = Mesh::secure("meshctl-ca", &["--root-overlap=1s", "--root-patience=12h"])
        .await
        .unwrap();
    let server = format!("http://{}", mesh.api_address());
    let ca = async |line: &str| -> Result<Value> {
        let ran = meshctl(&server, line).output().await?;
        let (out, err) = (
            String::from_utf8_lossy(&ran.stdout).into_owned(),
            String::from_utf8_lossy(&ran.stderr).into_owned(),
        );
        ensure!(ran.status.success(), "{line}: {err}");
        Ok(serde_json::from_str(&out).unwrap_or(Value::String(out)))
    };
    let status = async || ca("ca status --output json").await;
    let active = |status: &Value| {
        let roots = status["roots"].as_array().unwrap().iter();
        let mut active = roots.filter(|root| root["stage"] == "active");
        active.next().unwrap()["name"].as_str().unwrap().to_owned()
    };
    let first = status().await.unwrap();
    let root = active(&first);
    ca("ca rotate-issuing").await.unwrap();
    let issued = status().await.unwrap();
    assert_ne!(issued["issuing"]["sha256"], first["issuing"]["sha256"]);
    let table = ca("ca rotate-root").await.unwrap();
    assert!(table.as_str().unwrap().contains("prepared"), "{table}");
    let next = wait::until("the new root to sign", envoy::PATIENCE, async || {
        let name = active(&status().await?);
        ensure!(name != root, "it is still {name}");
        Ok(name)
    })
    .await
    .unwrap();
    ca(&format!("ca revoke-root {root}")).await.unwrap();
    let left = status().await.unwrap();
    let names: Vec<&str> = (left["roots"].as_array().unwrap().iter())
        .map(|root| root["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, [next.as_str()]);
    let none = ca("ca revoke-root root-none")
        .await
        .unwrap_err()
        .to_string();
    assert!(none.contains("root-none"), "{none}");

    // A trust domain that is known by what a person was given.
    let bundle = json!({"keys": [], "spiffe_sequence": 7}).to_string();
    let config = json!({
        "apiVersion": "weft.mesh/v1", "kind": "MeshConfig",
        "metadata": {"name": "default", "namespace": "istio-system"},
        "spec": {"federatedTrustDomains": [{"trustDomain": "partner", "trustDomainBundle": bundle}]},
    });
    mesh.apply(&config.to_string()).await.unwrap();
    let federated = status().await.unwrap()["federated"][0].clone();
    let shown = json!({
        "trustDomain": "partner", "bundleEndpointURL": null, "bundle": "configured", "fetched": null, "sequence": 7, "roots": 0,
    });
    assert_eq!(federated, shown);
    let table = ca("ca status").await.unwrap();
    let line = table
        .as_str()
        .unwrap()
        .lines()
        .find(|line| line.contains("partner"));
    assert!(line.unwrap().contains("configured"), "{table}");
}
