//! The stack in containers, and on a machine with systemd: what the documents tell people to type there, and containers that are
//! killed under requests.
//!
//! A Docker engine of our own runs in a network namespace, so that the ports of the documents are free. Where none can be started, this says so and checks nothing.

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
const BUILDING: Duration = Duration::from_secs(900);

/// What a machine with systemd may do: what systemd needs, and no more than a sandbox has itself.
const MACHINE: &str = "--cap-add SYS_ADMIN --cap-add NET_ADMIN --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
                       --cgroupns host --volume /sys/fs/cgroup:/sys/fs/cgroup --tmpfs /run --tmpfs /run/lock --env container=docker";

/// A Docker engine, and a copy of the repository to use it from.
struct Engine {
    namespace: Namespace,
    daemon: Process,
    run: Run,
    /// What readers type into.
    shell: Run,
    source: PathBuf,
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
    async fn command(&self, words: &[&str], limit: Duration) -> Result<String> {
        let enter = self.namespace.enter();
        let enter = enter.iter().map(String::as_str);
        let words: Vec<&str> = enter.chain(words.iter().copied()).collect();
        self.outside(&words, limit).await
    }

    /// Runs a command in the copy of the repository; what it printed.
    async fn outside(&self, words: &[&str], limit: Duration) -> Result<String> {
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

    async fn docker(&self, words: &str) -> Result<String> {
        let words: Vec<&str> = ["docker"]
            .into_iter()
            .chain(words.split_whitespace())
            .collect();
        self.command(&words, BUILDING).await
    }

    /// What is asked of the stack's published ports.
    async fn curl(&self, words: &str) -> Result<String> {
        let all = ["curl", "--silent", "--fail", "--max-time", "10"];
        let words: Vec<&str> = all.into_iter().chain(words.split_whitespace()).collect();
        self.command(&words, PATIENCE).await
    }

    /// Runs the documents' commands for a place.
    async fn documents(&self, place: Place, inside: &[&str]) -> usize {
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
    async fn answers(&self) {
        let answer = async || {
            let front = self.curl("http://localhost:8000/").await?;
            ensure!(
                front.contains("\"service\":\"orders\"")
                    && front.contains("\"service\":\"payments\""),
                "{front}"
            );
            anyhow::Ok(())
        };
        wait::until("the shop to answer", PATIENCE, answer)
            .await
            .unwrap();
    }

    /// Ends it, and sees its data go.
    async fn stop(self) {
        self.daemon.stop().await;
        let data = self.run.path("data");
        let gone = async || std::fs::remove_dir_all(&data);
        wait::until("the engine's data to go", PATIENCE, gone)
            .await
            .unwrap();
    }
}

fn tools() -> Result<PathBuf> {
    binaries::tool("docker/bin")
}

fn socket(run: &Run) -> String {
    format!("unix://{}", run.path("docker.sock").display())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_and_machines_do_what_the_documents_say() {
    let engine = match Engine::start().await {
        Ok(engine) => engine,
        Err(error) => {
            skip(format!("no Docker engine can be started: {error:#}"));
            return;
        }
    };
    copy(&engine.source);
    let programs = binaries::built("meshctl").unwrap();
    let programs = programs.parent().unwrap().to_str().unwrap();
    let stand_ins = binaries::repository().join("tests/docker/stand-ins");
    // They come from Debian's archive, which the namespace does not reach.
    let made = engine
        .outside(&[stand_ins.to_str().unwrap(), programs], BUILDING)
        .await;
    made.unwrap();
    engine
        .docker("compose --profile tools build")
        .await
        .unwrap();

    assert!(engine.documents(Place::Compose, &[]).await > 20);
    kills(&engine).await;
    three_members(&engine).await;
    engine
        .docker("compose --profile tools down --volumes")
        .await
        .unwrap();
    for left in [
        "ps --all --quiet",
        "volume ls --quiet",
        "network ls --quiet --filter type=custom",
    ] {
        assert_eq!(engine.docker(left).await.unwrap(), "", "docker {left}");
    }
    machine(&engine).await;
    engine.stop().await;
}

/// The file is taken by docker-compose 1.29 above; and here by the library that `docker compose` v2 reads it with.
#[tokio::test]
async fn compose_v2_reads_the_file_as_well() {
    let folder = binaries::repository().join("tests/docker/v2");
    let file = binaries::repository().join("docker-compose.yml");
    let run = Run::temporary("compose-v2").unwrap();
    let program = run.path("services");
    let mut build = Command::new("go");
    build
        .current_dir(folder)
        .args(["build", "-o"])
        .arg(&program)
        .arg(".");
    let built = match build.output().await {
        Ok(built) => built,
        Err(error) => {
            skip(format!("no Go to build compose-go with: {error}"));
            return;
        }
    };
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let read = Command::new(&program).arg(file).output().await.unwrap();
    assert!(
        read.status.success(),
        "{}",
        String::from_utf8_lossy(&read.stderr)
    );
    let services = String::from_utf8(read.stdout).unwrap();
    for service in ["etcd-3", "xds-pusher", "web-sidecar", "prometheus"] {
        assert!(
            services.lines().any(|line| line == service),
            "{service} is not among {services}"
        );
    }
}

/// The parts of the control plane die, one after another and then all at once, and no request through the gateway fails.
async fn kills(engine: &Engine) {
    engine
        .docker("compose up --detach --scale xds-pusher=2")
        .await
        .unwrap();
    engine.answers().await;
    for parts in [
        "xds-pusher",
        "config-api-1-app",
        "cert-issuer",
        "etcd",
        "config-api-2-app config-api-1-sidecar",
    ] {
        engine
            .docker(&format!("compose kill {parts}"))
            .await
            .unwrap();
        for _ in 0..10 {
            let front = engine.curl("http://localhost:8000/").await.unwrap();
            assert!(
                front.contains("\"service\":\"payments\""),
                "without {parts}: {front}"
            );
        }
    }
    engine
        .docker("compose up --detach --scale xds-pusher=2")
        .await
        .unwrap();
    let synced = async || {
        engine.curl("http://localhost:8081/readyz").await?;
        let proxies = engine.curl("http://localhost:8080/v1/proxies").await?;
        ensure!(
            proxies.matches("\"workloadKnown\":true").count() == 7,
            "{proxies}"
        );
        anyhow::Ok(())
    };
    wait::until("seven proxies", PATIENCE, synced)
        .await
        .unwrap();
    engine.answers().await;
}

/// The profile with three members of etcd: they form a cluster by the lines that `.env.example` has for it.
async fn three_members(engine: &Engine) {
    engine.docker("compose down --volumes").await.unwrap();
    let example = std::fs::read_to_string(engine.source.join(".env.example")).unwrap();
    let line = |name: &str| {
        let found = example.lines().filter_map(|line| line.strip_prefix('#'));
        let mut found = found.filter(|line| line.starts_with(name));
        found
            .next()
            .unwrap_or_else(|| panic!("{name} is not in .env.example"))
            .to_owned()
    };
    let env = [
        "COMPOSE_PROFILES=etcd-cluster".into(),
        line("ETCD_INITIAL_CLUSTER="),
        line("WEFT_ETCD_ENDPOINTS="),
    ];
    std::fs::write(engine.source.join(".env"), env.join("\n")).unwrap();
    engine
        .docker("compose up --detach etcd etcd-2 etcd-3")
        .await
        .unwrap();
    let endpoints = line("WEFT_ETCD_ENDPOINTS=").replace("WEFT_ETCD_ENDPOINTS=", "--endpoints=");
    let ask = format!("compose exec -T etcd etcdctl {endpoints} endpoint status");
    let members = async || {
        let status = engine.docker(&ask).await?;
        ensure!(status.lines().count() == 3, "{status}");
        anyhow::Ok(())
    };
    wait::until("three members", PATIENCE, members)
        .await
        .unwrap();
}

/// A machine with systemd: a container that runs the units.
async fn machine(engine: &Engine) {
    let mounted = |path: &Path, inside: &str| format!("--volume {}:{inside}", path.display());
    let volumes = [
        mounted(&engine.source, &engine.source.display().to_string()),
        mounted(
            &engine.run.path("shell"),
            &engine.run.path("shell").display().to_string(),
        ),
        mounted(
            &binaries::tool("envoy-1.40.0").unwrap(),
            "/usr/local/bin/envoy:ro",
        ),
        mounted(
            binaries::built("meshctl").unwrap().parent().unwrap(),
            &format!("{}/target/release:ro", engine.source.display()),
        ),
    ];
    let start = format!(
        "docker run --detach --name machine {MACHINE} {} weft/machine sh -c",
        volumes.join(" ")
    );
    // systemd passes credentials to its services by mounts that must be seen across its namespaces.
    let systemd = "mount --make-rshared / && exec /lib/systemd/systemd";
    let start: Vec<&str> = start.split_whitespace().chain([systemd]).collect();
    engine.command(&start, PATIENCE).await.unwrap();
    let up = async || {
        engine
            .docker("exec machine systemctl is-system-running")
            .await
    };
    wait::until("the machine to run", PATIENCE, up)
        .await
        .unwrap();
    let folder = engine.source.display().to_string();
    let docker = tools().unwrap().join("docker").display().to_string();
    let inside = [docker.as_str(), "exec", "--workdir", &folder, "machine"];
    let count = engine.documents(Place::Machine, &inside).await;
    assert!(count > 5, "{count}");
    engine.docker("rm --force machine").await.unwrap();
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
