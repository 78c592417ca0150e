//! A real etcd process for one test: started on free loopback ports in a directory of its own, and ended with it.
//!
//! *Invariant:* no process outlives its [`Etcd`].

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::TcpSocket;

use super::PATIENCE;
use crate::etcd::{EtcdConfig, EtcdStore, TlsSource};
use crate::{Error, Store};

/// A running etcd.
pub struct Etcd {
    dir: tempfile::TempDir,
    client: Port,
    peer: Port,
    options: Vec<String>,
    tls: Option<TlsSource>,
    child: Option<Child>,
}

impl Etcd {
    /// Starts an empty etcd and waits until it answers.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same, with further options for etcd.
    pub async fn start_with(options: &[&str]) -> Self {
        Self::launch(options, None).await
    }

    /// The same, where the options make it serve TLS, which clients take part in like this.
    pub async fn start_tls(options: &[&str], tls: TlsSource) -> Self {
        Self::launch(options, Some(tls)).await
    }

    async fn launch(options: &[&str], tls: Option<TlsSource>) -> Self {
        let mut etcd = Self {
            dir: tempfile::tempdir().unwrap(),
            client: Port::free(),
            peer: Port::free(),
            options: options.iter().map(|&option| option.to_owned()).collect(),
            tls,
            child: None,
        };
        etcd.run().await;
        etcd
    }

    /// The etcd program that `tests/install-tools` puts in place.
    pub fn program() -> PathBuf {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools");
        let program = tools.join("etcd");
        assert!(
            program.exists(),
            "{} is missing: run tests/install-tools",
            program.display()
        );
        program
    }

    /// Where clients connect.
    pub fn endpoint(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port())
    }

    /// The port that clients connect to.
    pub fn port(&self) -> u16 {
        self.client.number()
    }

    /// Starts the process, again if there was one before, on the same data, and waits until it answers.
    pub async fn restart(&mut self) {
        self.kill();
        self.run().await;
    }

    async fn run(&mut self) {
        let client = self.endpoint();
        let peer = format!("http://127.0.0.1:{}", self.peer.number());
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        let child = Command::new(Self::program())
            .arg("--data-dir")
            .arg(self.dir.path().join("data"))
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &format!("default={peer}")])
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let store = EtcdStore::new(EtcdConfig {
            patience: Duration::from_millis(500),
            ..self.config()
        });
        let deadline = Instant::now() + PATIENCE;
        // A refusal is an answer, too.
        while let Err(error @ Error::Unavailable(_)) = store.revision().await {
            let ended = self
                .child
                .as_mut()
                .and_then(|child| child.try_wait().unwrap());
            if ended.is_some() || Instant::now() >= deadline {
                let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                panic!("etcd does not answer ({error}); it ended with {ended:?}:\n{log}");
            }
        }
    }

    /// Ends the process at once, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Freezes the process: connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// How a store reaches it: patient enough for a loaded machine.
    pub fn config(&self) -> EtcdConfig {
        EtcdConfig {
            patience: PATIENCE,
            tls: self.tls.clone(),
            ..EtcdConfig::new([self.endpoint()])
        }
    }

    /// A store on it.
    pub fn store(&self) -> EtcdStore {
        EtcdStore::new(self.config())
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("etcd is running");
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port on loopback that nobody else is given while this lives, and that a process of ours may listen on, again and
/// again: the socket that holds it does not listen itself, and both have `SO_REUSEADDR`.
struct Port(TcpSocket);

impl Port {
    fn free() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self(socket)
    }

    fn number(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }
}
