//! What the documents tell people to type, typed: README, tutorial and operations beside `make up`, on its own ports in a network
//! namespace. The commands for Docker and for machines are run in [`crate::docker`].
//!
//! [`REFERENCE`] comes after them. Where the machine makes no namespaces, this says so and checks only that every block has a class.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::Value;
use tokio::process::Command;
use weft_tests::docs::{Block, Named, Place, Program, Shell, blocks, not_run};
use weft_tests::mesh::Mesh;
use weft_tests::namespace::Namespace;
use weft_tests::run::Run;
use weft_tests::skip::skip;
use weft_tests::wait::PATIENCE;
use weft_tests::{binaries, wait};

use crate::left::Left;
use crate::metrics::documented;
use crate::up;

/// This workspace's programs.
const PROGRAMS: [&str; 7] = [
    "meshctl",
    "config-api",
    "xds-pusher",
    "cert-issuer",
    "weft-up",
    "weft-bench",
    "weft-demo-backend",
];

/// The documents whose every command is run.
pub(crate) const DOCUMENTS: [&str; 3] = ["README.md", "docs/tutorial.md", "docs/operations.md"];

/// The documents whose commands are run beside `make up`, or only checked where they say so.
const REFERENCE: [&str; 3] = ["docs/API.md", "docs/meshctl.md", "docs/issuer.md"];

/// `PATH` with this workspace's programs first.
pub(crate) fn path(first: &Path) -> String {
    format!("{}:{}", first.display(), std::env::var("PATH").unwrap())
}

/// All documents, by their paths in the repository.
fn all() -> Vec<String> {
    let root = binaries::repository();
    let mut found = vec!["README.md".to_owned(), "shared/xds/README.md".to_owned()];
    for folder in ["docs", "docs/decisions"] {
        let files = std::fs::read_dir(root.join(folder)).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        found.extend(
            names
                .filter(|name| name.ends_with(".md"))
                .map(|name| format!("{folder}/{name}")),
        );
    }
    found.sort();
    found
}

fn read(name: &str) -> String {
    std::fs::read_to_string(binaries::repository().join(name)).unwrap()
}

#[test]
fn every_command_in_passing_is_in_a_block_that_is_run() {
    let documents = DOCUMENTS.map(|name| (name, read(name)));
    let wrong = not_run(&documents).unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_documents_name_is_there() {
    let mesh = Mesh::start("documents-name").await.unwrap();
    let api = mesh.call(Method::GET, "/v1/openapi.json", None).await;
    let api = api.unwrap().ok().unwrap().json().unwrap();
    let methods = |operations: &Value| {
        let operations = operations.as_object().unwrap().keys();
        operations.map(|method| method.to_uppercase()).collect()
    };
    let paths = api["paths"].as_object().unwrap().iter();
    let paths = paths.map(|(path, operations)| (path.clone(), methods(operations)));
    let programs = PROGRAMS.map(|name| {
        let program = Program::ask(&binaries::built(name).unwrap()).unwrap();
        (name.to_owned(), program)
    });
    // What docker compose reads, one that is no flag, so that no list of processes shows its value, and what tests read.
    let settings = [
        ".env.example",
        "docker-compose.yml",
        "cert-issuer/src/config.rs",
        "tests/src/skip.rs",
        "tests/tests/e2e/docker/compiled.rs",
    ];
    let settings = settings.map(read).concat();
    let variables = settings.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let named = Named {
        programs: programs.into(),
        variables: { variables }
            .filter(|word| word.starts_with("WEFT_"))
            .map(str::to_owned)
            .collect(),
        paths: paths.collect(),
        metrics: documented().into_keys().collect(),
    };
    let mut wrong = Vec::new();
    for name in all() {
        let run = [&DOCUMENTS[..], &REFERENCE].concat();
        for block in blocks(&read(&name)).unwrap_or_default() {
            let nowhere = !block.places.contains(&Place::Checked);
            let here = REFERENCE.contains(&&*name) && block.places != [Place::Native].into();
            if nowhere && (here || !run.contains(&&*name)) {
                wrong.push(format!("{name}:{}: nothing runs this block", block.line));
            }
        }
        let of_it = named.missing(binaries::repository(), &name, &read(&name));
        wrong.extend(of_it.unwrap());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_beside_make_up_does_what_its_document_says() {
    for name in DOCUMENTS {
        let text = read(name);
        let blocks = blocks(&text).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        assert!(!blocks.is_empty(), "{name}");
        let only_checked = |block: &Block| block.places.contains(&Place::Checked);
        assert!(!blocks.iter().any(only_checked), "{name} is run, all of it");
    }
    let namespace = match Namespace::make() {
        Ok(namespace) => namespace,
        Err(error) => {
            skip(format!("no network namespace of one's own: {error:#}"));
            return;
        }
    };
    let run = Run::temporary("documents").unwrap();
    let enter = namespace.enter();
    let mut command = Command::new(&enter[0]);
    command.args(&enter[1..]);
    let mut stack = command
        .args(["make", "up"])
        .arg(format!("CARGO={}", built_already(&run).display()))
        .arg(format!("ARGS=--state {}", run.path("state").display()))
        .current_dir(binaries::repository())
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    up::ready(&mut stack).await;
    let programs = binaries::built("meshctl").unwrap();
    let has_kubectl = Command::new("kubectl")
        .arg("version")
        .arg("--client")
        .output()
        .await
        .is_ok();
    // What readers write is theirs; of the repository they use the demo's files.
    let folder = run.path("reader");
    std::fs::create_dir(&folder).unwrap();
    let demo = binaries::repository().join("demo");
    std::os::unix::fs::symlink(demo, folder.join("demo")).unwrap();
    for (place, folder) in [
        (Place::Make, binaries::repository()),
        (Place::Native, &folder),
    ] {
        let shell = Shell {
            place,
            enter: &enter,
            folder,
            env: &[("PATH", path(programs.parent().unwrap()))],
            run: &run,
        };
        for name in DOCUMENTS.into_iter().chain(REFERENCE) {
            let needs_kubectl = [DOCUMENTS[0], REFERENCE[0]].contains(&name);
            if needs_kubectl && place == Place::Native && !has_kubectl {
                skip(format!("{name} needs kubectl"));
                continue;
            }
            let count = shell.document(name).await;
            let count = count.unwrap_or_else(|error| panic!("{error:#}"));
            assert!(count > 0 || place == Place::Make, "{name} has no command");
        }
    }
    // As Ctrl-C does: the whole group of processes.
    let (pid, left) = (stack.id().unwrap(), Left::of(stack.id().unwrap()));
    assert!(left.processes.values().any(|name| name == "weft-up"));
    killpg(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGINT).unwrap();
    let ended = tokio::time::timeout(PATIENCE, stack.wait()).await;
    ended.expect("`make up` ends").unwrap();
    wait::until("its processes to end", PATIENCE, async || left.alive())
        .await
        .unwrap();
}

/// What `make` is given for a cargo: it builds nothing, for that was done, and runs what was built.
fn built_already(run: &Run) -> PathBuf {
    let cargo = run.path("cargo");
    let up = binaries::built("weft-up").unwrap();
    let script = format!(
        "#!/bin/bash\n[ \"$1\" != build ] || exit 0\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nexec '{}' \"$@\"\n",
        up.display()
    );
    std::fs::write(&cargo, script).unwrap();
    std::fs::set_permissions(&cargo, Permissions::from_mode(0o755)).unwrap();
    cargo
}
