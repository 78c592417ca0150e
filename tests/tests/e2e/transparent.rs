//! Transparent interception for real: two network namespaces joined by a wire, applications that know nothing of a proxy, and
//! iptables that hand their connections to the sidecars.
//!
//! Where the machine makes no namespaces, this says so and checks nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use weft_tests::backend::tcp::TcpEcho;
use weft_tests::backend::{Backend, Settings};
use weft_tests::envoy::{self, Envoy, Version};
use weft_tests::http::{self, Answer};
use weft_tests::mesh::{Mesh, Variant};
use weft_tests::namespace::Namespace;
use weft_tests::skip::skip;
use weft_tests::{binaries, wait};

use crate::edge::{every_kind, is, kind_name, no_complaints};
use crate::explicit::outbound_policy;
use crate::sidecars::first_line;

/// The group that Envoy runs as: its own connections are not handed to it again.
const GROUP: &str = "1337";

const CLIENT: &str = "10.77.0.1";
const SERVER: &str = "10.77.0.2";
/// An address of the server's machine that no service has.
const OUTSIDE: &str = "10.77.0.3";

fn workload(name: &str, address: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n\
         metadata: {{ name: {name}, namespace: shop, labels: {{ app: {name} }}, annotations: {{ weft.mesh/interception: transparent }} }}\n\
         spec: {{ address: {address}, ports: {{ http: 9000 }} }}\n"
    )
}

fn service(
    name: &str,
    virtual_address: &str,
    port: u16,
    protocol: &str,
    endpoints: &str,
) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{ name: {name}, namespace: shop }}\nspec:\n  \
         hosts: [{name}.shop.svc.cluster.local]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  addresses: [{virtual_address}]\n  \
         ports: [{{ number: {port}, name: http, protocol: {protocol} }}]\n  {endpoints}\n"
    )
}

/// A service on the server's own address, where no policy speaks of it.
fn plain(name: &str, virtual_address: &str, port: u16, at: u16) -> String {
    let endpoints = format!("endpoints: [{{ address: {SERVER}, ports: {{ http: {at} }} }}]");
    service(name, virtual_address, port, "TCP", &endpoints)
}

fn policy() -> String {
    let by_subnet = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: wide, namespace: shop }\nspec:\n  \
                     hosts: [wide]\n  tcp:\n  - match: [{ destinationSubnets: [10.9.1.1/32] }]\n    \
                     route: [{ destination: { host: first } }]\n  \
                     - route: [{ destination: { host: second } }]\n";
    [
        workload("client", CLIENT),
        workload("orders", SERVER),
        service(
            "orders",
            "10.9.0.1",
            80,
            "HTTP",
            "workloadSelector: { labels: { app: orders } }",
        ),
        plain("first", "10.9.0.2", 3306, 7001),
        plain("second", "10.9.0.3", 3306, 7002),
        plain("third", "10.9.0.4", 80, 7003),
        plain("wide", "10.9.1.0/24", 5000, 7004),
        by_subnet.to_owned(),
    ]
    .join("---\n")
}

/// A machine with an application and its sidecar.
struct Machine {
    namespace: Arc<Namespace>,
    envoy: Option<Arc<Envoy>>,
}

impl Machine {
    fn make() -> Result<Self> {
        let namespace = Namespace::make()?;
        let iptables = binaries::tool("iptables/iptables")?;
        namespace.command(&iptables, "-t nat -L")?;
        Ok(Self {
            namespace: Arc::new(namespace),
            envoy: None,
        })
    }

    fn redirect(&self, rule: &str) -> Result<()> {
        let iptables = binaries::tool("iptables/iptables")?;
        self.namespace
            .command(&iptables, &format!("-t nat -A {rule}"))
    }

