//! The probes of WorkloadGroups as active health checks: over HTTP, TCP and gRPC, an endpoint that fails leaves, and comes back.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use weft_tests::backend::Backend;
use weft_tests::backend::tcp::TcpEcho;
use weft_tests::{envoy, wait};

use crate::edge::{Edge, is, routes, workload};

/// The service that gRPC's health protocol is asked for.
const ASKED: &str = "shop.Orders";

/// What is probed: its name is the service's.
enum Probed {
    Http(Arc<Backend>),
    Tcp(SocketAddr, Option<TcpEcho>),
    Grpc(HealthReporter),
}

impl Probed {
    const NAMES: [&str; 3] = ["http", "tcp", "grpc"];

    async fn start(name: &str, ip: IpAddr, backend: &Arc<Backend>) -> Self {
        match name {
            "http" => Self::Http(Arc::clone(backend)),
            "tcp" => Self::Tcp(SocketAddr::new(ip, 9001), None),
            _ => Self::Grpc(grpc(SocketAddr::new(ip, 9001)).await),
        }
    }

    fn probe(name: &str) -> String {
        match name {
            "http" => "httpGet: { path: /healthz, port: 9000 }".into(),
            "tcp" => "tcpSocket: { port: 9001 }".into(),
            _ => format!("grpc: {{ port: 9001, service: {ASKED} }}"),
        }
    }

    async fn set(&mut self, healthy: bool) {
        match self {
            Self::Http(backend) => backend.set_healthy(healthy),
            Self::Tcp(at, echo) => {
                echo.take();
                if healthy {
                    // The former listener is closed by a task that may not have run yet.
                    let start = async || TcpEcho::start(*at, "probed").await;
                    *echo = Some(
                        wait::until("the port", envoy::PATIENCE, start)
                            .await
                            .unwrap(),
                    );
                }
            }
            Self::Grpc(reporter) => {
                let status = match healthy {
                    true => ServingStatus::Serving,
                    false => ServingStatus::NotServing,
                };
                reporter.set_service_status(ASKED, status).await;
            }
        }
    }
}

/// A server of gRPC's health protocol.
async fn grpc(at: SocketAddr) -> HealthReporter {
    let (reporter, service) = tonic_health::server::health_reporter();
    let listener = tokio::net::TcpListener::bind(at).await.unwrap();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(incoming));
    reporter
}

/// A service of two workloads, whose group has the probe of its name.
fn documents(name: &str, protocol: &str, members: [SocketAddr; 2]) -> String {
    let service = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{ name: {name}, namespace: shop }}\nspec:\n  \
         hosts: [{name}.shop.svc.cluster.local]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  \
         ports: [{{ number: 80, name: http, protocol: {protocol} }}]\n  workloadSelector: {{ labels: {{ app: {name} }} }}\n"
    );
    let group = format!(
        "apiVersion: networking.istio.io/v1\nkind: WorkloadGroup\nmetadata: {{ name: {name}, namespace: shop }}\nspec:\n  \
         metadata: {{ labels: {{ app: {name} }} }}\n  template: {{ ports: {{ http: 9000 }} }}\n  \
         probe: {{ periodSeconds: 1, timeoutSeconds: 1, failureThreshold: 2, successThreshold: 1, {} }}\n",
        Probed::probe(name)
    );
    let members = [1, 2].map(|n: usize| {
        let name_of = format!("{name}-{n}");
        workload("shop", &name_of, members[n - 1], &[("app", name)])
    });
    [vec![service, group], members.to_vec()]
        .concat()
        .join("---\n")
}

fn cluster(name: &str) -> String {
    format!("outbound|80||{name}.shop.svc.cluster.local")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_probe_leaves_the_pool_and_comes_back() {
    let edge = Edge::start("probes").await.unwrap();
    let (mut probed, mut backends) = (Vec::new(), Vec::new());
    let (mut all, mut paths) = (Vec::new(), String::new());
    for (n, name) in (0..).zip(Probed::NAMES) {
        let at = [40 + n, 50 + n];
        for (n, version) in at.into_iter().zip(["v1", "v2"]) {
            let backend = Arc::new(edge.backend(n, name, version).await.unwrap());
            let mut one = Probed::start(name, edge.mesh.net.ip(n), &backend).await;
            backends.push(backend);
            one.set(true).await;
            probed.push((name, version, one));
        }
        let protocol = if name == "grpc" { "GRPC" } else { "HTTP" };
        let members = at.map(|n| edge.mesh.net.at(n, 9000));
        all.push(documents(name, protocol, members));
        paths += &format!(
            "- match: [{{ uri: {{ prefix: /{name} }} }}]\n  route: [{{ destination: {{ host: {name} }} }}]\n"
        );
    }
    all.push(routes("probes", &paths));
    edge.mesh.apply(&all.join("---\n")).await.unwrap();
    for (healthy, state) in [
        (true, "HEALTHY"),
        (false, "failed_active_health_check"),
        (true, "HEALTHY"),
    ] {
        for (_, _, one) in probed.iter_mut().filter(|(_, version, _)| *version == "v2") {
            one.set(healthy).await;
        }
        for gateway in &edge.gateways {
            for (n, name) in (50..).zip(Probed::NAMES) {
                let what = format!("v2 of {name} to be {state}, seen by {}", gateway.name);
                let address = edge.mesh.net.at(n, 9000).to_string();
                wait::until(&what, envoy::PATIENCE, async || {
                    let health = gateway.envoy.endpoints(&cluster(name)).await?;
                    let found = health.get(&address).map_or("absent", String::as_str);
                    anyhow::ensure!(found.split(',').any(|flag| flag == state), "{found}");
                    Ok(())
                })
                .await
                .unwrap();
                let path = format!("/{name}");
                if healthy {
                    gateway
                        .answers(&path, is(&format!("{name} v2")))
                        .await
                        .unwrap();
                    continue;
                }
                let expected = format!("{name} v1");
                // A worker thread may hear of it a moment later.
                wait::until("twenty answers of v1", envoy::PATIENCE, async || {
                    for _ in 0..20 {
                        let answer = gateway.get(&path).await?;
                        anyhow::ensure!(is(&expected)(&answer), "{answer:?}");
                    }
                    Ok(())
                })
                .await
                .unwrap();
            }
        }
    }
    edge.finish().await;
}
