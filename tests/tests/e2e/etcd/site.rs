//! What the tests run on: three members of etcd, each service twice, and Envoys under load.
//!
//! *Invariant:* a site is where its ground is; nothing outside is asked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use store::Store as _;
use store::etcd::{EtcdConfig, EtcdStore};
use weft_tests::backend::{self, Backend};
use weft_tests::envoy::{Envoy, Version};
use weft_tests::ledger::{self, Record, State};
use weft_tests::load::{Load, Running};
use weft_tests::mesh::{PREFIX, Variant};
use weft_tests::namespace::Network;
use weft_tests::net::Block;
use weft_tests::process::Process;
use weft_tests::run::Run;
use weft_tests::stack::{self, Trust};
use weft_tests::{http, wait};

use super::members::Members;
use super::writers::{self, HOSTS, NAMESPACE, Writers};
use crate::edge::{PORT, gateway, no_complaints, routes, service, workload};

/// Where it all runs; everything has a number.
pub(super) enum Ground {
    /// On one machine, an address for each number.
    One(Block),
    /// The members on machines of their own, and on each of [`SIDES`] one of everything else.
    Apart(Arc<Network>),
}

/// The members of etcd.
pub(super) const MEMBERS: [u8; 3] = [1, 2, 3];
pub(super) const APIS: [u8; 2] = [4, 5];
pub(super) const PUSHERS: [u8; 2] = [6, 7];
pub(super) const GATEWAYS: [(u8, Variant); 2] = [(10, Variant::Sotw), (11, Variant::Delta)];
/// A gateway that is not started with the others.
pub(super) const LATE: u8 = 12;
/// The backend of the load.
const BACKEND: u8 = 20;

/// What the load asks for.
pub(super) const STEADY: &str = "steady.example";

/// The machines with an API, a pusher and a gateway each; those of the members are 0 to 2.
pub(super) const SIDES: [u8; 2] = [3, 4];
/// The machine of [`LATE`].
pub(super) const LATE_SIDE: u8 = 5;

impl Ground {
    pub(super) fn at(&self, n: u8, port: u16) -> SocketAddr {
        match (self, machine(n)) {
            (Self::One(block), _) => block.at(n, port),
            (Self::Apart(_), Some(machine)) => Network::at(machine, port),
            (Self::Apart(_), None) => Network::router(port),
        }
    }

    /// The run, for what is started under this number.
    pub(super) fn run(&self, run: &Run, n: u8) -> Run {
        run.by(match (self, machine(n)) {
            (Self::Apart(network), Some(machine)) => network.machine(machine).enter(),
            _ => Vec::new(),
        })
    }
}

/// Whose machine it is. Without one, it is where the test itself is.
fn machine(n: u8) -> Option<u8> {
    let side = |one: u8, two: u8| [one, two].iter().position(|it| *it == n);
    match n {
        1..=3 => Some(n - 1),
        LATE => Some(LATE_SIDE),
        _ => side(APIS[0], APIS[1])
            .or_else(|| side(PUSHERS[0], PUSHERS[1]))
            .or_else(|| side(GATEWAYS[0].0, GATEWAYS[1].0))
            .map(|side| SIDES[side]),
    }
}

/// The control plane on three members, each service twice, and a gateway for each kind of stream.
pub(super) struct Site {
    pub(super) ground: Ground,
    pub(super) run: Run,
    pub(super) members: Members,
    /// Only held.
    _apis: Vec<Process>,
    _backend: Backend,
    pub(super) pushers: Vec<Process>,
    pub(super) envoys: Vec<Envoy>,
}

impl Site {
    pub(super) async fn start(ground: Ground) -> Result<Self> {
        let run = Run::temporary("members")?;
        let members = Members::start(&ground, &run).await?;
        let backend = backend::Settings::default();
        let backend = Backend::start(ground.at(BACKEND, 9000), backend).await?;
        let store = stack::Store {
            etcd: members.clients()[0],
            more: &members.clients()[1..],
            prefix: PREFIX,
            access: stack::Access::Plaintext,
        };
        let (mut apis, mut pushers) = (Vec::new(), Vec::new());
        for n in APIS {
            let (name, at, trust) = (format!("api-{n}"), ground.at(n, 8080), Trust::Plaintext);
            let run = ground.run(&run, n);
            apis.push(stack::config_api_with(&run, &name, at, store, trust, &[]).await?);
        }
        for n in PUSHERS {
            let name = format!("pusher-{n}");
            let pusher = stack::Pusher {
                name: &name,
                listen: ground.at(n, 18000),
                admin: ground.at(n, 18001),
                store,
                trust: Trust::Plaintext,
                flags: &["--instance", &name],
            };
            pushers.push(stack::pusher(&ground.run(&run, n), pusher).await?);
        }
        let mut site = Self {
            ground,
            run,
            members,
            _apis: apis,
            _backend: backend,
            pushers,
            envoys: Vec::new(),
        };
        site.lay_out().await?;
        Ok(site)
    }

