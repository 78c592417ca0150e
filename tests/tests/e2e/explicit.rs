//! Sidecars with explicit interception: the HTTP proxy port, inbound listeners on the workload's address, and what a Sidecar
//! resource binds and limits.

use std::net::SocketAddr;

use weft_tests::backend::tcp::TcpEcho;
use weft_tests::{envoy, http, wait};

use crate::edge::{is, service, who};
use crate::sidecars::{HTTP_PROXY, Sidecars, client_entry, first_line, until_accepted};

/// The whole mesh's outbound policy.
pub(crate) fn outbound_policy(mode: &str) -> String {
    format!(
        "apiVersion: weft.mesh/v1\nkind: MeshConfig\nmetadata: {{ name: default, namespace: istio-system }}\n\
         spec: {{ outboundTrafficPolicy: {{ mode: {mode} }} }}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_calls_through_its_sidecar() {
    let mesh = Sidecars::start("explicit").await.unwrap();
    mesh.all_reach_all().await.unwrap();
    for client in &mesh.clients {
        for host in ["orders.shop", "orders.shop.svc.cluster.local"] {
            let answer = client.get(&format!("http://{host}/a?b=c")).await.unwrap();
            let seen = answer.json().unwrap();
            let found = ["service", "path", "authority"].map(|field| seen[field].as_str().unwrap());
            assert_eq!(found, ["orders", "/a?b=c", host], "{}", client.name);
        }
        // Clients of HTTP leave out the port that is HTTP's own; others need not.
        let get = "GET http://orders.shop:80/ HTTP/1.1\r\nHost: orders.shop:80\r\n\r\n";
        let line = first_line(SocketAddr::new(client.ip, HTTP_PROXY), get).await;
        assert_eq!(line.unwrap().trim(), "HTTP/1.1 200 OK", "{}", client.name);
        for to in [
            "orders:80",
            "orders.shop.svc.cluster.local:80",
            "1.2.3.4:443",
        ] {
            let connect = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n");
            let line = first_line(SocketAddr::new(client.ip, HTTP_PROXY), &connect).await;
            let line = line.unwrap();
            assert!(line.starts_with("HTTP/1.1 405 "), "{}: {line}", client.name);
        }
    }
    for server in &mesh.servers {
        // What the application saw came through the inbound listener, all of it.
        let stat = format!("http.inbound_{}.downstream_rq_2xx", server.port());
        wait::until("the inbound requests", envoy::PATIENCE, async || {
            let (passed, seen) = (server.envoy.stat(&stat).await?, server.backend.count());
            anyhow::ensure!(passed == seen && seen > 0, "{passed} of {seen}");
            Ok(())
        })
        .await
        .unwrap_or_else(|error| panic!("{}: {error}", server.name));
    }
    mesh.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_hosts_are_reached_only_where_that_is_allowed() {
    let mesh = Sidecars::start("unknown").await.unwrap();
    let outside = mesh.backend(40, "outside").await.unwrap();
    let port = mesh.servers[0].port();
    let unknown = [
        (
            format!("http://{}/", outside.address()),
            "outside v1".to_owned(),
        ),
        // A name that every resolver knows.
        (
            format!("http://localhost:{port}/"),
            format!("orders {}", mesh.servers[0].name),
        ),
    ];
    for (mode, allowed) in [
        ("ALLOW_ANY", true),
        ("REGISTRY_ONLY", false),
        ("ALLOW_ANY", true),
    ] {
        mesh.mesh.apply(&outbound_policy(mode)).await.unwrap();
        for client in &mesh.clients {
            for (url, expected) in &unknown {
                let answers = client.answers(url, |answer| match allowed {
                    true => is(expected)(answer),
                    false => answer.status == 502,
                });
                answers.await.unwrap();
            }
            let answer = client.get("http://orders/").await.unwrap();
            assert_eq!(answer.status, 200, "{}: {}", client.name, answer.body);
        }
    }
    mesh.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn source_labels_concern_the_client_that_carries_them() {
    let mesh = Sidecars::start("labels").await.unwrap();
    let stock = mesh.backend(40, "stock").await.unwrap();
    let route = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: orders, namespace: shop }\nspec:\n  \
                 hosts: [orders]\n  http:\n  - match: [{ sourceLabels: { tier: gold } }]\n    route: [{ destination: { host: stock } }]\n  \
                 - route: [{ destination: { host: orders } }]\n";
    mesh.mesh
        .apply(&[&service("stock", &[stock.address()]), route].join("---\n"))
        .await
        .unwrap();
    for gold in [0, 1] {
        // Every second client is gold, then the others are.
        let tier = |n: usize| if n % 2 == gold { "gold" } else { "tin" };
        let entries = mesh.clients.iter().enumerate();
        let entries = entries.map(|(n, it)| client_entry(&it.name, it.ip, &[("tier", tier(n))]));
        let entries: Vec<String> = entries.collect();
        mesh.mesh.apply(&entries.join("---\n")).await.unwrap();
        for (n, client) in mesh.clients.iter().enumerate() {
            let expected = if tier(n) == "gold" { "stock" } else { "orders" };
            let right =
                |answer: &http::Answer| answer.status == 200 && who(answer).starts_with(expected);
            client.answers("http://orders/", right).await.unwrap();
            // A worker thread that has not heard of it yet must not decide; the last of many does.
            let answer = client.get("http://orders/").await.unwrap();
            assert!(right(&answer), "{}: {}", client.name, answer.body);
        }
    }
    mesh.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_resource_binds_and_limits_what_goes_out() {
    let mesh = Sidecars::start("egress").await.unwrap();
    let net = &mesh.mesh.net;
    let stock = mesh.backend(40, "stock").await.unwrap();
    let database = TcpEcho::start(net.at(41, 3306), "db").await.unwrap();
    let tcp = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: { name: db, namespace: shop }\nspec:\n  \
               hosts: [db.shop.svc.cluster.local]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  \
               ports: [{ number: 3306, name: tcp, protocol: TCP }]\n";
    let tcp = format!(
        "{tcp}  endpoints: [{{ address: {} }}]\n",
        database.address().ip()
    );
    let sidecars = |mode: &str| {
        let each = mesh.clients.iter().zip(30..).map(|(client, n)| {
            format!(
                "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{ name: {name}, namespace: shop }}\nspec:\n  \
                 workloadSelector: {{ labels: {{ client: {name} }} }}\n  outboundTrafficPolicy: {{ mode: {mode} }}\n  egress:\n  \
                 - port: {{ number: 9081, protocol: HTTP, name: out }}\n    bind: {}\n    hosts: [./orders.shop.svc.cluster.local]\n  \
                 - port: {{ number: 3306, protocol: TCP, name: db }}\n    hosts: [./db.shop.svc.cluster.local]\n  \
                 - hosts: [./orders.shop.svc.cluster.local]\n",
                net.ip(n),
                name = client.name,
            )
        });
        each.collect::<Vec<_>>().join("---\n")
    };
    let services = [service("stock", &[stock.address()]), tcp];
    mesh.mesh.apply(&services.join("---\n")).await.unwrap();
    for client in &mesh.clients {
        // Before: everything is seen.
        client
            .answers("http://stock/", is("stock v1"))
            .await
            .unwrap();
    }
    for mode in ["REGISTRY_ONLY", "ALLOW_ANY"] {
        mesh.mesh.apply(&sidecars(mode)).await.unwrap();
        for (client, n) in mesh.clients.iter().zip(30..) {
            let name = &client.name;
            // Not imported, so unknown: refused, or looked for in the DNS, which does not know it.
            let status = if mode == "REGISTRY_ONLY" { 502 } else { 503 };
            let refused = |answer: &http::Answer| answer.status == status;
            client.answers("http://stock/", refused).await.unwrap();
            let answer = client.get("http://orders/").await.unwrap();
            assert_eq!(answer.status, 200, "{name}: {}", answer.body);

            let bound = net.at(n, 9081);
            let ask = async |host: &str, accept: &dyn Fn(&http::Answer) -> bool| {
                let request = || {
                    http::client()
                        .get(format!("http://{bound}/"))
                        .header("host", host)
                };
                let ask = async || http::send(request()).await;
                until_accepted(name, host, accept, ask).await.unwrap()
            };
            ask("orders", &|answer| {
                answer.status == 200 && who(answer).starts_with("orders")
            })
            .await;
            ask("stock", &refused).await;
            let unknown = stock.address().to_string();
            ask(&unknown, &|answer| match mode {
                "ALLOW_ANY" => is("stock v1")(answer),
                _ => answer.status == 502,
            })
            .await;

            let line = first_line(SocketAddr::new(client.ip, 3306), "")
                .await
                .unwrap();
            assert_eq!(line, "db\n", "{name}");
        }
    }
    mesh.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_resource_says_where_inbound_goes() {
    let mesh = Sidecars::start("ingress").await.unwrap();
    mesh.all_reach_all().await.unwrap();
    let documents = mesh.servers.iter().map(|server| {
        let sidecar = format!(
            "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{ name: {name}, namespace: shop }}\nspec:\n  \
             workloadSelector: {{ labels: {{ server: {name} }} }}\n  ingress:\n  \
             - port: {{ number: 9443, protocol: HTTP, name: in }}\n    defaultEndpoint: 127.0.0.1:{}\n",
            server.port(),
            name = server.name,
        );
        [sidecar, server.entry(9443)].join("---\n")
    });
    let documents: Vec<String> = documents.collect();
    mesh.mesh.apply(&documents.join("---\n")).await.unwrap();
    for server in &mesh.servers {
        let url = format!("http://{}/", SocketAddr::new(server.ip, 9443));
        let expected = format!("orders {}", server.name);
        let ask = async || http::get(&url).await;
        until_accepted("anyone", &url, is(&expected), ask)
            .await
            .unwrap();
        let old = SocketAddr::new(server.ip, server.port());
        wait::until(
            "the former listener to be gone",
            envoy::PATIENCE,
            async || match tokio::net::TcpStream::connect(old).await {
                Ok(_) => Err("it accepts"),
                Err(_) => Ok(()),
            },
        )
        .await
        .unwrap_or_else(|error| panic!("{}: {error}", server.name));
    }
    mesh.all_reach_all().await.unwrap();
    mesh.finish().await;
}
