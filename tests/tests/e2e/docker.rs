//! The stack in containers, and on a machine with systemd: what the documents tell people to type there, who is let in, and
//! containers that are killed under load.
//!
//! A Docker engine of our own runs in a network namespace, so that the ports of the documents are free. Where none can be started, this says so and checks nothing.

mod compiled;
mod doors;
mod engine;
mod hardened;
mod kills;
mod movable;

use std::path::Path;

use tokio::process::Command;
use weft_tests::docs::Place;
use weft_tests::run::Run;
use weft_tests::skip::skip;
use weft_tests::wait::PATIENCE;
use weft_tests::{binaries, wait};

use self::engine::{Engine, tools};

/// What a machine with systemd may do: what systemd needs, and no more than a sandbox has itself.
const MACHINE: &str = "--cap-add SYS_ADMIN --cap-add NET_ADMIN --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
                       --cgroupns host --volume /sys/fs/cgroup:/sys/fs/cgroup --tmpfs /run --tmpfs /run/lock --env container=docker";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_and_machines_do_what_the_documents_say() {
    let Some(engine) = Engine::start_or_say().await else {
        return;
    };
    let programs = binaries::built("meshctl").unwrap();
    let programs = programs.parent().unwrap().to_str().unwrap();
    engine.stand_ins(programs).await;
    engine
        .docker("compose --profile tools build")
        .await
        .unwrap();

    let version = engine.next_version().await;
    assert!(engine.documents(Place::Compose, &[]).await > 20);
    version.runs(&engine).await;
    hardened::as_documented(&engine).await;
    backed_up_elsewhere(&engine).await;
    doors::only_this_machine_writes(&engine).await;
    doors::no_policy_closes_the_api(&engine).await;
    doors::a_revoked_workload_gets_a_new_bootstrap(&engine).await;
    kills::cost_no_request(&engine).await;
    movable::everything_in_the_example(&engine).await;
    engine.gone().await;
    machine(&engine).await;
    engine.stop().await;
}

/// The keys of a backup are where nobody else reads, and no image is made of.
async fn backed_up_elsewhere(engine: &Engine) {
    use std::os::unix::fs::PermissionsExt as _;
    let backup = engine.source.join("../weft-backup");
    for name in ["weft.snapshot", "key-encryption-keys"] {
        assert!(backup.join(name).exists(), "{name}");
        assert!(!engine.source.join(name).exists(), "{name}");
    }
    let mode = backup.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "{mode:o}");
}

/// Who takes a backup into the repository's folder all the same commits it to nothing.
#[test]
fn secrets_are_ignored_by_git_and_docker() {
    let ignored = |file: &str| {
        let path = binaries::repository().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (git, docker) = (ignored(".gitignore"), ignored(".dockerignore"));
    for name in [".env", "key-encryption-keys", "*.snapshot", "*.credential"] {
        let anchored = format!("/{name}");
        assert!(
            git.iter().any(|line| line == name || *line == anchored),
            "git: {name}"
        );
        assert!(docker.iter().any(|line| line == name), "docker: {name}");
    }
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
