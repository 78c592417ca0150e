//! `/v1/mtls` beside the truth: what it says while a mode changes, and whether plaintext got through at that moment.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use weft_tests::backend::tcp::TcpEcho;
use weft_tests::backend::{Backend, Settings};
use weft_tests::envoy::{Envoy, Version};
use weft_tests::mesh::{Mesh, Variant};
use weft_tests::{envoy, http, wait};

use crate::edge::no_complaints;

/// How long the Envoys here let old connections live.
const DRAIN: u64 = 8;

/// A workload of two services: one of its own name, and `all`.
struct Server {
    name: &'static str,
    envoy: Envoy,
    http: SocketAddr,
    tcp: SocketAddr,
    _http: Backend,
    _tcp: TcpEcho,
}

fn service(name: &str, label: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{ name: {name}, namespace: shop }}\nspec:\n  \
         hosts: [{name}.shop.svc.cluster.local]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  \
         ports: [{{ number: 80, name: http, protocol: HTTP }}, {{ number: 90, name: tcp, protocol: TCP }}]\n  \
         workloadSelector: {{ labels: {{ {label} }} }}\n"
    )
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{ name: {name}, namespace: shop }}\nspec: {spec}\n"
    )
}

impl Server {
    async fn start(
        mesh: &Mesh,
        name: &'static str,
        number: u8,
        variant: Variant,
        version: Version,
    ) -> Result<Self> {
        let settings = Settings {
            service: name.into(),
            ..Settings::default()
        };
        let http = Backend::start(([127, 0, 0, 1], 0).into(), settings).await?;
        let tcp = TcpEcho::start(([127, 0, 0, 1], 0).into(), name).await?;
        let at = |port| SocketAddr::new(mesh.net.ip(number), port);
        let (http_at, tcp_at) = (at(http.address().port()), at(tcp.address().port()));
        let entry = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry",
            "metadata": {"name": format!("{name}-1"), "namespace": "shop", "labels": {"app": name, "group": "all"}},
            "spec": {"address": http_at.ip(), "ports": {"http": http_at.port(), "tcp": tcp_at.port()}},
        });
        let service = service(name, &format!("app: {name}"));
        mesh.apply(&format!("{service}---\n{entry}\n")).await?;
        let mut bootstrap = mesh
            .bootstrap("shop", &format!("{name}-1"), variant)
            .await?;
        bootstrap["node"]["metadata"]["DRAIN_TIME_S"] = DRAIN.into();
        let admin = mesh.net.at(250, 9900 + u16::from(number));
        let envoy = Envoy::start(&mesh.run, name, version, bootstrap, admin).await?;
        envoy.ready().await?;
        Ok(Self {
            name,
            envoy,
            http: http_at,
            tcp: tcp_at,
            _http: http,
            _tcp: tcp,
        })
    }

    /// Whether a new connection is answered in plaintext.
    async fn answers(&self) -> bool {
        let answer = http::get(format!("http://{}/", self.http)).await;
        answer.is_ok_and(|answer| answer.status == 200)
    }
}

async fn status(mesh: &Mesh, service: &str) -> Result<Value> {
    let path = format!("/v1/mtls/{service}");
    mesh.call(Method::GET, &path, None).await?.ok()?.json()
}

/// The status once the mode is this.
async fn until(mesh: &Mesh, service: &str, mode: &str) -> Value {
    wait::until(
        &format!("{service} to be {mode}"),
        envoy::PATIENCE,
        async || {
            let status = status(mesh, service).await?;
            ensure!(status["mtls_mode"] == mode, "{status}");
            Ok::<_, anyhow::Error>(status)
        },
    )
    .await
    .unwrap()
}

/// Connections that were opened in plaintext: HTTP, which Envoy asks to close while it drains, and TCP, which it cannot ask.
struct Kept {
    http: Vec<SendRequest<Empty<Bytes>>>,
    tcp: Option<TcpStream>,
}

impl Kept {
    async fn open(server: &Server) -> Result<Self> {
        let mut http = Vec::new();
        for _ in 0..30 {
            let stream = TcpStream::connect(server.http).await?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            http.push(sender);
        }
        let mut tcp = TcpStream::connect(server.tcp).await?;
        let mut greeting = vec![0; server.name.len() + 1];
        tcp.write_all(b"x").await?;
        tcp.read_exact(&mut greeting).await?;
        tcp.read_exact(&mut [0]).await?;
        let mut kept = Self {
            http,
            tcp: Some(tcp),
        };
        // Each has been answered, so that none waits in the backlog.
        for mut sender in std::mem::take(&mut kept.http) {
            Self::request(&mut sender).await?;
            kept.http.push(sender);
        }
        Ok(kept)
    }

