//! What the documents tell people to type, typed: README, tutorial and operations beside `make up`, on its own ports in a network
//! namespace. The commands for Docker and for machines are run in [`crate::docker`].
//!
//! Where the machine makes no namespaces, this says so and checks only that every block has a class.

use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;
use weft_tests::binaries;
use weft_tests::docs::{Place, Shell, blocks};
use weft_tests::namespace::Namespace;
use weft_tests::run::Run;

use crate::up;

/// The documents whose every command is run.
pub(crate) const DOCUMENTS: [&str; 3] = ["README.md", "docs/tutorial.md", "docs/operations.md"];

/// `PATH` with this workspace's programs first.
pub(crate) fn path(first: &Path) -> String {
    format!("{}:{}", first.display(), std::env::var("PATH").unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_beside_make_up_does_what_its_document_says() {
    for name in DOCUMENTS {
        let text = std::fs::read_to_string(binaries::repository().join(name)).unwrap();
        let blocks = blocks(&text).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        assert!(!blocks.is_empty(), "{name}");
    }
    let namespace = match Namespace::make() {
        Ok(namespace) => namespace,
        Err(error) => {
            eprintln!("SKIPPED: no network namespace of one's own: {error:#}");
            return;
        }
    };
    let run = Run::temporary("documents").unwrap();
    let enter = namespace.enter();
    let mut command = Command::new(&enter[0]);
    command.args(&enter[1..]);
    let mut stack = command
        .arg(binaries::built("weft-up").unwrap())
        .arg("--state")
        .arg(run.path("state"))
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
    for place in [Place::Make, Place::Native] {
        let shell = Shell {
            place,
            enter: &enter,
            folder: binaries::repository(),
            env: &[("PATH", path(programs.parent().unwrap()))],
            run: &run,
        };
        for name in DOCUMENTS {
            if name == DOCUMENTS[0] && place == Place::Native && !has_kubectl {
                eprintln!("SKIPPED: {name} needs kubectl");
                continue;
            }
            let count = shell.document(name).await;
            let count = count.unwrap_or_else(|error| panic!("{error:#}"));
            assert!(count > 0 || place == Place::Make, "{name} has no command");
        }
    }
    let pid = Pid::from_raw(i32::try_from(stack.id().unwrap()).unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    assert!(stack.wait().await.unwrap().success());
}