    async fn start_envoy(
        &mut self,
        mesh: &Mesh,
        name: &str,
        kind: (Variant, Version),
    ) -> Result<()> {
        self.namespace.reach(mesh.net.at(1, 18000)).await?;
        let bootstrap = mesh.bootstrap("shop", name, kind.0).await?;
        let words = [
            "setpriv",
            "--regid",
            GROUP,
            "--clear-groups",
            "--pdeathsig",
            "KILL",
            "--",
        ];
        let words = words.map(str::to_owned);
        let command: Vec<String> = [self.namespace.enter(), words.to_vec()].concat();
        let (run, log) = (
            mesh.run.path(""),
            format!("envoy-{name}-{}", kind_name(kind)),
        );
        let admin = SocketAddr::from(([127, 0, 0, 1], 9901));
        let start = async move || {
            let run = weft_tests::run::Run::at(&run)?.by(command);
            let envoy = Envoy::start(&run, &log, kind.1, bootstrap, admin).await?;
            envoy.ready().await.map(|()| envoy)
        };
        self.envoy = Some(Arc::new(self.namespace.run(start).await?));
        Ok(())
    }

    async fn stat(&self, name: &'static str) -> Result<u64> {
        let envoy = Arc::clone(self.envoy.as_ref().context("the sidecar was not started")?);
        self.namespace
            .run(async move || envoy.stat(name).await)
            .await
    }

    async fn get(&self, url: &'static str, host: Option<&'static str>) -> Result<Answer> {
        let ask = async move || {
            let request = http::client().get(url);
            http::send(match host {
                Some(host) => request.header("host", host),
                None => request,
            })
            .await
        };
        self.namespace.run(ask).await
    }

    /// The first line that comes from an address, by a connection that nobody told of a proxy.
    async fn line(&self, to: &'static str) -> Result<String> {
        let to: SocketAddr = to.parse()?;
        let line = self.namespace.run(move || first_line(to, "")).await?;
        Ok(line.trim().to_owned())
    }
}

/// What serves in the server's namespace.
struct Applications {
    orders: Backend,
    _others: (Vec<TcpEcho>, Backend),
}

impl Applications {
    async fn start() -> Result<Self> {
        let settings = |service: &str| Settings {
            service: service.into(),
            version: "v1".into(),
            ..Settings::default()
        };
        let mut echoes = Vec::new();
        for (name, at) in [
            ("first", (SERVER, 7001)),
            ("second", (SERVER, 7002)),
            ("third", (SERVER, 7003)),
            ("outside", (OUTSIDE, 7000)),
        ] {
            let at = SocketAddr::new(at.0.parse()?, at.1);
            echoes.push(TcpEcho::start(at, name).await?);
        }
        let outside = SocketAddr::new(OUTSIDE.parse()?, 80);
        Ok(Self {
            orders: Backend::start(([127, 0, 0, 1], 9000).into(), settings("orders")).await?,
            _others: (echoes, Backend::start(outside, settings("outside")).await?),
        })
    }
}

/// The machines of client and server, wired, with the rules that hand over their connections.
fn machines() -> Result<(Machine, Machine)> {
    let (client, server) = (Machine::make()?, Machine::make()?);
    let wire = |end: &str| format!("{end}/24");
    client
        .namespace
        .wire(&wire(CLIENT), &server.namespace, &wire(SERVER))?;
    server
        .namespace
        .ip(&format!("address add {OUTSIDE}/24 dev eth0"))?;
    client
        .namespace
        .ip(&format!("route add default via {SERVER}"))?;
    client.redirect(&format!(
        "OUTPUT -p tcp -m owner --gid-owner {GROUP} -j RETURN"
    ))?;
    client.redirect("OUTPUT -p tcp -d 127.0.0.0/8 -j RETURN")?;
    client.redirect("OUTPUT -p tcp -j REDIRECT --to-ports 15001")?;
    server.redirect("PREROUTING -p tcp -j REDIRECT --to-ports 15006")?;
    Ok((client, server))
}

