//! Three pushers and what may happen to them, under load.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use weft_tests::backend::{Backend, Settings};
use weft_tests::envoy::{self, Envoy};
use weft_tests::http;
use weft_tests::load::Load;
use weft_tests::mesh::{Mesh, Options};
use weft_tests::process::Process;
use weft_tests::wait;

use super::fleet::Fleet;
use super::settled;
use crate::edge::{every_kind, kind_name, service};
use crate::sidecars::{HTTP_PROXY, client_entry};

/// Streams move soon, and who is gone is gone soon.
const BRISK: [&str; 6] = [
    "--rebalance-period",
    "2",
    "--drain-period",
    "2",
    "--member-ttl",
    "2",
];

const SIMULATED: usize = 300;

/// A mesh with three pushers, a web service, and a client's Envoy of every kind that calls it all the time.
pub(super) struct Cluster {
    pub(super) mesh: Mesh,
    more: Vec<Process>,
    envoys: Vec<Envoy>,
    clients: Vec<SocketAddr>,
    pub(super) time: u32,
    _backend: Backend,
}

pub(super) fn flags(instance: &str) -> Vec<&str> {
    [&["--instance", instance], &BRISK[..]].concat()
}

impl Cluster {
    async fn start(name: &str) -> Self {
        Self::with(name, &["two", "three"]).await
    }

    /// With these pushers beside the first.
    pub(super) async fn with(name: &str, others: &[&str]) -> Self {
        let options = Options {
            pusher: &flags("one"),
            ..Options::default()
        };
        let mesh = Mesh::start_with(name, options).await.unwrap();
        let mut more = Vec::new();
        for (n, other) in (2..).zip(others) {
            more.push(mesh.start_pusher(n, &flags(other)).await.unwrap());
        }
        settled(&mesh, 1 + more.len(), &BTreeSet::new()).await;
        let settings = Settings {
            service: "web".into(),
            ..Settings::default()
        };
        let backend = Backend::start(mesh.net.at(9, 9000), settings)
            .await
            .unwrap();
        let mut documents = vec![service("web", &[backend.address()])];
        let clients = (20..).zip(every_kind().into_iter().map(kind_name));
        let clients: Vec<(u8, String)> = clients.collect();
        let entry = |(n, name): &(u8, String)| client_entry(name, mesh.net.ip(*n), &[]);
        documents.extend(clients.iter().map(entry));
        mesh.apply(&documents.join("---\n")).await.unwrap();
        let mut envoys = Vec::new();
        for ((n, name), (variant, version)) in clients.iter().zip(every_kind()) {
            let envoy = mesh
                .envoy("shop", name, variant, version, u16::from(*n))
                .await
                .unwrap();
            envoy.ready().await.unwrap();
            envoys.push(envoy);
        }
        let place = |(n, _): &(u8, String)| mesh.net.at(*n, HTTP_PROXY);
        let mut cluster = Self {
            clients: clients.iter().map(place).collect(),
            mesh,
            more,
            envoys,
            time: 10_000,
            _backend: backend,
        };
        cluster.tick().await;
        cluster
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        (1..=3).map(|n| self.mesh.net.at(n, 18000)).collect()
    }

    fn pushers(&self) -> Vec<&Process> {
        std::iter::once(&self.mesh.pusher)
            .chain(&self.more)
            .collect()
    }

    /// Changes what every proxy holds.
    pub(super) async fn tick(&mut self) {
        self.time += 1;
        let port = u16::try_from(self.time).unwrap();
        let clock = service("clock", &[self.mesh.net.at(8, port)]);
        self.mesh.apply(&clock).await.unwrap();
    }

    /// The node ids of everybody.
    fn nodes(&self, fleet: &Fleet) -> BTreeSet<String> {
        fleet.ids().chain(Self::envoys()).collect()
    }

    /// The node ids of the real ones.
    pub(super) fn envoys() -> impl Iterator<Item = String> {
        let names = every_kind().into_iter().map(kind_name);
        names.map(|name| format!("sidecar~shop~{name}"))
    }

