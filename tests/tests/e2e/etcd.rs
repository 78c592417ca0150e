//! Three members of etcd that crash, freeze, lose their quorum and forget, under concurrent writes to two replicas of
//! config-api: every answer was true, no request through an Envoy failed, and every Envoy ends where etcd does.

mod members;
mod writers;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use store::Store as _;
use store::etcd::{EtcdConfig, EtcdStore};
use weft_tests::envoy::{Envoy, Version};
use weft_tests::ledger::{self, Record, State};
use weft_tests::load::Load;
use weft_tests::mesh::{PREFIX, Variant};
use weft_tests::net::Block;
use weft_tests::process::Process;
use weft_tests::run::Run;
use weft_tests::stack::{self, Trust};
use weft_tests::{backend, http, wait};

use crate::edge::{PORT, gateway, no_complaints, routes, service, workload};
use members::Members;
use writers::{HOSTS, NAMESPACE, Writers};

/// How many acknowledged writes there are around each fault.
const ENOUGH: usize = 250;

/// The control plane on three members, each service twice, and a gateway for each kind of stream.
struct Site {
    net: Block,
    run: Run,
    members: Members,
    /// Only held.
    _apis: Vec<Process>,
    pushers: Vec<Process>,
    envoys: Vec<Envoy>,
}

const APIS: [u8; 2] = [4, 5];
const PUSHERS: [u8; 2] = [6, 7];
const GATEWAYS: [(u8, Variant); 2] = [(10, Variant::Sotw), (11, Variant::Delta)];

impl Site {
    async fn start() -> Result<Self> {
        let (net, run) = (Block::claim()?, Run::temporary("members")?);
        let members = Members::start(&net, &run).await?;
        let store = stack::Store {
            etcd: members.clients()[0],
            more: &members.clients()[1..],
            prefix: PREFIX,
            access: stack::Access::Plaintext,
        };
        let (mut apis, mut pushers) = (Vec::new(), Vec::new());
        for n in APIS {
            let (name, at, trust) = (format!("api-{n}"), net.at(n, 8080), Trust::Plaintext);
            apis.push(stack::config_api_with(&run, &name, at, store, trust, &[]).await?);
        }
        for n in PUSHERS {
            let name = format!("pusher-{n}");
            let pusher = stack::Pusher {
                name: &name,
                listen: net.at(n, 18000),
                admin: net.at(n, 18001),
                store,
                trust: Trust::Plaintext,
                flags: &["--instance", &name],
            };
            pushers.push(stack::pusher(&run, pusher).await?);
        }
        let mut site = Self {
            net,
            run,
            members,
            _apis: apis,
            pushers,
            envoys: Vec::new(),
        };
        site.lay_out().await?;
        Ok(site)
    }

    /// Gateways, and what the data plane does throughout.
    async fn lay_out(&mut self) -> Result<()> {
        let gateways = GATEWAYS.map(|(n, _)| {
            let (name, labels) = (format!("gw-{n}"), [("istio", "ingressgateway")]);
            workload("istio-system", &name, self.net.at(n, PORT), &labels)
        });
        let fixed = [
            gateway("edge", PORT),
            service("steady", &[self.net.at(20, 9000)]),
            routes("steady", "- route: [{ destination: { host: steady } }]")
                .replace("'*'", "steady.example"),
        ];
        let documents = [&gateways[..], &fixed[..]].concat().join("---\n");
        let api = self.net.at(APIS[0], 8080);
        let apply = http::client().post(format!("http://{api}/v1/apply"));
        let apply = apply.header("content-type", "application/yaml");
        http::send(apply.body(documents)).await?.ok()?;
        for (n, variant) in GATEWAYS {
            let bootstrap = self.bootstrap(n, variant).await?;
            let (name, admin) = (format!("gw-{n}"), self.net.at(250, 9900 + u16::from(n)));
            let envoy = Envoy::start(&self.run, &name, Version::Newest, bootstrap, admin);
            self.envoys.push(envoy.await?);
        }
        for envoy in &self.envoys {
            envoy.ready().await?;
        }
        Ok(())
    }

    /// The bootstrap of a gateway, as soon as it names both pushers.
    async fn bootstrap(&self, n: u8, variant: Variant) -> Result<serde_json::Value> {
        let api = self.net.at(APIS[0], 8080);
        let path = format!("/v1/namespaces/istio-system/workloads/gw-{n}/bootstrap");
        let url = format!("http://{api}{path}?variant={}", variant.name());
        wait::until(
            "a bootstrap with both pushers",
            wait::PATIENCE,
            async || {
                let answer = http::send(http::client().post(&url)).await?.ok()?;
                match PUSHERS
                    .iter()
                    .all(|n| answer.body.contains(&self.net.ip(*n).to_string()))
                {
                    true => answer.json(),
                    false => bail!("{}", answer.body),
                }
            },
        )
        .await
    }

