//! Two meshes of different trust domains, each with an authority of its own, whose sidecars speak mutual TLS to each other.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use weft_tests::backend::{Backend, Settings};
use weft_tests::mesh::{Mesh, Options};
use weft_tests::{envoy, http, wait};

use crate::edge::{every_kind, kind_name, no_complaints, selecting_service};
use crate::mtls::{Identity, openssl, over_tls, refused};
use crate::sidecars::{Client, Server};

const EAST: &str = "east.example";
const WEST: &str = "west.example";
/// Who calls from the east.
const CART: &str = "spiffe://east.example/ns/shop/sa/cart";

async fn mesh(trust_domain: &str) -> Result<Mesh> {
    let environment = [("WEFT_TRUST_DOMAIN", trust_domain.to_owned())];
    let options = Options {
        issuer: Some(&[]),
        environment: &environment,
        ..Options::default()
    };
    Mesh::start_with(trust_domain, options).await
}

/// A WorkloadEntry of namespace `shop`.
fn entry(name: &str, at: SocketAddr, app: &str, account: &str) -> String {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "address": at.ip().to_string(), "ports": {"http": at.port()},
            "labels": {"app": app}, "serviceAccount": account,
        },
    })
    .to_string()
}

/// Has a mesh know another trust domain, by what the other publishes.
async fn federate(mesh: &Mesh, other: &Mesh, trust_domain: &str) -> Result<()> {
    let bundle = http::get(format!("http://{}/bundle", other.net.at(1, 18011))).await?;
    let profile = json!({
        "type": "https_spiffe",
        "endpointSPIFFEID": format!("spiffe://{trust_domain}/ns/weft-system/sa/cert-issuer"),
    });
    let config = json!({
        "apiVersion": "weft.mesh/v1", "kind": "MeshConfig",
        "metadata": {"name": "default", "namespace": "istio-system"},
        "spec": {"allowLocalBundleEndpoints": true, "federatedTrustDomains": [{
            "trustDomain": trust_domain,
            "bundleEndpointURL": format!("https://{}/bundle", other.net.at(1, 18010)),
            "bundleEndpointProfile": profile,
            "trustDomainBundle": bundle.ok()?.body,
        }]},
    });
    mesh.apply(&config.to_string()).await?;
    Ok(())
}

/// The west: servers that take mutual TLS only, and let nobody in but the east's `cart`.
async fn servers(west: &Mesh) -> Result<Vec<Server>> {
    let policies = [
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
            "metadata": {"name": "strict", "namespace": "shop"}, "spec": {"mtls": {"mode": "STRICT"}},
        }),
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": "cart-only", "namespace": "shop"},
            "spec": {"rules": [{"from": [{"source": {"principals": [CART.trim_start_matches("spiffe://")]}}]}]},
        }),
    ];
    let mut documents: Vec<String> = policies.iter().map(Value::to_string).collect();
    documents.push(selecting_service("orders"));
    let (mut servers, mut backends) = (Vec::new(), Vec::new());
    for (n, kind) in (20..).zip(every_kind()) {
        let name = format!("server-{}", kind_name(kind));
        let settings = Settings {
            service: "orders".into(),
            version: name.clone(),
            ..Settings::default()
        };
        let backend = Backend::start(([127, 0, 0, 1], 0).into(), settings).await?;
        let at = west.net.at(n, backend.address().port());
        documents.push(entry(&name, at, "orders", "orders"));
        backends.push((n, kind, name, backend));
    }
    west.apply(&documents.join("\n---\n")).await?;
    for (n, (variant, version), name, backend) in backends {
        servers.push(Server {
            envoy: west
                .envoy("shop", &name, variant, version, u16::from(n))
                .await?,
            ip: west.net.ip(n),
            name,
            backend,
        });
    }
    for server in &servers {
        server.envoy.ready().await?;
    }
    Ok(servers)
}

