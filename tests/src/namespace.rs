//! Network namespaces of one's own, for what loopback cannot show: connections that the kernel redirects.
//!
//! A namespace lives as long as the thread that made it, so none is left behind, not even by a test that is killed.
//! *Invariant:* nothing outside the namespaces made here is changed.

mod network;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

pub use self::network::Network;

/// Something to do in a namespace. The future stays on its thread.
type Task = Box<dyn FnOnce() -> LocalBoxFuture<'static, ()> + Send>;

/// A network namespace, with a thread in it that runs tasks.
pub struct Namespace {
    thread: i32,
    tasks: mpsc::UnboundedSender<Task>,
    end: CancellationToken,
}

impl Namespace {
    /// A new namespace; only loopback is up in it.
    ///
    /// # Errors
    /// If this machine does not let us make one.
    pub fn make() -> Result<Self> {
        let (reply, answer) = std::sync::mpsc::sync_channel(1);
        let (tasks, queue) = mpsc::unbounded_channel();
        let body = move || {
            let made = unshare(CloneFlags::CLONE_NEWNET).context("unshare(CLONE_NEWNET)");
            let made = made.map(|()| gettid().as_raw());
            let failed = made.is_err();
            let _maker_gone = reply.send(made);
            if !failed {
                serve(queue);
            }
        };
        std::thread::Builder::new()
            .name("namespace".into())
            .spawn(body)
            .context("a thread for the namespace")?;
        let namespace = Self {
            thread: answer.recv().context("the namespace's thread ended")??,
            tasks,
            end: CancellationToken::new(),
        };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The words before a command that make it run in here.
    pub fn enter(&self) -> Vec<String> {
        let (process, thread) = (std::process::id(), self.thread);
        let file = format!("--net=/proc/{process}/task/{thread}/ns/net");
        vec!["nsenter".into(), file, "--".into()]
    }

    /// Runs `ip` in here.
    ///
    /// # Errors
    /// If it cannot be run or fails; the message holds what it said.
    pub fn ip(&self, words: &str) -> Result<()> {
        self.command(Path::new("ip"), words)
    }

    /// Runs a program in here and waits for its end.
    ///
    /// # Errors
    /// As [`Namespace::ip`].
    pub fn command(&self, program: &Path, words: &str) -> Result<()> {
        let enter = self.enter();
        let mut command = Command::new(&enter[0]);
        command
            .args(&enter[1..])
            .arg(program)
            .args(words.split_whitespace());
        let what = || format!("{} {words}", program.display());
        let output = command.output().with_context(what)?;
        if !output.status.success() {
            bail!(
                "{}: {}",
                what(),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(())
    }

    /// Connects two namespaces: `eth0` of each is an end of one wire, with these addresses (`10.0.0.1/24`).
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn wire(&self, address: &str, other: &Self, other_address: &str) -> Result<()> {
        self.wire_as(("eth0", address), other, other_address)
    }

    /// The same, where the end in here has a name of its own.
    fn wire_as(
        &self,
        (name, address): (&str, &str),
        other: &Self,
        other_address: &str,
    ) -> Result<()> {
        let far = other.thread;
        self.ip(&format!(
            "link add {name} type veth peer name eth0 netns {far}"
        ))?;
        for (end, name, address) in [(self, name, address), (other, "eth0", other_address)] {
            end.ip(&format!("address add dev {name} {address}"))?;
            end.ip(&format!("link set {name} up"))?;
        }
        Ok(())
    }

    /// Runs a task in here: every socket it opens is the namespace's.
    ///
    /// # Panics
    /// If the task does.
    pub async fn run<F>(&self, task: impl FnOnce() -> F + Send + 'static) -> F::Output
    where
        F: Future<Output: Send + 'static> + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let task: Task = Box::new(move || {
            let done = async move {
                let _asker_gone = reply.send(task().await);
            };
            done.boxed_local()
        });
        let sent = self.tasks.send(task);
        sent.unwrap_or_else(|_| panic!("the namespace's thread ended"));
        answer.await.expect("a task in the namespace panicked")
    }

    /// Makes an address that is served outside reachable in here, under the same address, while this lives.
    ///
    /// # Errors
    /// If the address cannot be bound in here.
    pub async fn reach(&self, address: SocketAddr) -> Result<()> {
        let bind = async move || TcpListener::bind(address).await?.into_std();
        let inside = TcpListener::from_std(self.run(bind).await?)?;
        let relay = async move {
            while let Ok((mut near, _)) = inside.accept().await {
                tokio::spawn(async move {
                    if let Ok(mut far) = TcpStream::connect(address).await {
                        let _one_end_gone =
                            tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        };
        tokio::spawn(self.end.clone().run_until_cancelled_owned(relay));
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

/// Runs what is sent until nobody can send any more.
fn serve(mut queue: mpsc::UnboundedReceiver<Task>) {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime needs file descriptors only");
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, async {
        while let Some(task) = queue.recv().await {
            tokio::task::spawn_local(task());
        }
    });
}
