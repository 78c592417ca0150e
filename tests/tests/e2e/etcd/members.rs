//! The members of the etcd, and what is done to them.
//!
//! *Invariant:* a member is known by its place, 0 to 2.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use weft_tests::net::Block;
use weft_tests::process::Process;
use weft_tests::run::Run;
use weft_tests::{http, stack, wait};

/// Three members.
pub(super) struct Members {
    clients: Vec<SocketAddr>,
    processes: Vec<Process>,
}

impl Members {
    pub(super) async fn start(net: &Block, run: &Run) -> Result<Self> {
        let clients: Vec<SocketAddr> = (1..=3).map(|n| net.at(n, 2379)).collect();
        let processes = stack::etcd_cluster(run, &clients).await?;
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

    /// Forgets everything but the state of now.
    pub(super) async fn compact(&self) -> Result<()> {
        wait::until("the compaction", wait::PATIENCE, async || {
            let status = self.ask(0, "maintenance/status", &json!({})).await?;
            let revision = status["header"]["revision"].clone();
            let order = json!({"revision": revision, "physical": true});
            self.ask(0, "kv/compaction", &order).await.map(drop)
        })
        .await
    }

    /// etcd's own JSON API.
    async fn ask(&self, n: usize, what: &str, body: &Value) -> Result<Value> {
        let url = format!("http://{}/v3/{what}", self.clients[n]);
        let answer = http::send(http::client().post(&url).json(body)).await?;
        answer.ok().with_context(|| url.clone())?.json()
    }
}
