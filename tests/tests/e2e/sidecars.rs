//! What the scenarios with sidecars share: a mesh with a client's and a server's sidecar of every kind.
//!
//! The clients are on addresses `.10` and up, the servers on `.20` and up of the mesh's block; the servers' applications are on
//! 127.0.0.1, where only their sidecars look for them. All servers together are `orders` in namespace `shop`.
//!
//! *Invariant:* nobody but a server's sidecar listens on a server's address.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpSocket;
use weft_tests::backend::{Backend, Settings};
use weft_tests::envoy::{self, Envoy};
use weft_tests::http::{self, Answer};
use weft_tests::load::{Load, Running};
use weft_tests::mesh::Mesh;
use weft_tests::wait;

use crate::edge::{every_kind, kind_name, no_complaints, selecting_service, workload};

/// The port that applications use as their HTTP proxy.
pub(crate) const HTTP_PROXY: u16 = 15080;

/// A mesh with sidecars.
pub(crate) struct Sidecars {
    pub(crate) mesh: Mesh,
    pub(crate) clients: Vec<Client>,
    pub(crate) servers: Vec<Server>,
}

/// A workload that only calls.
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) envoy: Envoy,
    pub(crate) ip: IpAddr,
}

/// A workload of `orders`.
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) envoy: Envoy,
    pub(crate) ip: IpAddr,
    pub(crate) backend: Backend,
}

impl Server {
    /// The port of the application on 127.0.0.1, and of the sidecar on the workload's address.
    pub(crate) fn port(&self) -> u16 {
        self.backend.address().port()
    }

    /// Its WorkloadEntry; `http` is the port that clients are sent to.
    pub(crate) fn entry(&self, http: u16) -> String {
        let at = SocketAddr::new(self.ip, http);
        workload("shop", &self.name, at, &server_labels(&self.name))
    }
}

fn server_labels(name: &str) -> [(&str, &str); 2] {
    [("app", "orders"), ("server", name)]
}

impl Sidecars {
    /// Starts everything and waits until every Envoy is configured.
    pub(crate) async fn start(name: &str) -> Result<Self> {
        Self::of(Mesh::start(name).await?).await
    }

    /// The same with identities: an issuer with these flags.
    pub(crate) async fn secure(name: &str, issuer: &[&str]) -> Result<Self> {
        Self::of(Mesh::secure(name, issuer).await?).await
    }

    async fn of(mesh: Mesh) -> Result<Self> {
        let mut documents = vec![selecting_service("orders")];
        let mut backends = Vec::new();
        for (n, kind) in (0..).zip(every_kind()) {
            let kind = kind_name(kind);
            let (client, server) = (format!("client-{kind}"), format!("server-{kind}"));
            documents.push(client_entry(&client, mesh.net.ip(10 + n), &[]));
            let settings = Settings {
                service: "orders".into(),
                version: server.clone(),
                ..Settings::default()
            };
            let backend = Backend::start(([127, 0, 0, 1], 0).into(), settings).await?;
            let at = SocketAddr::new(mesh.net.ip(20 + n), backend.address().port());
            documents.push(workload("shop", &server, at, &server_labels(&server)));
            backends.push((client, server, backend));
        }
        mesh.apply(&documents.join("---\n")).await?;
        let (mut clients, mut servers) = (Vec::new(), Vec::new());
        for ((n, (variant, version)), (client, server, backend)) in
            (0..).zip(every_kind()).zip(backends)
        {
            let start = async |name: &str, number: u8| {
                let number = u16::from(number);
                mesh.envoy("shop", name, variant, version, number).await
            };
            clients.push(Client {
                envoy: start(&client, 10 + n).await?,
                ip: mesh.net.ip(10 + n),
                name: client,
            });
            servers.push(Server {
                envoy: start(&server, 20 + n).await?,
                ip: mesh.net.ip(20 + n),
                name: server,
                backend,
            });
        }
        let all = Self {
            mesh,
            clients,
            servers,
        };
        for envoy in all.envoys() {
            envoy.ready().await?;
        }
        Ok(all)
    }

    pub(crate) fn envoys(&self) -> impl Iterator<Item = &Envoy> {
        let clients = self.clients.iter().map(|client| &client.envoy);
        clients.chain(self.servers.iter().map(|server| &server.envoy))
    }

