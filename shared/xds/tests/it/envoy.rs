//! Real Envoys, from `.tools/`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::net::TcpSocket;

/// How long a condition may take to hold: what a loaded machine needs, many times over.
const PATIENCE: Duration = Duration::from_secs(90);

/// The newest and the oldest that are supported.
pub(crate) const VERSIONS: [&str; 2] = ["1.40.0", "1.36.4"];

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A tool that `tests/install-tools` puts under `.tools/`.
pub(crate) fn tool(name: &str) -> PathBuf {
    let path = root().join(".tools").join(name);
    assert!(
        path.exists(),
        "{} is missing: run tests/install-tools",
        path.display()
    );
    path
}

/// A port that nobody else is given while this process lives, and that a process of ours may listen on: the socket that
/// holds it does not listen itself, and both have `SO_REUSEADDR`.
pub(crate) fn free_port() -> u16 {
    static HELD: Mutex<Vec<TcpSocket>> = Mutex::new(Vec::new());
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    held.push(socket);
    port
}

/// Waits until something holds.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "{what}: it never came to hold");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A process that ends with the test.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

pub(crate) struct Envoy {
    _process: Process,
    dir: TempDir,
    pub(crate) admin: u16,
}

impl Envoy {
    /// Starts one with a bootstrap, whose admin port is put in place of `ADMIN`.
    pub(crate) fn start(version: &str, bootstrap: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let admin = free_port();
        let config = dir.path().join("bootstrap.yaml");
        std::fs::write(&config, bootstrap.replace("ADMIN", &admin.to_string())).unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let process = Command::new(tool(&format!("envoy-{version}")))
            .args([
                "--use-dynamic-base-id",
                "--concurrency",
                "1",
                "-l",
                "info",
                "-c",
            ])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self {
            _process: Process(process),
            dir,
            admin,
        }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// The value of a counter or gauge.
    pub(crate) async fn stat(&self, name: &str) -> u64 {
        let body = get(self.admin, &format!("/stats?filter=^{name}$"))
            .await
            .map_or(String::new(), |(_, body)| body);
        body.rsplit(": ")
            .next()
            .and_then(|value| value.trim().parse().ok())
            .unwrap_or(0)
    }

    /// Fails if Envoy refused anything, or warned of a deprecation.
    pub(crate) fn content(&self) {
        let log = self.log();
        let bad = |line: &&str| {
            let lower = line.to_lowercase();
            lower.contains("reject") || lower.contains("deprecat") || lower.contains("[error]")
        };
        let bad: Vec<&str> = log.lines().filter(bad).collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }
}

/// A bootstrap: all by ADS from this port.
pub(crate) fn by_ads(node: &str, api_type: &str, xds: u16) -> String {
    let text = include_str!("../../examples/two_services.yaml");
    text.replace("id: test-id", &format!("id: {node:?}"))
        .replace("api_type: GRPC", &format!("api_type: {api_type}"))
        .replace("port_value: 18000", &format!("port_value: {xds}"))
        .replace("port_value: 8001", "port_value: ADMIN")
}

/// An HTTP client.
pub(crate) fn http() -> reqwest::Client {
    // Another test may have installed it already.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder()
        .timeout(PATIENCE)
        .build()
        .unwrap()
}

/// Status and body of a GET on a loopback port.
pub(crate) async fn get(port: u16, path: &str) -> Result<(u16, String), reqwest::Error> {
    let response = http()
        .get(format!("http://127.0.0.1:{port}{path}"))
        .send()
        .await?;
    Ok((response.status().as_u16(), response.text().await?))
}

/// Waits until a GET is answered like this.
pub(crate) async fn until(port: u16, path: &str, status: u16, body: &str, envoy: &Envoy) {
    let start = Instant::now();
    loop {
        let got = get(port, path).await.ok();
        if got
            .as_ref()
            .is_some_and(|(s, b)| *s == status && b.trim_end() == body)
        {
            return;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "{path} should be {status} {body:?}, is {got:?}\n{}",
            envoy.log()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
