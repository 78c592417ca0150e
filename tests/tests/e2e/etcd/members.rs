//! The members of the etcd, and what is done to them.
//!
//! *Invariant:* a member is known by its place, 0 to 2.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use weft_tests::mesh::PREFIX;
use weft_tests::process::Process;
use weft_tests::run::Run;
use weft_tests::{binaries, http, stack, wait};

use super::site::{Ground, MEMBERS};

/// Three members.
pub(super) struct Members {
    clients: Vec<SocketAddr>,
    processes: Vec<Process>,
}

impl Members {
    pub(super) async fn start(ground: &Ground, run: &Run) -> Result<Self> {
        let clients: Vec<SocketAddr> = MEMBERS.map(|n| ground.at(n, 2379)).into();
        let runs = MEMBERS.map(|n| ground.run(run, n));
        let processes = stack::etcd_cluster(&runs, &clients).await?;
        Ok(Self { clients, processes })
    }

    /// Where clients connect.
    pub(super) fn clients(&self) -> &[SocketAddr] {
        &self.clients
    }

    pub(super) fn kill(&self, n: usize) {
        self.processes[n].kill();
    }

    pub(super) fn signal(&self, n: usize, signal: Signal) {
        self.processes[n].signal(signal);
    }

    /// Starts these again, on their data, and waits until they serve.
    pub(super) async fn restart(&self, of: &[usize]) -> Result<()> {
        for n in of {
            self.processes[*n].start_again()?;
        }
        for n in of {
            self.processes[*n]
                .listens(self.clients[*n], wait::PATIENCE)
                .await?;
        }
        Ok(())
    }

    /// Which one leads, as all of them say.
    pub(super) async fn leader(&self) -> Result<usize> {
        wait::until("a leader of all members", wait::PATIENCE, async || {
            let mut said = Vec::new();
            for n in 0..self.clients.len() {
                let status = self.ask(n, "maintenance/status", &json!({})).await?;
                let id = |value: &Value| value.as_str().unwrap_or("0").to_owned();
                said.push((id(&status["header"]["member_id"]), id(&status["leader"])));
            }
            let leader = &said[0].1;
            match said.iter().position(|(id, _)| id == leader) {
                Some(place) if said.iter().all(|(_, other)| other == leader) => Ok(place),
                _ => bail!("(member, its leader): {said:?}"),
            }
        })
        .await
    }

    /// Has this one, and all that hear of it, forget everything but the state of now.
    pub(super) async fn compact(&self, n: usize) -> Result<()> {
        wait::until("the compaction", wait::PATIENCE, async || {
            let status = self.ask(n, "maintenance/status", &json!({})).await?;
            let revision = status["header"]["revision"].clone();
            let order = json!({"revision": revision, "physical": true});
            self.ask(n, "kv/compaction", &order).await.map(drop)
        })
        .await
    }

    /// Writes what a member has to a file.
    pub(super) async fn save(&self, n: usize, file: &Path) -> Result<()> {
        let file = path(file)?;
        let endpoint = format!("http://{}", self.clients[n]);
        self.etcdctl(&["--endpoints", &endpoint, "snapshot", "save", file])
            .await
    }

    /// Kills all members and starts them as a new cluster on what [`Members::save`] wrote.
    pub(super) async fn restore(&self, file: &Path, run: &Run) -> Result<()> {
        let names: Vec<String> = self.clients.iter().map(ToString::to_string).collect();
        let peers = self.clients.iter().map(|at| stack::peer_url(*at));
        let peers: Vec<String> = peers.collect();
        let all = names.iter().zip(&peers);
        let all: Vec<String> = all.map(|(name, peer)| format!("{name}={peer}")).collect();
        for n in 0..names.len() {
            self.kill(n);
        }
        for n in 0..names.len() {
            let data = run.path(&format!("etcd-{n}"));
            std::fs::rename(&data, run.path(&format!("lost-{n}")))?;
            self.etcdctl(&[
                "snapshot",
                "restore",
                path(file)?,
                "--name",
                &names[n],
                "--data-dir",
                path(&data)?,
                "--initial-cluster",
                &all.join(","),
                "--initial-cluster-token",
                "restored",
                "--initial-advertise-peer-urls",
                &peers[n],
            ])
            .await?;
        }
        self.restart(&[0, 1, 2]).await
    }

    /// Tells everybody that revisions are counted anew, as an operator does.
    pub(super) async fn new_epoch(&self) -> Result<()> {
        let endpoint = format!("http://{}", self.clients[0]);
        let key = format!("{PREFIX}/epoch");
        let epoch = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        let put = ["--endpoints", &endpoint, "put", &key, epoch.trim()];
        wait::until("the new epoch", wait::PATIENCE, async || {
            self.etcdctl(&put).await
        })
        .await
    }

    async fn etcdctl(&self, args: &[&str]) -> Result<()> {
        let mut command = tokio::process::Command::new(binaries::tool("etcdctl")?);
        let output = command.env("ETCDCTL_API", "3").args(args).output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "etcdctl {args:?}: {said}");
        Ok(())
    }

    /// etcd's own JSON API.
    async fn ask(&self, n: usize, what: &str, body: &Value) -> Result<Value> {
        let url = format!("http://{}/v3/{what}", self.clients[n]);
        let answer = http::send(http::client().post(&url).json(body)).await?;
        answer.ok().with_context(|| url.clone())?.json()
    }
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a path is not UTF-8")
}
