//! A real Envoy with a compiled snapshot, and the SDS server it gets its secrets from.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use prost::Message;
use tokio_stream::wrappers::TcpListenerStream;
use xds::{Snapshot, SnapshotCache};

use crate::envoy;

/// A running Envoy; gone when dropped.
pub(crate) struct Envoy {
    child: Child,
    _issuer: tokio::runtime::Runtime,
}

impl Drop for Envoy {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Serves secrets to whoever asks, on a port of its own.
fn issuer(secrets: Snapshot) -> (tokio::runtime::Runtime, SocketAddr) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let address = listener.local_addr().unwrap();
    let cache = SnapshotCache::by(|_| "all".into());
    cache.set("all", secrets);
    let routes = xds::Server::new(Arc::new(cache)).routes();
    runtime.spawn(
        tonic::transport::Server::builder()
            .add_routes(routes)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    (runtime, address)
}

impl Envoy {
    pub(crate) fn start(binary: &str, snapshot: &Snapshot, secrets: Snapshot) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (issuer, address) = issuer(secrets);
        let dir = std::env::temp_dir().join(format!("weft-mtls-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (config, admin) = (dir.join("config.pb"), dir.join("admin"));
        let bootstrap = envoy::bootstrap(snapshot, Some(address));
        std::fs::write(&config, bootstrap.encode_to_vec()).unwrap();
        let mut child = Command::new(envoy::binary(binary))
            .args(["--concurrency", "1", "--use-dynamic-base-id"])
            .args(["--disable-hot-restart", "-c"])
            .arg(&config)
            .arg("--admin-address-path")
            .arg(&admin)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let started = log.by_ref().map_while(Result::ok).any(|line| {
            said.push(line.clone());
            line.contains("starting main dispatch loop")
        });
        assert!(started, "{binary} does not start: {said:#?}");
        std::thread::spawn(move || log.for_each(drop));
        let admin = std::fs::read_to_string(&admin).unwrap();
        // Its workers accept once every listener has its secrets.
        until(binary, || {
            let stats = ask(&admin, "/stats?filter=workers_started|listener_manager");
            stats.contains("workers_started: 1") && stats.contains("total_listeners_warming: 0")
        });
        std::fs::remove_dir_all(dir).unwrap();
        Self {
            child,
            _issuer: issuer,
        }
    }
}

pub(crate) fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(90);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} does not get ready");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn ask(admin: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(admin.trim()).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