async fn until_line(client: &Machine, to: &'static str, expected: &str) {
    let what = format!("{expected} from {to}");
    wait::until(&what, envoy::PATIENCE, async || {
        let line = client.line(to).await?;
        anyhow::ensure!(line == expected, "{line}");
        Ok(())
    })
    .await
    .unwrap();
}

async fn until_answer(client: &Machine, url: &'static str, accept: impl Fn(&Answer) -> bool) {
    wait::until(url, envoy::PATIENCE, async || {
        let answer = client.get(url, None).await?;
        anyhow::ensure!(accept(&answer), "{answer:?}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn applications_that_know_no_proxy_are_in_the_mesh() {
    binaries::tool("iptables/iptables").unwrap();
    if let Err(error) = machines() {
        skip(format!(
            "no network namespaces with iptables (as root, on Linux with veth and nf_tables): {error:#}"
        ));
        return;
    }
    let mesh = Mesh::start("transparent").await.unwrap();
    mesh.apply(&policy()).await.unwrap();
    for kind in every_kind() {
        mesh.apply(&outbound_policy("ALLOW_ANY")).await.unwrap();
        let (mut client, mut server) = machines().unwrap();
        let applications = server.namespace.run(Applications::start).await.unwrap();
        server.start_envoy(&mesh, "orders", kind).await.unwrap();
        client.start_envoy(&mesh, "client", kind).await.unwrap();
        check(&mesh, &client, &server, &applications.orders).await;
        for machine in [client, server] {
            let envoy = machine.envoy.unwrap();
            let log = async move || no_complaints([&*envoy]).await;
            machine.namespace.run(log).await;
        }
    }
}

async fn check(mesh: &Mesh, client: &Machine, server: &Machine, orders: &Backend) {
    // The application listens on 127.0.0.1 alone; whoever reaches it came by the server's sidecar.
    until_answer(client, "http://10.9.0.1/", is("orders v1")).await;
    let answer = client
        .get("http://10.9.0.1/", Some("orders.shop"))
        .await
        .unwrap();
    assert!(is("orders v1")(&answer), "{answer:?}");
    let inbound = server
        .stat("http.inbound_9000.downstream_rq_2xx")
        .await
        .unwrap();
    assert_eq!(inbound, orders.count());

    // TCP by the address it is going to, whatever else is on the port; inbound to ports that no service has.
    until_line(client, "10.9.0.2:3306", "first").await;
    until_line(client, "10.9.0.3:3306", "second").await;
    until_line(client, "10.9.0.4:80", "third").await;
    until_line(client, "10.9.1.1:5000", "first").await;
    until_line(client, "10.9.1.2:5000", "second").await;

    // What nobody knows passes where that is allowed, and nowhere else.
    for (mode, allowed) in [
        ("ALLOW_ANY", true),
        ("REGISTRY_ONLY", false),
        ("ALLOW_ANY", true),
    ] {
        mesh.apply(&outbound_policy(mode)).await.unwrap();
        if allowed {
            until_line(client, "10.77.0.3:7000", "outside").await;
            until_answer(client, "http://10.77.0.3/", is("outside v1")).await;
        } else {
            until_answer(client, "http://10.77.0.3/", |answer| answer.status == 502).await;
            wait::until(
                "the connection to be refused",
                envoy::PATIENCE,
                async || match client.line("10.77.0.3:7000").await {
                    Ok(line) => Err(line),
                    Err(_) => Ok(()),
                },
            )
            .await
            .unwrap();
        }
        let answer = client.get("http://10.9.0.1/", None).await.unwrap();
        assert!(is("orders v1")(&answer), "{answer:?}");
    }

    // A connection to the port of interception itself leads nowhere, and not round and round.
    let before = client
        .stat("listener.0.0.0.0_15001.downstream_cx_total")
        .await
        .unwrap();
    client.line("127.0.0.1:15001").await.unwrap_err();
    let after = client
        .stat("listener.0.0.0.0_15001.downstream_cx_total")
        .await
        .unwrap();
    assert_eq!(after - before, 1);
}