    /// Waits until `/readyz` of a replica has this status.
    async fn readyz(&self, at: (u8, u16), status: u16) -> Result<()> {
        let url = format!("http://{}/readyz", self.net.at(at.0, at.1));
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
                    let url = format!("http://{}/", self.net.at(n, PORT));
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_to_its_members_no_answer_was_a_lie() {
    let site = Site::start().await.unwrap();
    let settings = backend::Settings::default();
    let _backend = backend::Backend::start(site.net.at(20, 9000), settings)
        .await
        .unwrap();
    let loads: Vec<_> = GATEWAYS
        .iter()
        .map(|(n, _)| {
            let target = site.net.at(*n, PORT);
            let load = Load::new(target, "steady.example", "/");
            (
                n,
                Load {
                    per_second: 50,
                    connections: 2,
                    ..load
                },
            )
        })
        .collect();
    for (_, load) in &loads {
        let url = format!("http://{}/", load.target);
        wait::until("the gateway to serve", wait::PATIENCE, async || {
            http::send(http::client().get(&url).header("host", &load.authority))
                .await?
                .ok()
        })
        .await
        .unwrap();
    }
    let loads: Vec<_> = loads
        .into_iter()
        .map(|(n, load)| (n, load.start()))
        .collect();
    let apis = APIS.map(|n| site.net.at(n, 8080));
    let writers = Writers::start(&apis);
    writers.acknowledged(ENOUGH).await;

    // The leader is killed, and comes back.
    let leader = site.members.leader().await.unwrap();
    site.members.kill(leader);
    writers.acknowledged(ENOUGH).await;
    site.members.restart(&[leader]).await.unwrap();
    writers.acknowledged(ENOUGH).await;

    // The leader freezes: its connections stay open and say nothing.
    let leader = site.members.leader().await.unwrap();
    site.members.signal(leader, Signal::SIGSTOP);
    writers.acknowledged(ENOUGH).await;
    site.members.signal(leader, Signal::SIGCONT);
    writers.acknowledged(ENOUGH).await;

    // One of three is no quorum: nothing is acknowledged, and that is said.
    let leader = site.members.leader().await.unwrap();
    let lost = [leader, (leader + 1) % 3];
    lost.iter().for_each(|n| site.members.kill(*n));
    writers.unanswered(20).await;
    for n in APIS {
        site.readyz((n, 8080), 503).await.unwrap();
    }
    for n in PUSHERS {
        site.readyz((n, 18001), 503).await.unwrap();
    }
    site.members.restart(&lost).await.unwrap();
    writers.acknowledged(ENOUGH).await;

    // A pusher hears nothing while all members are restarted and the history of what it missed is compacted away.
    site.pushers[1].signal(Signal::SIGSTOP);
    writers.acknowledged(ENOUGH).await;
    for n in 0..3 {
        site.members.kill(n);
    }
    site.members.restart(&[0, 1, 2]).await.unwrap();
    writers.acknowledged(ENOUGH).await;
    site.members.compact().await.unwrap();
    writers.acknowledged(ENOUGH).await;
    site.pushers[1].signal(Signal::SIGCONT);

    let calls = writers.stop().await;
    let (records, last) = site.recorded().await.unwrap();
    let found = ledger::check(&calls, &records, &last);
    assert!(
        found.is_empty(),
        "{} things that cannot be true, such as:\n{}",
        found.len(),
        found
            .iter()
            .take(5)
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    );
    for (n, port) in APIS
        .map(|n| (n, 8080))
        .into_iter()
        .chain(PUSHERS.map(|n| (n, 18001)))
    {
        site.readyz((n, port), 200).await.unwrap();
    }
    site.converges(&last).await.unwrap();
    for (n, load) in loads {
        let report = load.stop().await.flawless();
        report.unwrap_or_else(|error| panic!("gw-{n}: {error}"));
    }
    let relisted = std::fs::read_to_string(site.pushers[1].log())
        .context("the log of the pusher")
        .unwrap();
    assert!(
        relisted.matches("loaded the policy").count() > 1,
        "the pusher had to begin anew"
    );
    no_complaints(&site.envoys).await;
}
