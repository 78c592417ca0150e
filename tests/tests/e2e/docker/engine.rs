//! A Docker engine of our own, and what people type to it.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;
use weft_tests::docs::{Place, Shell};
use weft_tests::namespace::Namespace;
use weft_tests::process::Process;
use weft_tests::run::Run;
use weft_tests::skip::skip;
use weft_tests::wait::PATIENCE;
use weft_tests::{binaries, wait};

use crate::documents::{self, DOCUMENTS};

/// What one `docker build` may take.
pub(super) const BUILDING: Duration = Duration::from_secs(900);

/// What a container may take to come up on a machine that builds meanwhile.
pub(super) const LONG: Duration = Duration::from_secs(240);

/// A Docker engine, and a copy of the repository to use it from.
pub(super) struct Engine {
    pub(super) namespace: Namespace,
    daemon: Process,
    pub(super) run: Run,
    /// What readers type into.
    shell: Run,
    pub(super) source: PathBuf,
}

impl Engine {
    async fn start() -> Result<Self> {
        let namespace = Namespace::make()?;
        let run = Run::temporary("docker")?;
        // Its containers and mounts end with it, however it ends.
        let alone = [
            "unshare",
            "--mount",
            "--pid",
            "--mount-proc",
            "--fork",
            "--kill-child",
        ];
        let path = documents::path(&tools()?);
        let path = format!("PATH={}:{path}", binaries::tool("iptables")?.display());
        let mut args = namespace.enter()[1..].to_vec();
        args.extend(alone.map(str::to_owned));
        args.extend(["env".to_owned(), path, "dockerd".to_owned()]);
        for (flag, name) in [
            ("--data-root", "data"),
            ("--exec-root", "exec"),
            ("--pidfile", "pid"),
        ] {
            args.extend([flag.to_owned(), run.path(name).display().to_string()]);
        }
        args.extend(["--host".to_owned(), socket(&run)]);
        let log = run.path("dockerd.log");
        let daemon = Process::start("dockerd", Path::new("nsenter"), &args, &log)?;
        let (shell, source) = (Run::at(&run.path("shell"))?, run.path("weft"));
        let engine = Self {
            namespace,
            daemon,
            run,
            shell,
            source,
        };
        let answers = async || engine.docker("info").await.map(drop);
        engine
            .daemon
            .until("dockerd to answer", PATIENCE, answers)
            .await?;
        Ok(engine)
    }

    fn env(&self) -> Vec<(&'static str, String)> {
        vec![
            ("PATH", documents::path(&tools().unwrap())),
            ("DOCKER_HOST", socket(&self.run)),
            ("DOCKER_BUILDKIT", "0".into()),
            ("COMPOSE_PROJECT_NAME", "weft".into()),
            (
                "COMPOSE_FILE",
                "docker-compose.yml:tests/docker/compose.yml".into(),
            ),
        ]
    }

    /// Runs a command in the engine's namespace; what it printed.
    pub(super) async fn command(&self, words: &[&str], limit: Duration) -> Result<String> {
        let enter = self.namespace.enter();
        let enter = enter.iter().map(String::as_str);
        let words: Vec<&str> = enter.chain(words.iter().copied()).collect();
        self.outside(&words, limit).await
    }