    /// Gateways, and what the data plane does throughout.
    async fn lay_out(&mut self) -> Result<()> {
        let gateways = [GATEWAYS[0].0, GATEWAYS[1].0, LATE].map(|n| {
            let (name, labels) = (format!("gw-{n}"), [("istio", "ingressgateway")]);
            workload("istio-system", &name, self.ground.at(n, PORT), &labels)
        });
        let fixed = [
            gateway("edge", PORT),
            service("steady", &[self.ground.at(BACKEND, 9000)]),
            routes("steady", "- route: [{ destination: { host: steady } }]").replace("'*'", STEADY),
        ];
        let documents = [&gateways[..], &fixed[..]].concat().join("---\n");
        self.apply(APIS[0], documents).await?;
        for (n, variant) in GATEWAYS {
            let bootstrap = self.bootstrap(n, variant).await?;
            let envoy = self.envoy(n, bootstrap).await?;
            self.envoys.push(envoy);
        }
        for envoy in &self.envoys {
            envoy.ready().await?;
        }
        Ok(())
    }

    /// Starts the Envoy of a gateway.
    pub(super) async fn envoy(&self, n: u8, bootstrap: serde_json::Value) -> Result<Envoy> {
        let (name, run) = (format!("gw-{n}"), self.ground.run(&self.run, n));
        let admin = self.ground.at(n, 9900 + u16::from(n));
        Envoy::start(&run, &name, Version::Newest, bootstrap, admin).await
    }

    /// A constant load through each gateway, which serves by now.
    pub(super) async fn loads(&self) -> Result<Vec<(u8, Running)>> {
        let mut loads = Vec::new();
        for (n, _) in GATEWAYS {
            self.serves(n, STEADY).await?;
            let load = Load::new(self.ground.at(n, PORT), STEADY, "/");
            let load = Load {
                per_second: 50,
                connections: 2,
                ..load
            };
            loads.push((n, load.start()));
        }
        Ok(loads)
    }

    /// Waits until a gateway answers for a host.
    pub(super) async fn serves(&self, n: u8, host: &str) -> Result<()> {
        let url = format!("http://{}/", self.ground.at(n, PORT));
        let what = format!("gw-{n} to serve {host}");
        wait::until(&what, wait::PATIENCE, async || {
            let answer = http::send(http::client().get(&url).header("host", host));
            answer.await?.ok().map(drop)
        })
        .await
    }

    /// Has a replica of the API take these documents; the revision.
    pub(super) async fn apply(&self, api: u8, documents: String) -> Result<i64> {
        let url = format!("http://{}/v1/apply", self.ground.at(api, 8080));
        let apply = http::client().post(url);
        let apply = apply.header("content-type", "application/yaml");
        let answer = http::send(apply.body(documents)).await?.ok()?.json()?;
        let revision = answer["revision"].as_str().map(str::parse);
        revision
            .context("an answer without a revision")?
            .context("revision")
    }

    /// Waits until a pusher has loaded everything once more, for what it missed is nowhere to be had.
    pub(super) async fn begins_anew(&self, pusher: usize) -> Result<()> {
        let process = &self.pushers[pusher];
        wait::until("the pusher to begin anew", wait::PATIENCE, async || {
            let log = std::fs::read_to_string(process.log())?;
            match log.matches("loaded the policy").count() {
                0 | 1 => bail!("it has loaded the policy once"),
                _ => Ok(()),
            }
        })
        .await
    }

    /// Everything is ready, no answer was a lie, no request failed, and each Envoy runs the last state and had nothing to
    /// complain of.
    pub(super) async fn holds(self, writers: Writers, loads: Vec<(u8, Running)>) -> Result<()> {
        let calls = writers.stop().await;
        let (records, last) = self.recorded().await?;
        let found = ledger::check(&calls, &records, &last);
        if !found.is_empty() {
            let some: Vec<_> = found.iter().take(5).map(ToString::to_string).collect();
            let (n, some) = (found.len(), some.join("\n"));
            bail!("{n} things that cannot be true, such as:\n{some}");
        }
        self.all_ready(200).await?;
        self.converges(&last).await?;
        for (n, load) in loads {
            let report = load.stop().await.flawless();
            report.with_context(|| format!("the load on gw-{n}"))?;
        }
        no_complaints(&self.envoys).await;
        Ok(())
    }

