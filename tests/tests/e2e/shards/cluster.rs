//! Three pushers, a service, and Envoys of every kind that call it.
//!
//! *Invariant:* nothing here decides what happens to a pusher.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use weft_tests::backend::{Backend, Settings};
use weft_tests::envoy::{self, Envoy};
use weft_tests::http;
use weft_tests::load::{Load, Running};
use weft_tests::mesh::{Mesh, Options};
use weft_tests::process::Process;
use weft_tests::wait;

use super::callers::Callers;
use super::fleet::Fleet;
use super::settled;
use crate::edge::{every_kind, kind_name, service};
use crate::sidecars::{HTTP_PROXY, client_entry};

/// How many simulated Envoys share a connection.
const SHARED: usize = 10;

/// Streams move soon, and who is gone is gone soon.
const BRISK: [&str; 6] = [
    "--rebalance-period",
    "2",
    "--drain-period",
    "2",
    "--member-ttl",
    "2",
];

/// A mesh with three pushers, a web service, and a client's Envoy of every kind that calls it all the time.
pub(super) struct Cluster {
    pub(super) mesh: Mesh,
    pub(super) more: Vec<Process>,
    envoys: Vec<Envoy>,
    clients: Vec<SocketAddr>,
    pub(super) time: u32,
    _backend: Backend,
}

pub(super) fn flags(instance: &str) -> Vec<&str> {
    [&["--instance", instance], &BRISK[..]].concat()
}

/// The groups of pushers whose packets can be told apart.
pub(super) const GROUPS: [u32; 3] = [20_001, 20_002, 20_003];

impl Cluster {
    pub(super) async fn start(name: &str) -> Self {
        Self::with(name, &["two", "three"]).await
    }

    /// With these pushers beside the first.
    pub(super) async fn with(name: &str, others: &[&str]) -> Self {
        Self::trusting(name, others, None).await
    }

    /// With identities: everybody shows a certificate, Envoys to pushers and pushers to each other.
    pub(super) async fn secure(name: &str) -> Self {
        Self::trusting(name, &["two", "three"], Some(&[])).await
    }

    async fn trusting(name: &str, others: &[&str], issuer: Option<&[&str]>) -> Self {
        let options = Options {
            pusher: &flags("one"),
            issuer,
            ..Options::default()
        };
        let mesh = Mesh::start_with(name, options).await.unwrap();
        let mut more = Vec::new();
        for (n, other) in (2..).zip(others) {
            more.push(mesh.start_pusher(n, &flags(other)).await.unwrap());
        }
        Self::of(mesh, more).await
    }

    /// Each pusher in a group of its own, of [`GROUPS`].
    pub(super) async fn grouped(name: &str) -> Self {
        let mut mesh = Mesh::start(name).await.unwrap();
        mesh.pusher.kill();
        let mut pushers = Vec::new();
        for ((n, name), group) in (1..).zip(["one", "two", "three"]).zip(GROUPS) {
            let pusher = mesh.start_pusher_as(n, group, &flags(name)).await;
            pushers.push(pusher.unwrap());
        }
        mesh.pusher = pushers.remove(0);
        Self::of(mesh, pushers).await
    }

    async fn of(mesh: Mesh, more: Vec<Process>) -> Self {
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

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        (1..=3).map(|n| self.mesh.net.at(n, 18000)).collect()
    }

    pub(super) fn pushers(&self) -> Vec<&Process> {
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
    pub(super) fn nodes(&self, fleet: &Fleet) -> BTreeSet<String> {
        fleet.ids().chain(Self::envoys()).collect()
    }

    /// The node ids of the real ones.
    pub(super) fn envoys() -> impl Iterator<Item = String> {
        let names = every_kind().into_iter().map(kind_name);
        names.map(|name| format!("sidecar~shop~{name}"))
    }

    /// Waits until every real Envoy holds the present time.
    pub(super) async fn envoys_see_the_time(&self) {
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

    /// So many simulated Envoys, which call the pushers as the mesh wants it.
    pub(super) async fn fleet(&self, count: usize) -> Fleet {
        let addresses = self.addresses();
        match self.mesh.issuer {
            None => Fleet::start(count, &addresses, SHARED),
            Some(_) => {
                let callers = Callers::of(&self.mesh, count, SHARED).await;
                let dial = |n, pusher| callers.channel(n, pusher);
                Fleet::by(0..count, &addresses, SHARED, dial)
            }
        }
    }

    /// A load on every client's Envoy, once all have answered.
    pub(super) async fn load(&self) -> Vec<Running> {
        let mut loads = Vec::new();
        for client in &self.clients {
            let proxy = format!("http://{client}");
            let answers = async || {
                http::send(http::through(&proxy)?.get("http://web/"))
                    .await?
                    .ok()
            };
            wait::until("an answer", envoy::PATIENCE, answers)
                .await
                .unwrap();
            let load = Load {
                per_second: 25,
                connections: 2,
                ..Load::new(*client, "web", "http://web/")
            };
            loads.push(load.start());
        }
        loads
    }
}