/// The east: sidecars of `cart`.
async fn clients(east: &Mesh) -> Result<Vec<Client>> {
    let named: Vec<_> = (10..)
        .zip(every_kind())
        .map(|(n, kind)| (n, kind, format!("cart-{}", kind_name(kind))))
        .collect();
    let mut documents = vec![entry("other", east.net.at(40, 1), "other", "other")];
    for (n, _, name) in &named {
        documents.push(entry(name, east.net.at(*n, 1), "cart", "cart"));
    }
    east.apply(&documents.join("\n---\n")).await?;
    let mut clients = Vec::new();
    for (n, (variant, version), name) in named {
        let envoy = east
            .envoy("shop", &name, variant, version, u16::from(n))
            .await?;
        envoy.ready().await?;
        clients.push(Client {
            name,
            envoy,
            ip: east.net.ip(n),
        });
    }
    Ok(clients)
}

/// What the east knows of the west's servers: where they are, and by which SPIFFE ID.
fn partner(servers: &[Server], account: &str) -> String {
    let endpoints = servers
        .iter()
        .map(|server| json!({"address": server.ip.to_string(), "ports": {"http": server.port()}}));
    let documents = [
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
            "metadata": {"name": "partner", "namespace": "shop"},
            "spec": {
                "hosts": ["orders.west.example"], "location": "MESH_EXTERNAL", "resolution": "STATIC",
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                "endpoints": endpoints.collect::<Vec<_>>(),
                "subjectAltNames": [format!("spiffe://{WEST}/ns/shop/sa/{account}")],
            },
        }),
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"name": "partner", "namespace": "shop"},
            "spec": {"host": "orders.west.example", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}},
        }),
    ];
    documents.map(|it| it.to_string()).join("\n---\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sidecars_of_two_trust_domains_speak_to_each_other_while_they_are_federated() {
    let (east, west) = tokio::join!(mesh(EAST), mesh(WEST));
    let (east, west) = (east.unwrap(), west.unwrap());
    let servers = servers(&west).await.unwrap();
    let clients = clients(&east).await.unwrap();
    let cart = Identity::signed(&east, &clients[0].name).await.unwrap();
    let other = Identity::signed(&east, "other").await.unwrap();
    for server in &servers {
        refused(server, &cart.flags()).await.unwrap();
    }

    // Inbound: the certificate is verified by the east's roots, and its SPIFFE ID is what policies go by.
    federate(&west, &east, EAST).await.unwrap();
    for server in &servers {
        let answer = wait::until("the east to be known", envoy::PATIENCE, async || {
            over_tls(server, &cart.flags()).await
        });
        let answer = answer.await.unwrap();
        assert!(answer.contains(&format!("URI={CART}")), "{answer}");
        let got = server.backend.count();
        let request = b"GET / HTTP/1.1\r\nhost: orders\r\nconnection: close\r\n\r\n";
        let answer = openssl(server, &other.flags(), request).await.unwrap();
        assert!(answer.contains("HTTP/1.1 403"), "{answer}");
        assert_eq!(server.backend.count(), got, "nothing came through");
    }

    // Outbound: the east's sidecars take a server by the west's roots, under the name that the ServiceEntry says.
    federate(&east, &west, WEST).await.unwrap();
    let url = "http://orders.west.example/";
    east.apply(&partner(&servers, "orders")).await.unwrap();
    for client in &clients {
        let seen = client.answers(url, |answer| {
            answer.status == 200 && answer.body.contains(&format!("URI={CART}"))
        });
        seen.await.unwrap();
    }
    east.apply(&partner(&servers, "impostor")).await.unwrap();
    for client in &clients {
        let refused = client.answers(url, |answer| answer.status == 503);
        refused.await.unwrap();
    }
    east.apply(&partner(&servers, "orders")).await.unwrap();
    for client in &clients {
        client
            .answers(url, |answer| answer.status == 200)
            .await
            .unwrap();
    }

    // Nobody of the east is known any more.
    let path = "/apis/weft.mesh/v1/namespaces/istio-system/meshconfigs/default";
    let deleted = west.call(Method::DELETE, path, None).await.unwrap();
    deleted.ok().unwrap();
    for server in &servers {
        wait::until("the east to be forgotten", envoy::PATIENCE, async || {
            refused(server, &cart.flags()).await?;
            ensure!(over_tls(server, &cart.flags()).await.is_err(), "it answers");
            Ok(())
        })
        .await
        .unwrap();
    }
    no_complaints(
        clients
            .iter()
            .map(|it| &it.envoy)
            .chain(servers.iter().map(|it| &it.envoy)),
    )
    .await;
}