    async fn request(sender: &mut SendRequest<Empty<Bytes>>) -> Result<()> {
        sender.ready().await?;
        let request = Request::get("/")
            .header("host", "orders")
            .body(Empty::new())?;
        let answer = sender.send_request(request).await?;
        ensure!(answer.status() == 200, "{}", answer.status());
        answer.into_body().collect().await?;
        Ok(())
    }

    /// Whether the next HTTP connection is answered; one that is not is forgotten.
    async fn http(&mut self) -> bool {
        while let Some(mut sender) = self.http.pop() {
            if Self::request(&mut sender).await.is_ok() {
                self.http.insert(0, sender);
                return true;
            }
        }
        false
    }

    async fn tcp(&mut self) -> bool {
        let Some(stream) = &mut self.tcp else {
            return false;
        };
        let talk = async {
            stream.write_all(b"y").await?;
            stream.read_exact(&mut [0]).await
        };
        let answered = talk.await.is_ok();
        if !answered {
            self.tcp = None;
        }
        answered
    }
}

/// How often each way was answered in plaintext while the status was this, before and after.
type Seen = Arc<Mutex<BTreeMap<(String, &'static str), u32>>>;

/// Asks for the status, in plaintext, and for the status again, until it is stopped. Whatever got through between two STRICT
/// is a contradiction.
async fn watch(
    mesh: &Mesh,
    server: &Server,
    mut kept: Kept,
    seen: Seen,
    stop: CancellationToken,
) -> Result<()> {
    let mode =
        async || Ok::<_, anyhow::Error>(status(mesh, server.name).await?["mtls_mode"].clone());
    let mut before = mode().await?;
    while !stop.is_cancelled() {
        let ways = [
            ("new", server.answers().await),
            ("kept", kept.http().await),
            ("tcp", kept.tcp().await),
        ];
        let after = mode().await?;
        for (way, answered) in ways {
            if before == "STRICT" && after == "STRICT" && answered {
                bail!("{}: STRICT, and {way} plaintext was answered", server.name);
            }
            if before == after {
                let key = (format!("{} {answered}", after.as_str().unwrap_or("?")), way);
                *seen.lock().unwrap().entry(key).or_default() += 1;
            }
        }
        before = after;
    }
    Ok(())
}

async fn seen(what: &Seen, key: &str, way: &'static str) {
    wait::until(
        &format!("{way} plaintext while {key}"),
        envoy::PATIENCE,
        async || match what.lock().unwrap().get(&(key.to_owned(), way)) {
            Some(_) => Ok(()),
            None => bail!("not yet"),
        },
    )
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_never_says_strict_while_plaintext_gets_through() {
    let mesh = Mesh::secure("mtls-status", &[]).await.unwrap();
    mesh.apply(&service("all", "group: all")).await.unwrap();
    let mesh = &mesh;
    let (new, old) = tokio::join!(
        Server::start(mesh, "new", 20, Variant::Delta, Version::Newest),
        Server::start(mesh, "old", 21, Variant::Sotw, Version::Oldest),
    );
    let servers = [new.unwrap(), old.unwrap()];
    let (stop, all_seen) = (CancellationToken::new(), [Seen::default(), Seen::default()]);
    for server in &servers {
        let status = until(mesh, server.name, "PERMISSIVE").await;
        let details = &status["details"][0];
        assert_eq!(details["proxy"]["connected"], true, "{status}");
        let ports = details["ports"].as_array().unwrap();
        assert_eq!(ports.len(), 2, "{status}");
        for port in ports {
            assert_eq!(
                (&port["scope"], &port["acked"]),
                (&json!("default"), &json!(true))
            );
        }
    }
    let kept = [Kept::open(&servers[0]).await, Kept::open(&servers[1]).await];
    let [first, second] = kept.map(Result::unwrap);
    let watches = async {
        let (a, b) = tokio::join!(
            watch(mesh, &servers[0], first, all_seen[0].clone(), stop.clone()),
            watch(mesh, &servers[1], second, all_seen[1].clone(), stop.clone()),
        );
        a.unwrap();
        b.unwrap();
    };
    let story = async {
        for each in &all_seen {
            for way in ["new", "kept", "tcp"] {
                seen(each, "PERMISSIVE true", way).await;
            }
        }
        mesh.apply(&policy("default", "{ mtls: { mode: STRICT } }"))
            .await
            .unwrap();
        for (server, each) in servers.iter().zip(&all_seen) {
            seen(each, "DRAINING false", "new").await;
            seen(each, "DRAINING true", "kept").await;
            seen(each, "DRAINING true", "tcp").await;
            let status = status(mesh, server.name).await.unwrap();
            assert!(status["draining_until"].is_string(), "{status}");
        }
        for (server, each) in servers.iter().zip(&all_seen) {
            let status = until(mesh, server.name, "STRICT").await;
            let port = &status["details"][0]["ports"][0];
            let policy =
                json!({"kind": "PeerAuthentication", "namespace": "shop", "name": "default"});
            assert_eq!(
                (&port["policy"], &port["scope"], &port["acked"]),
                (&policy, &json!("namespace"), &json!(true)),
                "{status}"
            );
            for way in ["new", "kept", "tcp"] {
                seen(each, "STRICT false", way).await;
            }
        }
        until(mesh, "all", "STRICT").await;

        // One workload leaves: it is said before its proxy can have.
        let selecting = "{ selector: { matchLabels: { app: old } }, mtls: { mode: PERMISSIVE } }";
        mesh.apply(&policy("old", selecting)).await.unwrap();
        seen(&all_seen[1], "PERMISSIVE true", "new").await;
        let mixed = status(mesh, "all").await.unwrap();
        assert_eq!(mixed["mtls_mode"], "MIXED", "{mixed}");
        assert_eq!(mixed["workloads"], json!(["new-1", "old-1"]));
        let modes: Vec<_> = (mixed["details"].as_array().unwrap().iter())
            .map(|it| it["mode"].as_str().unwrap())
            .collect();
        assert_eq!(modes, ["STRICT", "PERMISSIVE"]);
        assert_eq!(
            until(mesh, "new", "STRICT").await["workloads"],
            json!(["new-1"])
        );
        stop.cancel();
    };
    let both = async { tokio::join!(watches, story) };
    let limit = envoy::PATIENCE * 6;
    tokio::time::timeout(limit, both).await.unwrap();

    // A port of its own, beside what the workload has.
    let port = servers[0].tcp.port();
    let spec = format!(
        "{{ selector: {{ matchLabels: {{ app: new }} }}, portLevelMtls: {{ {port}: {{ mode: DISABLE }} }} }}"
    );
    mesh.apply(&policy("new", &spec)).await.unwrap();
    let mixed = until(mesh, "new", "MIXED").await;
    let ports = mixed["details"][0]["ports"].as_array().unwrap();
    let disabled = ports.iter().find(|it| it["port"] == port).unwrap();
    assert_eq!(
        (
            &disabled["scope"],
            &disabled["policy_mode"],
            &disabled["service_ports"]
        ),
        (&json!("port"), &json!("DISABLE"), &json!([90]))
    );
    names_and_tables(mesh).await;
    no_complaints(servers.iter().map(|server| &server.envoy)).await;
}

/// Names that mean several services or none, and how people see all of it.
async fn names_and_tables(mesh: &Mesh) {
    let get = async |path: &str| mesh.call(Method::GET, path, None).await.unwrap();
    let unknown = get("/v1/mtls/neww").await;
    assert!(
        unknown.status == 404 && unknown.body.contains("did you mean new"),
        "{}",
        unknown.body
    );
    let bank = service("old", "app: old").replace("shop", "bank");
    mesh.apply(&bank).await.unwrap();
    let ambiguous = get("/v1/mtls/old").await;
    assert_eq!(ambiguous.status, 409, "{}", ambiguous.body);
    for host in ["old.bank.svc.cluster.local", "old.shop.svc.cluster.local"] {
        assert!(ambiguous.body.contains(host), "{}", ambiguous.body);
        assert_eq!(get(&format!("/v1/mtls/{host}")).await.status, 200);
    }
    let server = format!("http://{}", mesh.api_address());
    let output = crate::meshctl::meshctl(&server, "mtls")
        .output()
        .await
        .unwrap();
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    let row = table.lines().find(|line| line.contains("old-1")).unwrap();
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(words[..4], ["shop", "all", "MIXED", "old-1"], "{table}");
    assert!(row.contains("PERMISSIVE by shop/old (workload)"), "{table}");
    assert_eq!(words[words.len() - 2..], ["yes", "-"], "{table}");
}