    /// Runs a command in the copy of the repository; what it printed.
    pub(super) async fn outside(&self, words: &[&str], limit: Duration) -> Result<String> {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).envs(self.env());
        if self.source.exists() {
            command.current_dir(&self.source);
        }
        command.kill_on_drop(true);
        let output = tokio::time::timeout(limit, command.output()).await;
        let Output {
            status,
            stdout,
            stderr,
        } = output.with_context(|| format!("{words:?} takes too long"))??;
        let said = String::from_utf8_lossy(&[stdout.as_slice(), &stderr].concat()).into_owned();
        ensure!(status.success(), "{words:?}: {status}\n{said}");
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }

    pub(super) async fn docker(&self, words: &str) -> Result<String> {
        let words: Vec<&str> = ["docker"]
            .into_iter()
            .chain(words.split_whitespace())
            .collect();
        self.command(&words, BUILDING).await
    }

    /// What is asked of the stack's published ports.
    pub(super) async fn curl(&self, words: &str) -> Result<String> {
        let all = ["curl", "--silent", "--fail", "--max-time", "10"];
        let words: Vec<&str> = all.into_iter().chain(words.split_whitespace()).collect();
        self.command(&words, PATIENCE).await
    }

    /// Runs the documents' commands for a place.
    pub(super) async fn documents(&self, place: Place, inside: &[&str]) -> usize {
        let enter = self.namespace.enter();
        let enter: Vec<String> = enter
            .into_iter()
            .chain(inside.iter().map(|w| (*w).to_owned()))
            .collect();
        let env = self.env();
        let shell = Shell {
            place,
            enter: &enter,
            env: &env,
            folder: &self.source,
            run: &self.shell,
        };
        let mut count = 0;
        for name in DOCUMENTS {
            count += shell
                .document(name)
                .await
                .unwrap_or_else(|error| panic!("{error:#}"));
        }
        count
    }

    /// Until the shop answers in full.
    pub(super) async fn answers(&self) {
        let answer = async || self.shop(8000).await;
        wait::until("the shop to answer", LONG, answer)
            .await
            .unwrap();
    }

    /// An engine, unless this machine starts none, which is said.
    pub(super) async fn start_or_say() -> Option<Self> {
        let engine = Self::start().await;
        let engine =
            engine.inspect_err(|error| skip(format!("no Docker engine can be started: {error:#}")));
        let engine = engine.ok()?;
        copy(&engine.source);
        Some(engine)
    }

    /// Makes the images that the files start from. They come from Debian's archive, which the namespace does not reach.
    pub(super) async fn stand_ins(&self, programs: &str) {
        let script = binaries::repository().join("tests/docker/stand-ins");
        let words = [script.to_str().unwrap(), programs];
        self.outside(&words, BUILDING).await.unwrap();
    }

    /// What the shop's gateway answers on this port, if it is the whole shop.
    pub(super) async fn shop(&self, port: u16) -> Result<String> {
        let front = self.curl(&format!("http://localhost:{port}/")).await?;
        let whole = ["orders", "payments"].map(|name| format!("\"service\":\"{name}\""));
        ensure!(whole.iter().all(|part| front.contains(part)), "{front}");
        Ok(front)
    }

    /// Until containers of these services are all healthy.
    pub(super) async fn healthy(&self, services: &str) {
        let healthy = async || {
            let ids = self.docker(&format!("compose ps -q {services}")).await?;
            let ids = ids.split_whitespace().collect::<Vec<_>>().join(" ");
            let states = self
                .docker(&format!(
                    "inspect --format {{{{.State.Health.Status}}}} {ids}"
                ))
                .await?;
            ensure!(
                states.lines().all(|state| state == "healthy"),
                "{services}: {states}"
            );
            anyhow::Ok(())
        };
        wait::until("containers to be healthy", LONG, healthy)
            .await
            .unwrap();
    }

    /// Writes another version of every image's files.
    pub(super) async fn next_version(&self) -> Version {
        let path = self.source.join("packaging/docker/healthcheck");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, text + "# Another version.\n").unwrap();
        let mut old = Vec::new();
        for name in ["cert-issuer", "xds-pusher", "config-api", "sidecar"] {
            old.push((name, self.image(name).await));
        }
        Version { old }
    }

    async fn image(&self, name: &str) -> String {
        let ask = format!("image inspect --format {{{{.Id}}}} weft/{name}:local");
        self.docker(&ask).await.unwrap().trim().to_owned()
    }

    /// Takes the stack down, and sees everything of it go.
    pub(super) async fn gone(&self) {
        self.docker("compose --profile tools down --volumes")
            .await
            .unwrap();
        for left in [
            "ps --all --quiet",
            "volume ls --quiet",
            "network ls --quiet --filter type=custom",
        ] {
            assert_eq!(self.docker(left).await.unwrap(), "", "docker {left}");
        }
    }

    /// Ends it, and sees its data go.
    pub(super) async fn stop(self) {
        self.daemon.stop().await;
        let data = self.run.path("data");
        let gone = async || std::fs::remove_dir_all(&data);
        wait::until("the engine's data to go", PATIENCE, gone)
            .await
            .unwrap();
    }
}

/// The images before a new version was there.
pub(super) struct Version {
    old: Vec<(&'static str, String)>,
}

impl Version {
    /// Demands that what runs is the new one.
    pub(super) async fn runs(&self, engine: &Engine) {
        for (name, old) in &self.old {
            let new = engine.image(name).await;
            assert_ne!(new, *old, "{name} was not built anew");
            let running = format!("ps --all --quiet --filter ancestor={old}");
            assert_eq!(
                engine.docker(&running).await.unwrap(),
                "",
                "{name} runs as it was"
            );
            let running = format!("ps --quiet --filter ancestor={new}");
            assert_ne!(
                engine.docker(&running).await.unwrap(),
                "",
                "{name} does not run"
            );
        }
    }
}

pub(super) fn tools() -> Result<PathBuf> {
    binaries::tool("docker/bin")
}

fn socket(run: &Run) -> String {
    format!("unix://{}", run.path("docker.sock").display())
}

/// Copies the repository's own files.
fn copy(to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let all = "git ls-files --cached --others --exclude-standard -z | tar --null --files-from - --create | tar --extract --directory \"$0\"";
    let mut command = std::process::Command::new("bash");
    command.args(["-euo", "pipefail", "-c", all]).arg(to);
    let output = command
        .current_dir(binaries::repository())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}
