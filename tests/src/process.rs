//! Child processes that log to a file of their own and never outlive the harness.
//!
//! Each runs in a process group of its own (Ctrl-C on a terminal reaches only the harness) and asks the kernel, by
//! `setpriv --pdeathsig`, to be killed when the harness dies. *Invariant:* nothing is signalled but by its pid.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait;

/// How long a process may take to end after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(60);

/// Variables of a process, beside those of the harness.
pub type Environment = BTreeMap<String, String>;

/// A running child process.
#[derive(Debug)]
pub struct Process {
    name: String,
    program: PathBuf,
    args: Vec<String>,
    environment: Environment,
    child: Mutex<Child>,
    log: PathBuf,
}

impl Process {
    /// Starts a program; both of its output streams are appended to `log`.
    ///
    /// # Errors
    /// If the log cannot be opened or the program not be started.
    pub fn start(name: &str, program: &Path, args: &[String], log: &Path) -> Result<Self> {
        Self::start_in(name, program, args, &Environment::new(), log)
    }

    /// The same with further variables in its environment.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub fn start_in(
        name: &str,
        program: &Path,
        args: &[String],
        environment: &Environment,
        log: &Path,
    ) -> Result<Self> {
        let child = Mutex::new(spawn(name, program, args, environment, log)?);
        let (name, program, args) = (name.to_owned(), program.to_owned(), args.to_owned());
        Ok(Self {
            name,
            program,
            args,
            environment: environment.clone(),
            child,
            log: log.to_owned(),
        })
    }

    /// Starts it again as before, after it ended.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub fn start_again(&self) -> Result<()> {
        let Self {
            name,
            program,
            args,
            environment,
            log,
            ..
        } = self;
        let child = spawn(name, program, args, environment, log)?;
        *self.child() = child;
        Ok(())
    }

    /// What it was called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it has.
    pub fn exited(&self) -> Option<ExitStatus> {
        self.child().try_wait().ok().flatten()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let mut child = self.child();
        // The pid is ours until the child was waited for; `try_wait` remembers that it was.
        if let Ok(None) = child.try_wait() {
            let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid fits an i32"));
            if let Err(error) = kill(pid, signal) {
                tracing::warn!("sending {signal} to {}: {error}", self.name);
            }
        }
    }

    /// Asks it to end, waits, kills it if it does not. Returns how it ended.
    pub async fn stop(&self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        let ended = wait::until("the end of the process", GRACE, async || {
            self.exited().ok_or("still running")
        })
        .await;
        ended.unwrap_or_else(|_| self.kill())
    }

    /// Kills it and waits for its end, which is immediate.
    pub fn kill(&self) -> ExitStatus {
        let mut child = self.child();
        if let Err(error) = child.kill() {
            tracing::debug!("killing {}: {error}", self.name);
        }
        child.wait().expect("a child of ours can be waited for")
    }

    /// Waits for a condition while the process runs.
    ///
    /// # Errors
    /// When the process ends or the deadline passes; the message holds the end of the log.
    pub async fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        mut probe: impl AsyncFnMut() -> Result<T>,
    ) -> Result<T> {
        let outcome = wait::until(what, limit, async || match self.exited() {
            Some(status) => Ok(Err(anyhow!("it ended: {status}"))),
            None => probe().await.map(Ok),
        });
        let flat = outcome.await.and_then(|inner| inner);
        flat.map_err(|error| {
            anyhow!(
                "{}: {error:#}\n--- the end of {}:\n{}",
                self.name,
                self.log.display(),
                self.tail(25)
            )
        })
    }

    /// Waits until it ended, and well.
    ///
    /// # Errors
    /// If it ended otherwise, or not in time; the message holds the end of its log.
    pub async fn succeeds(&self, limit: Duration) -> Result<()> {
        let ended = wait::until("the end of the process", limit, async || {
            self.exited().ok_or("still running")
        });
        match ended.await {
            Ok(status) if status.success() => Ok(()),
            other => bail!(
                "{}: {other:?}\n--- the end of {}:\n{}",
                self.name,
                self.log.display(),
                self.tail(25)
            ),
        }
    }

    /// Waits until it accepts connections at an address.
    ///
    /// # Errors
    /// As [`Process::until`].
    pub async fn listens(&self, address: SocketAddr, limit: Duration) -> Result<()> {
        self.until(&format!("a listener on {address}"), limit, async || {
            tokio::net::TcpStream::connect(address).await?;
            Ok(())
        })
        .await
    }

    /// The last lines of its log.
    pub fn tail(&self, lines: usize) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exited().is_none() {
            self.kill();
        }
    }
}

fn spawn(
    name: &str,
    program: &Path,
    args: &[String],
    environment: &Environment,
    log: &Path,
) -> Result<Child> {
    let out = File::options().create(true).append(true).open(log);
    let out = out.with_context(|| format!("opening {}", log.display()))?;
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(program)
        .args(args)
        .envs(environment);
    command
        .process_group(0)
        .stdin(Stdio::null())
        .stderr(out.try_clone()?)
        .stdout(out);
    spawn_from_lasting_thread(command).with_context(|| format!("starting {name}"))
}

/// Spawns from a thread that never ends: the kernel sends the death signal when the *thread* that forked ends, and
/// neither a test's thread nor a runtime's lives as long as the harness.
fn spawn_from_lasting_thread(command: Command) -> Result<Child> {
    type Order = (Command, mpsc::SyncSender<io::Result<Child>>);
    static SPAWNER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
        let (orders, queue) = mpsc::channel::<Order>();
        std::thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                for (mut command, reply) in queue {
                    let _caller_gone = reply.send(command.spawn());
                }
            })
            .expect("a thread can be started");
        orders
    });
    let (reply, answer) = mpsc::sync_channel(1);
    if SPAWNER.send((command, reply)).is_err() {
        bail!("the spawning thread is gone");
    }
    Ok(answer.recv().context("the spawning thread is gone")??)
}
