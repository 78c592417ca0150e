//! Connections rather than requests: TCP by who calls whom, TLS by server name without ending it.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use weft_tests::backend::tcp::TcpEcho;
use weft_tests::backend::tls::Identity;
use weft_tests::backend::{Backend, Settings};
use weft_tests::http::{self, Answer};
use weft_tests::{envoy, wait};

use crate::edge::Edge;
use crate::sidecars::{Sidecars, first_line_from};

/// A service outside of the mesh with one port and one endpoint.
fn service(host: &str, (port, protocol): (u16, &str), at: SocketAddr) -> String {
    let name = host.replace('.', "-");
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{ name: {name}, namespace: shop }}\nspec:\n  \
         hosts: [{host}]\n  resolution: STATIC\n  ports: [{{ number: {port}, name: main, protocol: {protocol} }}]\n  \
         endpoints: [{{ address: {}, ports: {{ main: {} }} }}]\n",
        at.ip(),
        at.port()
    )
}

fn gateway(port: u16, protocol: &str, hosts: &str, more: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{ name: l4, namespace: shop }}\nspec:\n  \
         selector: {{ istio: ingressgateway }}\n  \
         servers: [{{ port: {{ number: {port}, name: l4, protocol: {protocol} }}, hosts: {hosts}{more} }}]\n"
    )
}

fn routes(hosts: &str, more: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{ name: l4, namespace: shop }}\nspec:\n  \
         hosts: {hosts}\n  gateways: [l4]\n  {more}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_goes_by_the_addresses_of_both_ends() {
    let edge = Edge::start("l4").await.unwrap();
    let net = &edge.mesh.net;
    let names = ["gold", "ten", "heavy", "light", "never"];
    let mut echoes = Vec::new();
    let mut documents = vec![gateway(3306, "TCP", "['*']", "")];
    for (n, name) in (40..).zip(names) {
        echoes.push(TcpEcho::start(net.at(n, 3306), name).await.unwrap());
        let host = format!("{name}.example");
        documents.push(service(&host, (3306, "TCP"), net.at(n, 3306)));
    }
    let (gold, tin, first) = (net.ip(60), net.ip(61), edge.gateways[0].address.ip());
    let rules = |weights: [u32; 2]| {
        let [heavy, light] = weights;
        let to = |name: &str| format!("{{ destination: {{ host: {name}.example }} }}");
        routes(
            "['*']",
            &format!(
                "tcp:\n  - match: [{{ sourceSubnet: {gold}/32 }}]\n    route: [{}]\n  \
                 - match: [{{ destinationSubnets: [{first}/32] }}]\n    route: [{}]\n  \
                 - match: [{{ port: 3307 }}, {{ destinationSubnets: [1.2.3.0/24] }}]\n    route: [{}]\n  \
                 - route:\n    - {{ destination: {{ host: heavy.example }}, weight: {heavy} }}\n    \
                 - {{ destination: {{ host: light.example }}, weight: {light} }}",
                to("gold"),
                to("ten"),
                to("never"),
            ),
        )
    };
    documents.push(rules([80, 20]));
    let log = edge.mesh.run.path("access.log");
    documents.push(format!(
        "apiVersion: weft.mesh/v1\nkind: MeshConfig\nmetadata: {{ name: default, namespace: istio-system }}\n\
         spec: {{ accessLogFile: {}, accessLogFormat: \"%DOWNSTREAM_LOCAL_ADDRESS% %UPSTREAM_CLUSTER% %RESPONSE_CODE%\\n\" }}\n",
        log.display()
    ));
    edge.mesh.apply(&documents.join("---\n")).await.unwrap();
    let who = async |from: IpAddr, gateway: IpAddr| {
        let line = first_line_from(from, SocketAddr::new(gateway, 3306), "").await?;
        Ok::<_, anyhow::Error>(line.trim().to_owned())
    };
    for gateway in &edge.gateways {
        let (name, at) = (&gateway.name, gateway.address.ip());
        wait::until("the listener", envoy::PATIENCE, async || who(tin, at).await)
            .await
            .unwrap();
        // Envoy looks at the destination before it looks at the source.
        let expected = if at == first { "ten" } else { "gold" };
        assert_eq!(who(gold, at).await.unwrap(), expected, "{name}");
        let mut counts = std::collections::BTreeMap::<String, u32>::new();
        for _ in 0..100 {
            *counts.entry(who(tin, at).await.unwrap()).or_default() += 1;
        }
        if at == first {
            assert_eq!(counts.get("ten"), Some(&100), "{name}: {counts:?}");
        } else {
            // Binomial: mean 80, deviation 4; seven deviations.
            let heavy = counts.get("heavy").copied().unwrap_or_default();
            assert!((52..100).contains(&heavy), "{name}: {counts:?}");
            assert_eq!(
                counts.get("light"),
                Some(&(100 - heavy)),
                "{name}: {counts:?}"
            );
        }
    }
    // Every connection is logged when it ends; Envoy writes what it has every few seconds.
    for gateway in &edge.gateways {
        let cluster = if gateway.address.ip() == first {
            "outbound|3306||ten.example"
        } else {
            "outbound|3306||gold.example"
        };
        let line = format!("{}:3306 {cluster} 0\n", gateway.address.ip());
        wait::until(&line, envoy::PATIENCE, async || {
            let text = std::fs::read_to_string(&log)?;
            anyhow::ensure!(text.contains(&line), "the log says: {text:.500}");
            Ok(())
        })
        .await
        .unwrap();
    }
    edge.mesh.apply(&rules([0, 100])).await.unwrap();
    for gateway in &edge.gateways[1..] {
        let at = gateway.address.ip();
        wait::until("the new weights", envoy::PATIENCE, async || {
            for _ in 0..50 {
                let answer = who(tin, at).await?;
                anyhow::ensure!(answer == "light", "{answer}");
            }
            Ok(())
        })
        .await
        .unwrap_or_else(|error| panic!("{}: {error}", gateway.name));
    }
    edge.finish().await;
}