    /// Waits until `/readyz` of every API and pusher has this status.
    pub(super) async fn all_ready(&self, status: u16) -> Result<()> {
        for n in APIS {
            self.readyz((n, 8080), status).await?;
        }
        for n in PUSHERS {
            self.readyz((n, 18001), status).await?;
        }
        Ok(())
    }

    /// The bootstrap of a gateway, as soon as it names both pushers.
    pub(super) async fn bootstrap(&self, n: u8, variant: Variant) -> Result<serde_json::Value> {
        let api = self.ground.at(APIS[0], 8080);
        let path = format!("/v1/namespaces/istio-system/workloads/gw-{n}/bootstrap");
        let url = format!("http://{api}{path}?variant={}", variant.name());
        wait::until(
            "a bootstrap with both pushers",
            wait::PATIENCE,
            async || {
                let answer = http::send(http::client().post(&url)).await?.ok()?;
                match PUSHERS.iter().all(|n| {
                    answer
                        .body
                        .contains(&self.ground.at(*n, 18000).ip().to_string())
                }) {
                    true => answer.json(),
                    false => bail!("{}", answer.body),
                }
            },
        )
        .await
    }

    /// Waits until `/readyz` of a replica has this status.
    pub(super) async fn readyz(&self, at: (u8, u16), status: u16) -> Result<()> {
        let url = format!("http://{}/readyz", self.ground.at(at.0, at.1));
        let what = format!("{url} to say {status}");
        wait::until(&what, wait::PATIENCE, async || {
            let answer = http::get(&url).await?;
            match answer.status == status {
                true => Ok(()),
                false => bail!("{}: {}", answer.status, answer.body),
            }
        })
        .await
    }

    /// Waits until each gateway answers on behalf of every host as the last state says.
    async fn converges(&self, last: &State) -> Result<()> {
        for (n, _) in GATEWAYS {
            wait::until("the last state at a gateway", wait::PATIENCE, async || {
                let mut wrong = Vec::new();
                for (key, host) in HOSTS.map(|n| (writers::key(n), writers::host(n))) {
                    let url = format!("http://{}/", self.ground.at(n, PORT));
                    let answer = http::client().get(url).header("host", &host);
                    let answer = http::send(answer).await?;
                    let expected = last.get(&key).map(|(value, _)| value.to_string());
                    let right = match &expected {
                        Some(value) => answer.status == 200 && answer.body == *value,
                        None => answer.status == 404,
                    };
                    if !right {
                        wrong.push((host, expected, answer.status, answer.body));
                    }
                }
                if wrong.is_empty() {
                    return Ok(());
                }
                bail!("gw-{n}: (host, expected, status, body): {wrong:?}")
            })
            .await?;
        }
        Ok(())
    }

    /// What the store recorded of the writers' resources, and what is there.
    async fn recorded(&self) -> Result<(Vec<Record>, State)> {
        let endpoints = self
            .members
            .clients()
            .iter()
            .map(|at| format!("http://{at}"));
        let store = EtcdStore::new(EtcdConfig {
            patience: wait::PATIENCE,
            ..EtcdConfig::new(endpoints)
        });
        let mut records = Vec::new();
        for change in store.history(None, None, 0).await? {
            let mut record = Record {
                revision: change.revision.0,
                edits: BTreeMap::new(),
                before: State::new(),
            };
            for edit in change.edits {
                if *edit.key.namespace != *NAMESPACE {
                    continue;
                }
                let key = edit.key.name.to_string();
                if let Some(before) = &edit.before {
                    let (value, at) = writers::value(&before.to_json())?;
                    record.before.insert(key.clone(), (value, at));
                }
                let after = edit
                    .after
                    .as_ref()
                    .map(|after| writers::number(&after.to_json()));
                record.edits.insert(key, after.transpose()?);
            }
            if !record.edits.is_empty() {
                records.push(record);
            }
        }
        let page = store.list(store::Scope::default(), 0, None, None).await?;
        let ours = page
            .objects
            .iter()
            .filter(|o| o.metadata.namespace == NAMESPACE);
        let last = ours.map(|object| {
            let value = writers::value(&object.to_json())?;
            Ok((object.metadata.name.clone(), value))
        });
        Ok((records, last.collect::<Result<_>>()?))
    }
}
