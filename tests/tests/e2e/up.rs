//! `make up`: starts everything, says `ready`, keeps its state, leaves nothing behind, and names what is in its way.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use weft_tests::net::Block;
use weft_tests::otlp::{Protocol, Sink};
use weft_tests::run::Run;
use weft_tests::wait::PATIENCE;
use weft_tests::{binaries, http, wait};

use crate::left::Left;

/// `weft-up` on addresses of this block; its services' own ports are on 127.0.0.1, after `port`.
fn command(net: &Block, port: u16, state: &Path) -> Command {
    let mut command = Command::new(binaries::built("weft-up").unwrap());
    command
        .arg("--state")
        .arg(state)
        .args(["--service-ports", &(port + 20).to_string()]);
    command.args([
        "--admin-ports",
        &port.to_string(),
        "--network",
        &network(port).to_string(),
    ]);
    let ports = [
        ("--etcd", 2379),
        ("--api", 8080),
        ("--xds", 18000),
        ("--xds-admin", 18001),
        ("--issuer", 18010),
        ("--issuer-admin", 18011),
        ("--gateway", 8000),
    ];
    for (flag, port) in ports {
        command.args([flag, &net.at(1, port).to_string()]);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// The network of the demo workloads.
fn network(port: u16) -> u16 {
    port % 200 + 50
}

/// Reads what it says until `ready`.
pub(crate) async fn ready(child: &mut Child) -> Vec<String> {
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let mut said = Vec::new();
    let reading = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            said.push(line);
            if said.last().is_some_and(|line| line == "ready") {
                return true;
            }
        }
        false
    };
    let ready = tokio::time::timeout(PATIENCE * 2, reading).await;
    assert_eq!(ready, Ok(true), "{said:#?}");
    said
}

/// Interrupts it and sees it leave nothing: no process of its own, and no socket that one of them listened on.
async fn interrupt(mut child: Child, net: &Block) {
    let pid = child.id().unwrap();
    let left = Left::of(pid);
    for name in [
        "etcd",
        "config-api",
        "xds-pusher",
        "envoy",
        "weft-demo-backe",
    ] {
        let found = left.processes.values().any(|it| it.starts_with(name));
        assert!(found, "{name} is not among {:?}", left.processes);
    }
    for port in [2379, 2380, 8080, 18000, 18001, 8000] {
        let at = net.at(1, port);
        assert!(
            left.listens.contains(&at),
            "{at} is not among {:?}",
            left.listens
        );
    }
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGINT).unwrap();
    let status = tokio::time::timeout(PATIENCE, child.wait())
        .await
        .expect("it stops")
        .unwrap();
    assert!(status.success(), "{status}");
    left.is_gone();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_starts_keeps_its_state_and_leaves_nothing() {
    let (net, run) = (Block::claim().unwrap(), Run::temporary("up").unwrap());
    let state = run.path("state");
    // The block is nobody else's; so are the ports on 127.0.0.1 that are made from it.
    let port = match net.at(1, 0) {
        SocketAddr::V4(v4) => {
            20_000
                + (u16::from(v4.ip().octets()[1]) * 255 + u16::from(v4.ip().octets()[2])) % 190 * 40
        }
        SocketAddr::V6(_) => unreachable!("blocks are IPv4"),
    };
    let gateway = format!("http://{}", net.at(1, 8000));
    let documents = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: shop, namespace: shop }\nspec:\n  \
                     hosts: ['*']\n  gateways: [shop]\n  http: [{ directResponse: { status: 200, body: { string: mine } } }]\n";

    let taken = TcpListener::bind(net.at(1, 8080)).unwrap();
    let refused = command(&net, port, &state).output().await.unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "{said}");
    assert!(
        said.contains(&net.at(1, 8080).to_string()) && said.contains("--api"),
        "{said}"
    );
    drop(taken);

    let sink = Sink::start().await.unwrap();
    let mut up = command(&net, port, &state);
    let mut up = up.envs(sink.environment(Protocol::Grpc)).spawn().unwrap();
    let said = ready(&mut up).await;
    for service in ["config-api", "xds-pusher", "cert-issuer"] {
        let what = format!("spans of {service}, since the environment names a collector");
        wait::until(&what, PATIENCE, async || {
            let spans = sink.spans();
            let come = spans.iter().any(|span| span.service == service);
            come.then_some(()).ok_or(spans.len())
        })
        .await
        .unwrap();
    }
    assert_eq!(
        said.iter().filter(|line| line.as_str() == "ready").count(),
        1
    );
    let shop = http::get(&gateway)
        .await
        .unwrap()
        .ok()
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(
        (&shop["service"], &shop["calls"]["orders"]["service"]),
        (&"web".into(), &"orders".into())
    );
    let from = shop["calls"]["orders"]["headers"]["x-forwarded-client-cert"].to_string();
    assert!(from.contains("/ns/shop/sa/web"), "{shop}");
    let apply = async |documents: &str| {
        let request = http::client().post(format!("http://{}/v1/apply", net.at(1, 8080)));
        let request = request
            .header("content-type", "application/yaml")
            .body(documents.to_owned());
        http::send(request).await.unwrap().ok().unwrap();
    };
    apply(include_str!("../../../demo/strict.yaml")).await;
    let orders = format!("http://127.0.{}.2:{}/", network(port), port + 21);
    wait::until(
        "plaintext to be refused",
        PATIENCE,
        async || match http::get(&orders).await {
            Ok(answer) => Err(answer.body),
            Err(_) => Ok(()),
        },
    )
    .await
    .unwrap();
    http::get(&gateway).await.unwrap().ok().unwrap();
    apply(documents).await;
    interrupt(up, &net).await;

    let mut up = command(&net, port, &state)
        .arg("--insecure-plaintext-xds")
        .spawn()
        .unwrap();
    ready(&mut up).await;
    assert_eq!(
        http::get(&gateway).await.unwrap().body,
        "mine",
        "the change of the first run is kept"
    );
    interrupt(up, &net).await;
}