/// Two sites that speak TLS themselves, each with a certificate of its own.
struct Sites {
    identities: Vec<(String, Identity)>,
    backends: Vec<Backend>,
}

impl Sites {
    async fn start(net: &weft_tests::net::Block, hosts: [&str; 2]) -> Self {
        let (mut identities, mut backends) = (Vec::new(), Vec::new());
        for (n, host) in (40..).zip(hosts) {
            let identity = Identity::self_signed(&[host]).unwrap();
            let settings = Settings {
                service: host.into(),
                tls: Some(identity.clone()),
                ..Settings::default()
            };
            backends.push(Backend::start(net.at(n, 9000), settings).await.unwrap());
            identities.push((host.to_owned(), identity));
        }
        Self {
            identities,
            backends,
        }
    }

    fn services(&self) -> String {
        let both = self.identities.iter().zip(&self.backends);
        let both = both.map(|((host, _), it)| service(host, (443, "TLS"), it.address()));
        both.collect::<Vec<_>>().join("---\n")
    }

    /// Asks for a page of a host, over TLS to an address, trusting the certificates of both sites and no other.
    async fn page(&self, host: &str, at: SocketAddr) -> Result<Answer> {
        http::install_crypto();
        let roots = self.identities.iter().map(|(_, identity)| {
            reqwest::Certificate::from_pem(identity.certificate_pem().as_bytes())
        });
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(envoy::PATIENCE)
            .resolve(host, at)
            .tls_certs_only(roots.collect::<Result<Vec<_>, _>>()?)
            .build()?;
        http::send(client.get(format!("https://{host}:{}/", at.port()))).await
    }

    /// Waits until each site is what answers to its name, with its own certificate.
    async fn answer(&self, who: &str, at: SocketAddr) {
        for (host, _) in &self.identities {
            let answer = wait::until("the site's page", envoy::PATIENCE, async || {
                self.page(host, at).await
            });
            let seen = answer
                .await
                .unwrap_or_else(|error| panic!("{who}: {error}"));
            let seen = seen.json().unwrap();
            let found = ["service", "sni", "scheme"].map(|field| seen[field].as_str());
            assert_eq!(
                found,
                [Some(&**host), Some(&**host), Some("https")],
                "{who}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_passes_tls_through_by_server_name() {
    let edge = Edge::start("sni").await.unwrap();
    let sites = Sites::start(&edge.mesh.net, ["a.example.com", "b.example.com"]).await;
    let route = |sni: &str, host: &str| {
        format!(
            "\n  - match: [{{ port: 8443, sniHosts: ['{sni}'] }}]\n    route: [{{ destination: {{ host: {host} }} }}]"
        )
    };
    let rules = |list: &[(&str, &str)]| {
        let list: String = list.iter().map(|(sni, host)| route(sni, host)).collect();
        routes("['*.example.com']", &format!("tls:{list}"))
    };
    let both = [
        ("a.example.com", "a.example.com"),
        ("b.example.com", "b.example.com"),
    ];
    let documents = [
        sites.services(),
        gateway(
            8443,
            "TLS",
            "['*.example.com']",
            ", tls: { mode: PASSTHROUGH }",
        ),
        rules(&both),
    ];
    edge.mesh.apply(&documents.join("---\n")).await.unwrap();
    let at = |gateway: &crate::edge::Gateway| SocketAddr::new(gateway.address.ip(), 8443);
    for gateway in &edge.gateways {
        sites.answer(&gateway.name, at(gateway)).await;
        for other in ["c.example.com", "a.example.org"] {
            let answer = sites.page(other, at(gateway)).await;
            assert!(answer.is_err(), "{}: {other}: {answer:?}", gateway.name);
        }
    }
    // The second name is let go; the others of the domain go to the first site.
    let rest = [both[0], ("*.example.com", "a.example.com")];
    edge.mesh.apply(&rules(&rest)).await.unwrap();
    for gateway in &edge.gateways {
        let refused = wait::until(
            "the first site's certificate",
            envoy::PATIENCE,
            async || match sites.page("b.example.com", at(gateway)).await {
                Err(error) if format!("{error:#}").contains("not valid for name") => Ok(()),
                other => Err(format!("{other:?}")),
            },
        );
        refused
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", gateway.name));
    }
    edge.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_tells_two_hosts_of_one_port_apart() {
    let mesh = Sidecars::start("egress-tls").await.unwrap();
    let sites = Sites::start(&mesh.mesh.net, ["a.example.com", "b.example.com"]).await;
    let sidecar = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: { name: default, namespace: shop }\nspec:\n  egress:\n  \
                   - port: { number: 9443, protocol: TLS, name: sites }\n    hosts: ['*/a.example.com', '*/b.example.com']\n  \
                   - hosts: ['./*']\n";
    mesh.mesh
        .apply(&[&sites.services(), sidecar].join("---\n"))
        .await
        .unwrap();
    for client in &mesh.clients {
        let at = SocketAddr::new(client.ip, 9443);
        sites.answer(&client.name, at).await;
        let answer = sites.page("c.example.com", at).await;
        assert!(answer.is_err(), "{}: {answer:?}", client.name);
    }
    mesh.finish().await;
}
