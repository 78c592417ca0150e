//! Certificates of one's own, from `PUT` to handshake: uploaded ones by name and files, at gateways, replaced under load; and who
//! may have them.

mod clients;
mod revoked;

use std::net::SocketAddr;

use anyhow::bail;
use reqwest::Method;
use serde_json::{Value, json};
use weft_tests::backend::tls::Identity;
use weft_tests::backend::{Backend, Settings};
use weft_tests::envoy::{Envoy, Version};
use weft_tests::mesh::{Options, Variant};
use weft_tests::{binaries, http, wait};

use clients::{Authority, Client, Pair, replaced_live};

use crate::edge::{Edge, Gateway, workload};

const HTTPS: u16 = 8443;

/// One of each transport on one of each Envoy.
const KINDS: [(Variant, Version); 2] = [
    (Variant::Delta, Version::Newest),
    (Variant::Sotw, Version::Oldest),
];

/// A TlsSecret in the gateways' namespace.
fn secret(name: &str, pair: Option<&Pair>, authorities: Option<&str>) -> Value {
    let mut spec = json!({});
    if let Some(pair) = pair {
        spec["certificate"] = pair.chain.as_str().into();
        spec["privateKey"] = pair.key.as_str().into();
    }
    if let Some(authorities) = authorities {
        spec["caCertificates"] = authorities.into();
    }
    json!({"apiVersion": "weft.mesh/v1", "kind": "TlsSecret", "metadata": {"name": name, "namespace": "istio-system"}, "spec": spec})
}

async fn put(edge: &Edge, secret: &Value) {
    let name = secret["metadata"]["name"].as_str().unwrap();
    let path = format!("/apis/weft.mesh/v1/namespaces/istio-system/tlssecrets/{name}");
    let answer = edge
        .mesh
        .call(Method::PUT, &path, Some(secret))
        .await
        .unwrap();
    answer.ok().unwrap();
}

/// The servers of a test at [`HTTPS`], each a name and its TLS in YAML, all leading to this backend; PASSTHROUGH leads to the other.
fn servers(list: &[(&str, String)], plain: &Backend, tls: SocketAddr) -> String {
    let servers: Vec<String> = list
        .iter()
        .map(|(name, tls)| {
            let protocol = if tls.contains("PASSTHROUGH") { "TLS" } else { "HTTPS" };
            format!(
                "{{ port: {{ number: {HTTPS}, name: {name}, protocol: {protocol} }}, hosts: [{name}.example], tls: {{ {tls} }} }}"
            )
        })
        .collect();
    let (ip, port) = (plain.address().ip(), plain.address().port());
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{ name: secure, namespace: shop }}\nspec:\n  \
         selector: {{ istio: ingressgateway }}\n  servers: [{}]\n---\n\
         apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{ name: web, namespace: shop }}\nspec:\n  \
         hosts: [web.example]\n  location: MESH_EXTERNAL\n  resolution: STATIC\n  \
         ports: [{{ number: 80, name: http, protocol: HTTP }}]\n  endpoints: [{{ address: {ip}, ports: {{ http: {port} }} }}]\n---\n\
         apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{ name: passed, namespace: shop }}\nspec:\n  \
         hosts: [passed.example]\n  location: MESH_EXTERNAL\n  resolution: STATIC\n  \
         ports: [{{ number: 443, name: tls, protocol: TLS }}]\n  endpoints: [{{ address: {}, ports: {{ tls: {} }} }}]\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{ name: secure, namespace: shop }}\nspec:\n  \
         hosts: ['*']\n  gateways: [secure]\n  http: [{{ route: [{{ destination: {{ host: web.example }} }}] }}]\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{ name: passed, namespace: shop }}\nspec:\n  \
         hosts: [passed.example]\n  gateways: [secure]\n  \
         tls: [{{ match: [{{ sniHosts: [passed.example] }}], route: [{{ destination: {{ host: passed.example }} }}] }}]\n",
        servers.join(", "),
        tls.ip(),
        tls.port(),
    )
}

async fn start(name: &str) -> Edge {
    let options = Options {
        issuer: Some(&[]),
        ..Options::default()
    };
    Edge::start_with(name, &KINDS, options).await.unwrap()
}

async fn backend(edge: &Edge, n: u8, tls: Option<Identity>) -> Backend {
    let settings = Settings {
        service: "web".into(),
        version: "v1".into(),
        tls,
        ..Settings::default()
    };
    Backend::start(edge.mesh.net.at(n, 9000), settings)
        .await
        .unwrap()
}

fn https(gateway: &Gateway) -> SocketAddr {
    SocketAddr::new(gateway.address.ip(), HTTPS)
}

