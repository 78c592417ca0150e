//! A pusher to test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use model::{Kind, Metadata, Object};
use pusher_api::v1::pusher_client::PusherClient;
use serde_json::{Value, json};
use store::memory::MemoryStore;
use store::{Author, Expect, Op, Store};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use xds_pusher::{Config, Listeners};

/// How long a condition may take to come true.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    config: Config,
}

/// A running pusher and the store it watches.
pub(crate) struct Fixture {
    /// The pusher's own connection, to be cut.
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) grpc: SocketAddr,
    admin: SocketAddr,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        let args = [
            "test",
            "--insecure-plaintext-xds",
            "--listen=127.0.0.1:0",
            "--admin-listen=127.0.0.1:0",
            "--instance=test-pusher",
        ];
        let config = Flags::parse_from(args).config;
        let store = Arc::new(MemoryStore::new());
        let listeners = Listeners::bind(&config).await.unwrap();
        let (grpc, admin) = (listeners.grpc().unwrap(), listeners.admin().unwrap());
        let shutdown = CancellationToken::new();
        let watched = store.clone();
        let token = shutdown.clone();
        let running = tokio::spawn(async move {
            xds_pusher::run(config, listeners, watched, token)
                .await
                .unwrap()
        });
        Self {
            store,
            grpc,
            admin,
            shutdown,
            running,
        }
    }

    /// Creates or replaces.
    pub(crate) async fn put(&self, mut object: Object) {
        let store = self.store.another();
        let before = store.get(&object.key()).await.unwrap();
        let expect = before
            .and_then(|b| b.revision())
            .map_or(Expect::Absent, Expect::At);
        object.metadata.uid = "u".into();
        store
            .commit(vec![Op::Put { object, expect }], Author::default())
            .await
            .unwrap();
    }

    pub(crate) async fn api(&self) -> PusherClient<Channel> {
        PusherClient::connect(format!("http://{}", self.grpc))
            .await
            .unwrap()
    }

    /// The report of `/readyz` once it is ready and looks like this.
    pub(crate) async fn until_ready(&self, like: impl Fn(&Value) -> bool) -> Value {
        self.until(|report| report["ready"] == json!(true) && like(report))
            .await
    }

    pub(crate) async fn until_unready(&self) -> Value {
        self.until(|report| report["ready"] == json!(false)).await
    }

    async fn until(&self, like: impl Fn(&Value) -> bool) -> Value {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let report = self.readyz().await;
            if like(&report) {
                return report;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "it did not come true; last: {report}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn readyz(&self) -> Value {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut socket = tokio::net::TcpStream::connect(self.admin).await.unwrap();
        socket
            .write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).await.unwrap();
        serde_json::from_str(text.split("\r\n\r\n").nth(1).unwrap()).unwrap()
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.running)
            .await
            .expect("it stops")
            .unwrap();
    }
}

/// A service with one endpoint.
pub(crate) fn service(name: &str, address: &str) -> Object {
    Object {
        kind: Kind::ServiceEntry,
        metadata: Metadata {
            name: name.into(),
            namespace: "default".into(),
            ..Metadata::default()
        },
        spec: json!({
            "hosts": [format!("{name}.default.svc.cluster.local")],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "endpoints": [{"address": address}],
        }),
    }
}
