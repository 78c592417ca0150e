//! The same where every service has replicas: three pushers hold back alike, and whoever drives a delivery may die.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use nix::sys::signal::Signal;
use weft_tests::binaries;
use weft_tests::mesh::PREFIX;
use weft_tests::process::Process;

use super::*;

/// The pusher that may be frozen for a while without leaving.
const FROZEN: u8 = 3;

/// Twenty gateways on three pushers, and two replicas of config-api.
struct Several {
    all: Twenty,
    pushers: Vec<Process>,
    second: Process,
}

impl Several {
    async fn start(name: &str) -> Self {
        let mut all = Twenty::start(name).await;
        let mesh = &all.edge.mesh;
        let flags: [(u8, &[&str]); 2] = [(2, &[]), (FROZEN, &["--member-ttl", "300"])];
        let mut pushers = Vec::new();
        for (n, flags) in flags {
            pushers.push(mesh.start_pusher(n, flags).await.unwrap());
        }
        let second = mesh.start_api(2).await.unwrap();
        let served = async |mesh: &Mesh, whole: usize| {
            let said = get(mesh, "/v1/shards").await.ok()?.json()?;
            let shards = said["shards"].as_array().cloned().unwrap_or_default();
            let nodes = |it: &Value| it["nodes"].as_array().map_or(0, Vec::len);
            let served: usize = shards.iter().map(nodes).sum();
            anyhow::ensure!(shards.len() == 3 && served >= whole, "{said}");
            anyhow::ensure!(
                whole == 0 || shards.iter().all(|it| nodes(it) > 0),
                "{said}"
            );
            Ok(())
        };
        let mesh = &all.edge.mesh;
        wait::until("three pushers", wait::PATIENCE, async || {
            served(mesh, 0).await
        })
        .await
        .unwrap();
        all.pushers = vec![1, 2, FROZEN];
        all.connect().await;
        let mesh = &all.edge.mesh;
        let all_served = async || served(mesh, 20).await;
        wait::until("each pusher to serve some", wait::PATIENCE, all_served)
            .await
            .unwrap();
        Self {
            all,
            pushers,
            second,
        }
    }

    fn api(&self, n: u8) -> SocketAddr {
        self.all.edge.mesh.net.at(n, 8080)
    }

    async fn etcd(&self, key: &str) -> String {
        let etcd = self.all.edge.mesh.net.at(1, 2379);
        let output = tokio::process::Command::new(binaries::tool("etcdctl").unwrap())
            .arg(format!("--endpoints=http://{etcd}"))
            .args(["get", &format!("{PREFIX}/{key}"), "--print-value-only"])
            .output();
        String::from_utf8(output.await.unwrap().stdout).unwrap()
    }

    /// Which config-api moves rollouts at present.
    async fn driver(&self) -> u8 {
        wait::until("somebody to drive", wait::PATIENCE, async || {
            let instance = self.etcd("leaders/rollouts").await;
            let key = format!("members/config-api/{}", instance.trim());
            let member = self.etcd(&key).await;
            let is = |n: &u8| member.contains(&format!("http://{}", self.api(*n)));
            [1, 2].into_iter().find(is).ok_or(member)
        })
        .await
        .unwrap()
    }

    /// Kills the driver. Returns the other one.
    async fn kill_driver(&self) -> u8 {
        let driver = self.driver().await;
        let process = match driver {
            1 => &self.all.edge.mesh.api,
            _ => &self.second,
        };
        process.kill();
        3 - driver
    }

    /// Starts the one that was killed again.
    async fn revive(&mut self, n: u8) {
        let process = self.all.edge.mesh.start_api(n).await.unwrap();
        match n {
            1 => self.all.edge.mesh.api = process,
            _ => self.second = process,
        }
    }

    async fn apply(&self, n: u8, how: &str, yaml: &str) -> String {
        let url = format!("http://{}/v1/apply?{how}", self.api(n));
        let request = http::client()
            .post(url)
            .header("content-type", "application/yaml");
        let answer = http::send(request.body(yaml.to_owned())).await.unwrap();
        revision(&answer.ok().unwrap().json().unwrap()).to_owned()
    }

