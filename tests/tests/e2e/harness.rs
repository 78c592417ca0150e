//! The harness itself: what the other scenarios stand on.

use serde_json::{Value, json};
use weft_tests::backend::tcp::TcpEcho;
use weft_tests::backend::{Backend, Seen, Settings};
use weft_tests::envoy::{Envoy, Version, socket_address};
use weft_tests::http;
use weft_tests::load::{Load, Protocol};
use weft_tests::net::Block;
use weft_tests::process::Process;
use weft_tests::run::Run;
use weft_tests::{stack, wait};

fn settings(service: &str, version: &str) -> Settings {
    Settings {
        service: service.into(),
        version: version.into(),
        ..Settings::default()
    }
}

/// A static Envoy that forwards everything on `listen` to `upstream`.
fn forwarding(listen: std::net::SocketAddr, upstream: std::net::SocketAddr) -> Value {
    let endpoint = json!({ "endpoint": { "address": socket_address(upstream) } });
    json!({
        "node": { "id": "test", "cluster": "test" },
        "admin": {},
        "static_resources": {
            "clusters": [{
                "name": "up", "type": "STATIC", "connect_timeout": "1s",
                "load_assignment": { "cluster_name": "up", "endpoints": [{ "lb_endpoints": [endpoint] }] }
            }],
            "listeners": [{
                "name": "in", "address": socket_address(listen),
                "filter_chains": [{ "filters": [{
                    "name": "http",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                        "stat_prefix": "in",
                        "route_config": { "virtual_hosts": [{
                            "name": "all", "domains": ["*"],
                            "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "up" } }]
                        }] },
                        "http_filters": [{
                            "name": "router",
                            "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" }
                        }]
                    }
                }] }]
            }]
        }
    })
}

#[tokio::test]
async fn etcd_keeps_its_data_over_a_kill() {
    let (net, run) = (Block::claim().unwrap(), Run::temporary("etcd").unwrap());
    let start = || async {
        stack::etcd(&run, "etcd", net.at(1, 2379), &run.path("data"))
            .await
            .unwrap()
    };
    let etcd = start().await;
    let endpoint = format!("http://{}", net.at(1, 2379));
    let mut client = etcd_client::Client::connect([&endpoint], None)
        .await
        .unwrap();
    client.put("key", "value", None).await.unwrap();
    etcd.kill();
    let etcd = start().await;
    let mut client = etcd_client::Client::connect([&endpoint], None)
        .await
        .unwrap();
    let found = client.get("key", None).await.unwrap();
    assert_eq!(found.kvs()[0].value_str().unwrap(), "value");
    assert!(etcd.exited().is_none());
    etcd.stop().await;
    assert!(etcd.exited().is_some());
}

#[tokio::test]
async fn both_envoys_forward_and_say_so() {
    let (net, run) = (Block::claim().unwrap(), Run::temporary("envoys").unwrap());
    let backend = Backend::start(net.at(2, 9000), settings("orders", "v1"))
        .await
        .unwrap();
    for (n, version) in (10..).zip(Version::ALL) {
        let bootstrap = forwarding(net.at(n, 8000), net.at(2, 9000));
        let name = format!("envoy-{}", version.number());
        let envoy = Envoy::start(&run, &name, version, bootstrap, net.at(n, 9901))
            .await
            .unwrap();
        envoy.ready().await.unwrap();
        let seen: Value = http::get(format!("http://{}/a?b=c", net.at(n, 8000)))
            .await
            .unwrap()
            .json()
            .unwrap();
        let seen: Seen = serde_json::from_value(seen).unwrap();
        assert_eq!(
            (
                seen.service.as_str(),
                seen.path.as_str(),
                seen.scheme.as_str()
            ),
            ("orders", "/a?b=c", "http")
        );
        assert_eq!(backend.seen().last(), Some(&seen));
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let load = Load {
                at_most: 101,
                protocol,
                ..Load::new(net.at(n, 8000), "orders", "/load")
            };
            let report = load.start().finish().await.flawless().unwrap();
            assert_eq!(report.answers["orders v1"], 101);
        }
        assert_eq!(
            envoy
                .stat("cluster.up.upstream_rq_completed")
                .await
                .unwrap(),
            203
        );
        envoy
            .has_endpoints("up", &[net.at(2, 9000)], wait::PATIENCE)
            .await
            .unwrap();
        assert_eq!(envoy.complaints(), Vec::<String>::new());
        envoy.process.stop().await;
        let load = Load {
            at_most: 4,
            ..Load::new(net.at(n, 8000), "orders", "/load")
        };
        assert_eq!(
            load.start().finish().await.failures.len(),
            4,
            "the load must notice that nobody listens"
        );
    }
}

#[tokio::test]
async fn backend_misbehaves_on_request() {
    let net = Block::claim().unwrap();
    let backend = Backend::start(net.at(2, 9000), settings("orders", "v1"))
        .await
        .unwrap();
    let get = async |path: &str| {
        http::get(format!("http://{}{path}", net.at(2, 9000)))
            .await
            .unwrap()
    };
    assert_eq!(get("/status/418").await.status, 418);
    let statuses = [
        get("/fail/2/k").await.status,
        get("/fail/2/k").await.status,
        get("/fail/2/k").await.status,
    ];
    assert_eq!(statuses, [503, 503, 200]);
    assert_eq!(get("/drip/3/1").await.body, "v1 0\nv1 1\nv1 2\n");
    backend.set_healthy(false);
    assert_eq!(get("/healthz").await.status, 503);
    assert_eq!(get("/healthz/up").await.status, 200);
    assert_eq!(backend.count(), 5, "health checks are not counted");
    let report = Load {
        at_most: 3,
        ..Load::new(net.at(2, 9000), "x", "/status/500")
    }
    .start()
    .finish()
    .await;
    assert_eq!((report.sent, report.failures.len()), (3, 3));
}

#[tokio::test]
async fn tcp_echo_speaks_first() {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    let net = Block::claim().unwrap();
    let echo = TcpEcho::start(net.at(2, 9000), "db").await.unwrap();
    let mut stream = BufReader::new(
        tokio::net::TcpStream::connect(echo.address())
            .await
            .unwrap(),
    );
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    stream.write_all(b"ping\n").await.unwrap();
    stream.read_line(&mut line).await.unwrap();
    assert_eq!(line, "db\nping\n");
}

#[tokio::test]
async fn a_process_that_ends_is_not_waited_for() {
    let run = Run::temporary("process").unwrap();
    let shell = std::path::Path::new("/bin/sh");
    let args = ["-c", "echo last words; exit 3"].map(str::to_owned);
    let process = Process::start("sh", shell, &args, &run.path("sh.log")).unwrap();
    let error = process
        .listens("127.0.0.1:1".parse().unwrap(), wait::PATIENCE)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("exit status: 3") && error.contains("last words"),
        "{error}"
    );
}