    /// A backend on an address of the mesh, port 9000, without a sidecar.
    pub(crate) async fn backend(&self, n: u8, service: &str) -> Result<Backend> {
        let settings = Settings {
            service: service.into(),
            version: "v1".into(),
            ..Settings::default()
        };
        let backend = Backend::start(self.mesh.net.at(n, 9000), settings).await;
        backend.context("starting a backend")
    }

    /// Waits until every client has had an answer of every server.
    pub(crate) async fn all_reach_all(&self) -> Result<()> {
        let expected: BTreeSet<&str> = self.servers.iter().map(|it| it.name.as_str()).collect();
        for client in &self.clients {
            let mut seen = BTreeSet::new();
            wait::until("every server's answer", envoy::PATIENCE, async || {
                let answer = client.get("http://orders/").await?.ok()?;
                let version = answer.json()?["version"].as_str().map(str::to_owned);
                seen.extend(version);
                if expected.iter().all(|name| seen.contains(*name)) {
                    Ok(())
                } else {
                    bail!("{}: only {seen:?}", client.name)
                }
            })
            .await?;
        }
        Ok(())
    }

    /// A constant load on `orders` from every client, through its HTTP proxy port.
    pub(crate) fn load(&self, per_second: u32) -> Vec<Running> {
        let load = |client: &Client| {
            let proxy = SocketAddr::new(client.ip, HTTP_PROXY);
            let load = Load {
                per_second,
                connections: 2,
                ..Load::new(proxy, "orders", "http://orders/")
            };
            load.start()
        };
        self.clients.iter().map(load).collect()
    }

    /// Stops the Envoys and checks what they complained about.
    pub(crate) async fn finish(self) {
        no_complaints(self.envoys()).await;
    }
}

/// The WorkloadEntry of a client, which serves nothing.
pub(crate) fn client_entry(name: &str, ip: IpAddr, labels: &[(&str, &str)]) -> String {
    let labels: Vec<_> = [("client", name)].iter().chain(labels).copied().collect();
    workload("shop", name, SocketAddr::new(ip, 1), &labels)
}

impl Client {
    /// Sends a request through the HTTP proxy port, as an application with `HTTP_PROXY` does.
    pub(crate) async fn get(&self, url: &str) -> Result<Answer> {
        let proxy = format!("http://{}", SocketAddr::new(self.ip, HTTP_PROXY));
        http::send(http::through(&proxy)?.get(url)).await
    }

    /// The same, until the answer is as `accept` wants.
    pub(crate) async fn answers(
        &self,
        url: &str,
        accept: impl Fn(&Answer) -> bool,
    ) -> Result<Answer> {
        until_accepted(&self.name, url, accept, async || self.get(url).await).await
    }
}

/// Asks until the answer is as `accept` wants.
pub(crate) async fn until_accepted(
    who: &str,
    url: &str,
    accept: impl Fn(&Answer) -> bool,
    ask: impl AsyncFn() -> Result<Answer>,
) -> Result<Answer> {
    let what = format!("the right answer to {who} from {url}");
    wait::until(&what, envoy::PATIENCE, async || {
        let answer = ask().await?;
        if accept(&answer) {
            Ok(answer)
        } else {
            bail!("{}: {}", answer.status, answer.body)
        }
    })
    .await
}

/// Sends bytes on a new connection and returns the first line that comes back.
pub(crate) async fn first_line(to: SocketAddr, bytes: &str) -> Result<String> {
    first_line_from(Ipv4Addr::UNSPECIFIED.into(), to, bytes).await
}

/// The same, calling from an address.
pub(crate) async fn first_line_from(from: IpAddr, to: SocketAddr, bytes: &str) -> Result<String> {
    let talk = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(from, 0))?;
        let mut stream = BufReader::new(socket.connect(to).await?);
        stream.write_all(bytes.as_bytes()).await?;
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        ensure!(!line.is_empty(), "{to} said nothing");
        Ok(line)
    };
    tokio::time::timeout(envoy::PATIENCE, talk)
        .await
        .with_context(|| format!("{to} said nothing"))?
}