    /// Waits until a replica says that a rollout is in a phase.
    async fn until(&self, n: u8, revision: &str, phase: &str) -> Value {
        let url = format!("http://{}/v1/rollouts/{revision}?wait=5s", self.api(n));
        let what = format!("the rollout {revision} to be {phase}");
        wait::until(&what, wait::PATIENCE * 2, async || {
            let said = http::get(&url).await?.ok()?.json()?;
            anyhow::ensure!(said["gradual"]["phase"] == phase, "{said}");
            Ok(said)
        })
        .await
        .unwrap()
    }
}

fn names(list: &Value) -> BTreeSet<String> {
    let names = list.as_array().into_iter().flatten();
    names.filter_map(Value::as_str).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_reaches_exactly_the_chosen_across_all_pushers() {
    let mesh = Several::start("several").await;
    let at = mesh
        .apply(2, "gradual=6&rollback=false", &gateway("taken", PORT))
        .await;
    let said = mesh.until(1, &at, "Stopped").await;
    let chosen = names(&said["gradual"]["proxies"]);
    assert_eq!(chosen.len(), 6, "{said}");
    let refusing = async || BTreeSet::from_iter(mesh.all.refusing().await);
    wait::until("all of them to refuse it", wait::PATIENCE, async || {
        let refusing = refusing().await;
        match refusing == chosen {
            true => Ok(()),
            false => Err(format!("{refusing:?}, not {chosen:?}")),
        }
    })
    .await
    .unwrap();

    // Every pusher tells its proxies what came later, and nobody else the poison.
    let later = mesh.apply(1, "", &says("later")).await;
    let told = wait::until("what came later", wait::PATIENCE, async || {
        for gateway in &mesh.all.edge.gateways {
            let body = gateway.get("/").await?.body;
            anyhow::ensure!(body == "later", "{}: {body}", gateway.name);
        }
        Ok(())
    });
    told.await.unwrap();
    let url = format!("http://{}/v1/rollouts/{at}/abort", mesh.api(2));
    let ended = http::send(http::client().post(url)).await.unwrap();
    let ended = ended.ok().unwrap().json().unwrap();
    assert_eq!(ended["phase"], "RolledBack", "{ended}");
    reached(&mesh.all.edge.mesh, ended["endedAt"].as_str().unwrap()).await;
    reached(&mesh.all.edge.mesh, &later).await;
    assert_eq!(refusing().await, chosen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_drives_a_delivery_may_die() {
    let mut mesh = Several::start("driver").await;
    // A good change that some have not answered yet.
    let envoys = |mesh: &Several, signal| {
        for gateway in &mesh.all.edge.gateways {
            gateway.envoy.process.signal(signal);
        }
    };
    envoys(&mesh, Signal::SIGSTOP);
    let at = mesh.apply(1, "gradual=20", &says("good")).await;
    let said = mesh.until(2, &at, "First").await;
    let first = names(&said["gradual"]["proxies"]);
    assert_eq!(first.len(), 20, "{said}");
    let other = mesh.kill_driver().await;
    envoys(&mesh, Signal::SIGCONT);
    mesh.until(other, &at, "Done").await;
    mesh.all.all_say("good").await;

    // Poison, of which one pusher has not told yet whom it concerns.
    mesh.revive(3 - other).await;
    let frozen = &mesh.pushers[1];
    frozen.signal(Signal::SIGSTOP);
    let how = "gradual=1&rollback=true";
    let at = mesh.apply(other, how, &gateway("taken", PORT)).await;
    let said = mesh.until(other, &at, "Choosing").await;
    let silent = said["silent"].as_array().unwrap();
    assert_eq!(silent.len(), 1, "{said}");
    let address = mesh.all.edge.mesh.net.at(FROZEN, 18000).to_string();
    assert_eq!(silent[0]["address"], address.as_str(), "{said}");
    let other = mesh.kill_driver().await;
    frozen.signal(Signal::SIGCONT);
    let said = mesh.until(other, &at, "RolledBack").await;
    let refusing = mesh.all.refusing().await;
    assert_eq!(said["gradual"]["proxies"], json!(refusing), "{said}");
    assert_eq!(refusing.len(), 1, "{said}");
    mesh.all.all_say("good").await;
}