/// Everything that etcd holds.
fn etcd(edge: &Edge) -> String {
    let endpoint = edge.mesh.net.at(1, 2379).to_string();
    let output = std::process::Command::new(binaries::tool("etcdctl").unwrap())
        .args(["--endpoints", &endpoint, "get", "", "--from-key"])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploaded_certificates_serve_verify_and_are_replaced_under_load() {
    let edge = start("uploaded").await;
    let (ours, partners, strangers) = (
        Authority::new("ours"),
        Authority::new("partners"),
        Authority::new("strangers"),
    );
    let own = Identity::self_signed(&["passed.example"]).unwrap();
    let (plain, tls) = (
        backend(&edge, 30, None).await,
        backend(&edge, 31, Some(own.clone())).await,
    );
    let names = ["simple.example", "mutual.example", "optional.example"];
    let (mut shown, client) = (ours.pair(&names), partners.pair(&["client.example"]));
    put(&edge, &secret("web", Some(&shown), Some(&partners.pem()))).await;
    put(&edge, &secret("client", Some(&client), Some(&ours.pem()))).await;
    let list = [
        ("simple", "mode: SIMPLE, credentialName: web".to_owned()),
        (
            "mutual",
            "mode: MUTUAL, credentialName: web, subjectAltNames: [client.example]".to_owned(),
        ),
        (
            "optional",
            "mode: OPTIONAL_MUTUAL, credentialName: web".to_owned(),
        ),
        ("passed", "mode: PASSTHROUGH".to_owned()),
    ];
    edge.mesh
        .apply(&servers(&list, &plain, tls.address()))
        .await
        .unwrap();

    let mut all = vec![shown.clone(), client.clone()];
    for gateway in &edge.gateways {
        let at = https(gateway);
        let simple = Client::new(at, "simple.example", &ours.pem(), None);
        let next = ours.pair(&names);
        simple.until_shown(&shown).await;

        // Somebody else's client sees the same.
        let roots = edge.mesh.run.path("roots.pem");
        std::fs::write(&roots, ours.pem()).unwrap();
        let said = std::process::Command::new("openssl")
            .args([
                "s_client",
                "-servername",
                "simple.example",
                "-verify_return_error",
                "-connect",
            ])
            .arg(at.to_string())
            .args(["-verify_hostname", "simple.example", "-CAfile"])
            .arg(&roots)
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
        assert!(said.contains("issuer=CN = ours"), "{said}");

        let replacement = secret("web", Some(&next), Some(&partners.pem()));
        replaced_live(&simple, &shown, &next, async || {
            put(&edge, &replacement).await
        })
        .await;

        let got = plain.count();
        let (foreign, other) = (
            strangers.pair(&["client.example"]),
            partners.pair(&["other.example"]),
        );
        let to = |host, pair: Option<&Pair>| Client::new(at, host, &ours.pem(), pair);
        for (host, refused) in [
            ("mutual.example", None),
            ("mutual.example", Some(&foreign)),
            ("mutual.example", Some(&other)),
            ("optional.example", Some(&foreign)),
        ] {
            let answer = to(host, refused).get().await;
            assert!(
                answer.is_err(),
                "{}: {host} answers {:?}",
                gateway.name,
                answer.unwrap().0
            );
        }
        assert_eq!(plain.count(), got, "nothing came through");
        for (host, taken) in [
            ("mutual.example", Some(&client)),
            ("optional.example", Some(&client)),
            ("optional.example", None),
        ] {
            to(host, taken).get().await.unwrap();
        }
        let passed = Client::new(at, "passed.example", &own.certificate_pem(), None);
        let (seen, _) = passed.get().await.unwrap();
        assert!(seen.contains("\"sni\":\"passed.example\""), "{seen}");
        all.push(next.clone());
        shown = next;
    }

    // The gateway as a client of its own server, with a certificate that was uploaded as well.
    let through = |credential: &str, n: SocketAddr| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{ name: itself, namespace: shop }}\nspec:\n  \
             hosts: [itself.example]\n  location: MESH_EXTERNAL\n  resolution: STATIC\n  \
             ports: [{{ number: 80, name: http, protocol: HTTP }}]\n  \
             endpoints: [{{ address: {}, ports: {{ http: {HTTPS} }} }}]\n---\n\
             apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{ name: itself, namespace: shop }}\nspec:\n  \
             host: itself.example\n  trafficPolicy: {{ tls: {{ mode: MUTUAL, sni: mutual.example, \
             subjectAltNames: [mutual.example], credentialName: {credential} }} }}\n---\n\
             apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{ name: itself, namespace: shop }}\nspec:\n  \
             hosts: ['*']\n  gateways: [edge]\n  http: [{{ rewrite: {{ authority: mutual.example }}, route: [{{ destination: {{ host: itself.example }} }}] }}]\n",
            n.ip()
        )
    };
    for gateway in &edge.gateways {
        edge.mesh
            .apply(&through("client", gateway.address))
            .await
            .unwrap();
        gateway
            .answers("/", |answer| answer.status == 200)
            .await
            .unwrap();
    }

    // No key is anywhere that somebody could read it.
    let mut places = vec![("etcd", etcd(&edge))];
    for path in [
        "/v1/history",
        "/apis/weft.mesh/v1/tlssecrets",
        "/apis/weft.mesh/v1/tlssecrets?watch=true&timeoutSeconds=1",
    ] {
        let answer = edge.mesh.call(Method::GET, path, None).await.unwrap();
        places.push((path, answer.ok().unwrap().body));
    }
    let issuer = edge.mesh.issuer.as_ref().unwrap();
    for process in [&edge.mesh.api, issuer, &edge.mesh.pusher] {
        let log = std::fs::read_to_string(process.log()).unwrap();
        places.push((process.name(), log));
    }
    for gateway in &edge.gateways {
        let dump = gateway.envoy.ask("/config_dump").await.unwrap().body;
        assert!(dump.contains("istio-system/web"), "{dump}");
        places.push((&gateway.name, dump));
    }
    for (place, text) in &places {
        assert!(!text.is_empty(), "{place}");
        for line in all.iter().flat_map(Pair::secrets) {
            assert!(!text.contains(line), "{place} holds a key");
        }
    }
    assert!(places[0].1.contains("sealedPrivateKey"));
    edge.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_watched_and_replaced_under_load() {
    let edge = start("files").await;
    let ours = Authority::new("ours");
    let plain = backend(&edge, 30, None).await;
    let mut shown = ours.pair(&["simple.example"]);
    let dir = edge.mesh.run.path("certs");
    std::fs::create_dir(&dir).unwrap();
    // As volumes are mounted: the files are links through a link, which is replaced at once.
    for name in ["web.key", "web.pem"] {
        std::os::unix::fs::symlink(format!("..data/{name}"), dir.join(name)).unwrap();
    }
    let write = |version: &str, pair: &Pair| {
        std::fs::create_dir(dir.join(version)).unwrap();
        std::fs::write(dir.join(version).join("web.key"), &pair.key).unwrap();
        std::fs::write(dir.join(version).join("web.pem"), &pair.chain).unwrap();
        std::os::unix::fs::symlink(version, dir.join("..new")).unwrap();
        std::fs::rename(dir.join("..new"), dir.join("..data")).unwrap();
    };
    write("..first", &shown);
    let path = dir.to_str().unwrap();
    let tls =
        format!("mode: SIMPLE, serverCertificate: {path}/web.pem, privateKey: {path}/web.key");
    let document = servers(&[("simple", tls)], &plain, plain.address());
    edge.mesh.apply(&document).await.unwrap();
    for gateway in &edge.gateways {
        let client = Client::new(https(gateway), "simple.example", &ours.pem(), None);
        let next = ours.pair(&["simple.example"]);
        replaced_live(&client, &shown, &next, async || write(&gateway.name, &next)).await;
        shown = next;
    }
    for gateway in &edge.gateways {
        let client = Client::new(https(gateway), "simple.example", &ours.pem(), None);
        client.until_shown(&shown).await;
    }
    edge.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_of_another_namespace_is_refused_the_secret() {
    let edge = start("refused").await;
    let ours = Authority::new("ours");
    put(
        &edge,
        &secret("web", Some(&ours.pair(&["simple.example"])), None),
    )
    .await;
    let at = edge.mesh.net.at(40, HTTPS);
    let document = workload("bank", "thief", at, &[("app", "thief")]);
    edge.mesh.apply(&document).await.unwrap();
    let mut bootstrap = edge
        .mesh
        .bootstrap("bank", "thief", Variant::Delta)
        .await
        .unwrap();
    let pusher = bootstrap["static_resources"]["clusters"]
        .as_array()
        .unwrap()
        .iter()
        .find(|cluster| cluster["name"] == "weft-xds")
        .unwrap();
    let source = pusher["transport_socket"]["typed_config"]["common_tls_context"]
        ["tls_certificate_sds_secret_configs"][0]["sds_config"]
        .clone();
    assert!(source.is_object(), "{pusher}");
    bootstrap["static_resources"]["listeners"] = json!([{
        "name": "stolen",
        "address": weft_tests::envoy::socket_address(at),
        "filter_chains": [{
            "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {"tls_certificate_sds_secret_configs": [
                    {"name": "istio-system/web", "sds_config": source},
                ]},
            }},
            "filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": "in", "cluster": "weft-xds",
            }}],
        }],
    }]);
    let admin = edge.mesh.net.at(41, 9901);
    let thief = Envoy::start(&edge.mesh.run, "thief", Version::Newest, bootstrap, admin)
        .await
        .unwrap();
    let issuer = edge.mesh.issuer.as_ref().unwrap();
    wait::until("the refusal", wait::PATIENCE, async || {
        let log = std::fs::read_to_string(issuer.log())?;
        let told =
            log.contains("istio-system/web") && log.contains("which is of another namespace");
        let metrics = http::get(format!("http://{}/metrics", edge.mesh.net.at(1, 18011))).await?;
        let counted = metrics
            .body
            .contains("weft_issuer_refusals_total{reason=\"authorization\"}");
        match told && counted && thief.stat("sds.istio-system/web.update_failure").await? > 0 {
            true => Ok(()),
            false => bail!("logged: {told}, counted: {counted}"),
        }
    })
    .await
    .unwrap();
    let client = Client::new(at, "simple.example", &ours.pem(), None);
    assert!(client.get().await.is_err());
    let certificates = thief.ask("/certs").await.unwrap().body;
    assert!(!certificates.contains("simple.example"), "{certificates}");
    edge.finish().await;
}
