//! `make up`: the whole stack in the foreground on one machine.
//!
//! *Invariant:* what is started here ends with this process, and nothing is written outside the state directory.

mod flags;
mod shop;
mod tell;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

pub use self::flags::Flags;
use self::flags::Use;
use crate::envoy::Envoy;
use crate::mesh::PREFIX;
use crate::process::Process;
use crate::run::Run;
use crate::stack::Trust;
use crate::{binaries, http, stack};

/// How often the parts are looked at once everything runs.
const WATCH: Duration = Duration::from_millis(250);

/// Starts everything, says what is where, and stays until it is interrupted.
///
/// # Errors
/// If a port is taken or a part does not start.
pub async fn up(flags: Flags) -> Result<()> {
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let mut running = Running::default();
    let outcome = tokio::select! {
        outcome = run(&flags, &mut running) => outcome,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    if !running.processes.is_empty() {
        tell::line("stopping");
        running.stop().await;
    }
    outcome
}

/// What was started, in that order.
#[derive(Default)]
struct Running {
    processes: Vec<Process>,
    envoys: Vec<Envoy>,
}

impl Running {
    /// Envoys and demo services first, etcd last.
    async fn stop(&self) {
        let envoys = self.envoys.iter().map(|envoy| &envoy.process);
        futures::future::join_all(envoys.map(Process::stop)).await;
        for process in self.processes.iter().rev() {
            process.stop().await;
        }
    }

    fn all(&self) -> impl Iterator<Item = &Process> {
        self.processes
            .iter()
            .chain(self.envoys.iter().map(|envoy| &envoy.process))
    }
}

async fn run(flags: &Flags, running: &mut Running) -> Result<()> {
    let uses = flags.uses();
    free(&uses)?;
    let state = Run::at(&flags.state)?;
    let logs = flags.state.join("logs");
    if logs.exists() {
        std::fs::remove_dir_all(&logs)
            .with_context(|| format!("removing the old {}", logs.display()))?;
    }
    let logs = Run::at(&logs)?;

    tell::start("etcd", flags.etcd);
    running
        .processes
        .push(stack::etcd(&logs, "etcd", flags.etcd, &state.path("etcd")).await?);
    let store = stack::Store {
        etcd: flags.etcd,
        more: &[],
        prefix: PREFIX,
        access: stack::Access::Plaintext,
    };
    let credentials = state.path("credentials");
    let mut ready = vec![flags.api, flags.xds_admin];
    let trust = if flags.insecure_plaintext_xds {
        Trust::Plaintext
    } else {
        stack::credentials(&logs, &credentials, store).await?;
        tell::start("cert-issuer", flags.issuer);
        let issuer = stack::Issuer {
            name: "cert-issuer",
            listen: flags.issuer,
            admin: flags.issuer_admin,
            store,
            credentials: &credentials,
            flags: &[],
        };
        running.processes.push(stack::issuer(&logs, issuer).await?);
        ready.insert(0, flags.issuer_admin);
        Trust::Identities(&credentials)
    };
    tell::start("config-api", flags.api);
    running
        .processes
        .push(stack::config_api(&logs, "config-api", flags.api, store, trust).await?);
    tell::start("xds-pusher", flags.xds);
    let pusher = stack::Pusher {
        name: "xds-pusher",
        listen: flags.xds,
        admin: flags.xds_admin,
        store,
        trust,
        flags: &[],
    };
    running.processes.push(stack::pusher(&logs, pusher).await?);
    for (process, address) in running.processes[1..].iter().zip(ready) {
        process
            .until("/readyz to say 200", stack::PATIENCE, async || {
                http::get(format!("http://{address}/readyz"))
                    .await?
                    .ok()
                    .map(|_| ())
            })
            .await?;
    }

    let first = shop::apply(flags, &state).await?;
    for workload in shop::workloads(flags) {
        if let Some(args) = workload.backend() {
            tell::start(workload.name, workload.application());
            let log = logs.path(&format!("{}.log", workload.name));
            let process = Process::start(
                workload.name,
                &binaries::built("weft-demo-backend")?,
                &args,
                &log,
            )?;
            process
                .listens(workload.application(), stack::PATIENCE)
                .await?;
            running.processes.push(process);
        }
        tell::start(&format!("Envoy of {}", workload.name), workload.admin);
        let bootstrap = stack::bootstrap(
            flags.api,
            (workload.namespace, workload.name),
            flags.variant,
            flags.xds,
        )
        .await?;
        let name = format!("envoy-{}", workload.name);
        running
            .envoys
            .push(Envoy::start(&logs, &name, flags.envoy, bootstrap, workload.admin).await?);
    }
    for envoy in &running.envoys {
        envoy.ready().await?;
    }
    if first {
        shop::answers(flags).await?;
    }
    tell::everything(flags, &logs);
    supervise(running).await
}

/// Starts again what ends, at most once a second each. Never returns but with an error.
async fn supervise(running: &Running) -> Result<()> {
    let mut again = std::collections::HashMap::new();
    loop {
        tokio::time::sleep(WATCH).await;
        for process in running.all() {
            let Some(status) = process.exited() else {
                continue;
            };
            let now = tokio::time::Instant::now();
            if again
                .get(process.name())
                .is_some_and(|last| now.duration_since(*last) < Duration::from_secs(1))
            {
                continue;
            }
            again.insert(process.name(), now);
            tell::line(&format!(
                "{} ended ({status}), see {}; starting it again",
                process.name(),
                process.log().display()
            ));
            process.start_again()?;
        }
    }
}

/// Checks that every address can be bound.
fn free(uses: &[Use]) -> Result<()> {
    let taken: Vec<String> = uses
        .iter()
        .filter_map(|u| {
            let error = std::net::TcpListener::bind(u.address).err()?;
            Some(format!(
                "{} of {}: {error}; stop what has it, or move it with {}",
                u.address, u.what, u.flag
            ))
        })
        .collect();
    if !taken.is_empty() {
        bail!("{}", taken.join("\n"));
    }
    Ok(())
}

/// The state directory of `make up` and `make clean`.
pub fn default_state() -> std::path::PathBuf {
    let here = Path::new(".weft");
    if here.is_dir() {
        here.to_owned()
    } else {
        binaries::repository().join(".weft")
    }
}