    /// Waits until every real Envoy holds the present time.
    async fn envoys_see_the_time(&self) {
        let port = format!(":{}::", self.time);
        for envoy in &self.envoys {
            let sees = async || {
                let clusters = envoy.ask("/clusters").await?.body;
                let clock = |line: &&str| line.contains("|clock.") && line.contains(&port);
                anyhow::ensure!(clusters.lines().any(|line| clock(&line)), "no {port}");
                Ok(())
            };
            envoy
                .process
                .until("the time", envoy::PATIENCE, sees)
                .await
                .unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_takes_only_its_nodes_along_and_who_comes_takes_its_share() {
    let mut cluster = Cluster::start("shares").await;
    let fleet = Fleet::start(SIMULATED, &cluster.addresses(), 10);
    fleet.see(cluster.time).await;
    let nodes = cluster.nodes(&fleet);
    let before = settled(&cluster.mesh, 3, &nodes).await;
    let gone = cluster.mesh.net.at(2, 18000).to_string();

    cluster.more[0].kill();
    let without = settled(&cluster.mesh, 2, &nodes).await;
    for (node, owner) in &before {
        assert!(
            *owner == gone || without[node] == *owner,
            "{node} moved from {owner}"
        );
    }
    cluster.tick().await;
    fleet.see(cluster.time).await;

    cluster.more[0].start_again().unwrap();
    assert_eq!(settled(&cluster.mesh, 3, &nodes).await, before);

    // Told to stop, it leaves before it ends, and its clients go.
    let status = cluster.more[0].stop().await;
    assert!(status.success(), "{status}: {}", cluster.more[0].tail(20));
    assert_eq!(settled(&cluster.mesh, 2, &nodes).await, without);
    cluster.more[0].start_again().unwrap();
    settled(&cluster.mesh, 3, &nodes).await;

    let fourth = cluster.mesh.start_pusher(4, &flags("four")).await.unwrap();
    let with = settled(&cluster.mesh, 4, &nodes).await;
    let come = cluster.mesh.net.at(4, 18000).to_string();
    let moved = with.iter().filter(|(node, owner)| before[*node] != **owner);
    let moved: Vec<_> = moved.collect();
    assert!(moved.iter().all(|(_, owner)| **owner == come), "{moved:?}");
    let share = moved.len() * 100 / nodes.len();
    assert!((15..35).contains(&share), "{share} % moved");
    cluster.tick().await;
    fleet.see(cluster.time).await;
    cluster.envoys_see_the_time().await;
    fleet.agree().await.unwrap();
    fourth.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoys_leave_a_pusher_that_is_dead_and_one_that_is_stopped() {
    let mut cluster = Cluster::start("left-alone").await;
    cluster.envoys_see_the_time().await;
    for signal in [Signal::SIGKILL, Signal::SIGSTOP] {
        // Whoever the owner is, only the last one is left.
        for pusher in &cluster.pushers()[..2] {
            pusher.signal(signal);
        }
        let begun = std::time::Instant::now();
        cluster.tick().await;
        cluster.envoys_see_the_time().await;
        eprintln!(
            "every Envoy left after {signal} within {:?}",
            begun.elapsed()
        );
        for pusher in &cluster.pushers()[..2] {
            match signal {
                Signal::SIGSTOP => pusher.signal(Signal::SIGCONT),
                _ => {
                    pusher.kill();
                    pusher.start_again().unwrap();
                }
            }
        }
        settled(&cluster.mesh, 3, &Cluster::envoys().collect()).await;
    }
}

/// How a pusher is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Up,
    /// Ended, until this step.
    Down(usize),
    /// Stopped as a whole, until this step.
    Frozen(usize),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_blows_lose_no_request_and_set_nobody_back() {
    let seed = std::env::var("WEFT_CHAOS_SEED").ok();
    let seed = seed.map_or_else(|| rand::rng().random(), |seed| seed.parse().unwrap());
    eprintln!("WEFT_CHAOS_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::start("chaos").await;
    let fleet = Fleet::start(SIMULATED, &cluster.addresses(), 10);
    fleet.see(cluster.time).await;
    for client in &cluster.clients {
        let proxy = format!("http://{client}");
        let answers = async || {
            http::send(http::through(&proxy)?.get("http://web/"))
                .await?
                .ok()
        };
        wait::until("an answer", envoy::PATIENCE, answers)
            .await
            .unwrap();
    }
    let load = |client: &SocketAddr| {
        Load {
            per_second: 25,
            connections: 2,
            ..Load::new(*client, "web", "http://web/")
        }
        .start()
    };
    let loads: Vec<_> = cluster.clients.iter().map(load).collect();

    let mut fates = [Fate::Up; 3];
    for step in 0..50 {
        for (pusher, fate) in cluster.pushers().into_iter().zip(&mut fates) {
            match *fate {
                Fate::Down(until) if until <= step => pusher.start_again().unwrap(),
                Fate::Frozen(until) if until <= step => pusher.signal(Signal::SIGCONT),
                _ => continue,
            }
            *fate = Fate::Up;
        }
        let victim = random.random_range(0..3);
        if fates[victim] == Fate::Up {
            let pusher = cluster.pushers()[victim];
            let until = step + random.random_range(1..5);
            fates[victim] = match random.random_range(0..3) {
                0 => {
                    pusher.kill();
                    Fate::Down(until)
                }
                1 => {
                    pusher.stop().await;
                    Fate::Down(until)
                }
                _ => {
                    pusher.signal(Signal::SIGSTOP);
                    Fate::Frozen(until)
                }
            };
        }
        cluster.tick().await;
        let pause = random.random_range(100..1200);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    for (pusher, fate) in cluster.pushers().into_iter().zip(fates) {
        match fate {
            Fate::Up => {}
            Fate::Down(_) => pusher.start_again().unwrap(),
            Fate::Frozen(_) => pusher.signal(Signal::SIGCONT),
        }
    }
    cluster.tick().await;
    fleet.see(cluster.time).await;
    cluster.envoys_see_the_time().await;
    settled(&cluster.mesh, 3, &cluster.nodes(&fleet)).await;
    fleet.agree().await.unwrap();
    eprintln!("{} streams were opened", fleet.streams());
    for load in loads {
        load.stop().await.flawless().unwrap();
    }
}

/// How many come at once.
const STORM: usize = 2000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_that_come_at_once_are_all_served() {
    let options = Options {
        pusher: &flags("one"),
        ..Options::default()
    };
    let mesh = Mesh::start_with("storm", options).await.unwrap();
    let second = mesh.start_pusher(2, &flags("two")).await.unwrap();
    let services: Vec<String> = (0..100)
        .map(|n| service(&format!("s{n}"), &[mesh.net.at(9, 9000)]))
        .collect();
    mesh.apply(&services.join("---\n")).await.unwrap();
    let tick = async |port: u16| {
        mesh.apply(&service("clock", &[mesh.net.at(8, port)]))
            .await
            .unwrap();
        u32::from(port)
    };
    let time = tick(10_001).await;
    let addresses = [mesh.net.at(1, 18000), mesh.net.at(2, 18000)];
    let fleet = Fleet::start(STORM, &addresses, 20);
    // Who does not read holds up nobody, neither on its connection nor on the link between the pushers.
    let _slow = super::slow::readers(addresses, 40).await;
    fleet.see(time).await;
    let nodes: BTreeSet<String> = fleet.ids().collect();

    second.kill();
    mesh.pusher.kill();
    second.start_again().unwrap();
    mesh.pusher.start_again().unwrap();
    let _slow = super::slow::readers(addresses, 40).await;
    let time = tick(10_002).await;
    fleet.see(time).await;
    let time = tick(10_003).await;
    fleet.see(time).await;
    fleet.agree().await.unwrap();
    assert!(fleet.streams() as usize >= 2 * STORM);
    let shards = super::shards(&mesh).await.unwrap();
    let served: BTreeSet<_> = shards
        .iter()
        .flat_map(|shard| shard.nodes.clone())
        .collect();
    assert!(nodes.is_subset(&served));
    for pusher in [&mesh.pusher, &second] {
        let peak = super::slow::peak_rss(pusher.pid());
        eprintln!("{}: {} MiB at most", pusher.name(), peak >> 20);
        assert!(
            peak < 512 << 20,
            "{} took {} MiB",
            pusher.name(),
            peak >> 20
        );
    }
}
