//! Several pushers: each node is served by its owner whichever replica its Envoy calls, by another when that is gone, and the
//! data plane never notices.

mod callers;
mod chaos;
mod cluster;
mod fleet;
mod full;
mod lost;
mod slow;
mod stale;
mod twins;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use weft_tests::envoy::Envoy;
use weft_tests::mesh::{Mesh, Options};
use weft_tests::wait::{self, PATIENCE};

use self::fleet::Fleet;
use crate::edge::{every_kind, service, workload};
use crate::meshctl::meshctl;

/// A replica as `/v1/shards` shows it.
#[derive(Debug)]
struct Shard {
    address: String,
    instance: String,
    passed: u64,
    nodes: BTreeSet<String>,
    misplaced: BTreeSet<String>,
}

async fn shards(mesh: &Mesh) -> Result<Vec<Shard>> {
    let answer = mesh.call(Method::GET, "/v1/shards", None).await?.ok()?;
    let answer = answer.json()?;
    ensure!(
        answer["silent"] == json!([]),
        "silent: {}",
        answer["silent"]
    );
    let names = |value: &Value| -> BTreeSet<String> {
        let names = value.as_array().into_iter().flatten();
        names
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    };
    let shards = answer["shards"].as_array().unwrap().iter();
    let shards = shards.map(|shard| Shard {
        address: shard["addresses"]["grpc"].as_str().unwrap().to_owned(),
        instance: shard["instance"].as_str().unwrap().to_owned(),
        passed: shard["passedStreams"].as_u64().unwrap(),
        nodes: names(&shard["nodes"]),
        misplaced: names(&shard["misplaced"]),
    });
    Ok(shards.collect())
}

/// Waits until there are so many replicas that serve all of these nodes, each one where it belongs; returns by whom.
async fn settled(
    mesh: &Mesh,
    replicas: usize,
    nodes: &BTreeSet<String>,
) -> BTreeMap<String, String> {
    wait::until("every node to have its owner", PATIENCE, async || {
        let shards = shards(mesh).await?;
        ensure!(
            shards.len() == replicas,
            "there are {} replicas",
            shards.len()
        );
        let mut owners = BTreeMap::new();
        for shard in &shards {
            ensure!(
                shard.misplaced.is_empty(),
                "{}: misplaced {:?}",
                shard.instance,
                shard.misplaced
            );
            for node in &shard.nodes {
                let before = owners.insert(node.clone(), shard.address.clone());
                ensure!(before.is_none(), "{node} is served twice");
            }
        }
        let missing: Vec<_> = nodes
            .iter()
            .filter(|it| !owners.contains_key(*it))
            .collect();
        ensure!(
            missing.is_empty(),
            "{} are not served: {missing:?}",
            missing.len()
        );
        ensure!(owners.len() == nodes.len(), "others are served: {owners:?}");
        Ok(owners)
    })
    .await
    .unwrap()
}

/// The pushers of a bootstrap, in its order.
fn pushers(bootstrap: &Value) -> Vec<Value> {
    let clusters = bootstrap["static_resources"]["clusters"]
        .as_array()
        .unwrap();
    let cluster = clusters.iter().find(|it| it["name"] == "weft-xds").unwrap();
    let endpoints = cluster["load_assignment"]["endpoints"].as_array().unwrap();
    endpoints.clone()
}

/// The same bootstrap with these pushers alone.
fn leading_to(mut bootstrap: Value, pushers: &[Value]) -> Value {
    let clusters = bootstrap["static_resources"]["clusters"]
        .as_array_mut()
        .unwrap();
    let cluster = clusters
        .iter_mut()
        .find(|it| it["name"] == "weft-xds")
        .unwrap();
    let mut pushers = pushers.to_vec();
    for (priority, pusher) in (0..).zip(&mut pushers) {
        pusher["priority"] = Value::from(priority);
    }
    cluster["load_assignment"]["endpoints"] = pushers.into();
    bootstrap
}

fn address_of(pusher: &Value) -> SocketAddr {
    let address = &pusher
        .pointer("/lb_endpoints/0/endpoint/address/socket_address")
        .unwrap();
    let port = address["port_value"].as_u64().unwrap();
    format!("{}:{port}", address["address"].as_str().unwrap())
        .parse()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_calls_another_is_passed_to_its_owner_and_served_there() {
    let mesh = Mesh::secure("passed", &[]).await.unwrap();
    let _second = mesh.start_pusher(2, &[]).await.unwrap();
    let mut documents = vec![service("web", &[mesh.net.at(9, 9000)])];
    let kinds = every_kind();
    let name = |n: usize| format!("w-{n}");
    let place = |n: usize| mesh.net.at(10 + u8::try_from(n).unwrap(), 9000);
    documents.extend((0..kinds.len()).map(|n| workload("shop", &name(n), place(n), &[])));
    mesh.apply(&documents.join("---\n")).await.unwrap();
    let (mut envoys, mut owners) = (Vec::new(), BTreeMap::new());
    for (n, (variant, version)) in kinds.into_iter().enumerate() {
        let bootstrap = wait::until("a bootstrap with both pushers", PATIENCE, async || {
            let bootstrap = mesh.bootstrap("shop", &name(n), variant).await?;
            match pushers(&bootstrap).len() {
                2 => Ok(bootstrap),
                _ => bail!("{:?}", pushers(&bootstrap)),
            }
        });
        let bootstrap = bootstrap.await.unwrap();
        let pushers = pushers(&bootstrap);
        owners.insert(
            format!("sidecar~shop~{}", name(n)),
            address_of(&pushers[0]).to_string(),
        );
        // It knows only the one that does not own it.
        let bootstrap = leading_to(bootstrap, &pushers[1..]);
        let admin = mesh.net.at(250, 9900 + u16::try_from(n).unwrap());
        let envoy = Envoy::start(&mesh.run, &name(n), version, bootstrap, admin)
            .await
            .unwrap();
        envoys.push(envoy);
    }
    for envoy in &envoys {
        envoy.ready().await.unwrap();
    }
    let nodes: BTreeSet<String> = owners.keys().cloned().collect();
    assert_eq!(settled(&mesh, 2, &nodes).await, owners);
    let passed: u64 = shards(&mesh)
        .await
        .unwrap()
        .iter()
        .map(|shard| shard.passed)
        .sum();
    assert_eq!(passed, nodes.len() as u64, "each one was passed on");

    // What changes reaches them that way.
    mesh.apply(&service("later", &[mesh.net.at(9, 9001)]))
        .await
        .unwrap();
    for envoy in &envoys {
        envoy
            .process
            .until("the new cluster", PATIENCE, async || {
                match envoy.ask("/clusters").await?.body.contains("later.shop") {
                    true => Ok(()),
                    false => bail!("it is not there"),
                }
            })
            .await
            .unwrap();
    }

    // Whose credential is revoked loses its stream at both ends.
    let gone = nodes.first().unwrap();
    let path = format!("/v1/namespaces/shop/workloads/{}/credentials", name(0));
    mesh.call(Method::DELETE, &path, None)
        .await
        .unwrap()
        .ok()
        .unwrap();
    wait::until("the end of its stream", PATIENCE, async || {
        let shards = shards(&mesh).await?;
        let served = shards.iter().any(|shard| shard.nodes.contains(gone));
        let passed: u64 = shards.iter().map(|shard| shard.passed).sum();
        ensure!(!served && passed == nodes.len() as u64 - 1, "{shards:?}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn meshctl_shows_who_serves_whom() {
    let options = Options {
        pusher: &["--instance", "one"],
        ..Options::default()
    };
    let mesh = Mesh::start_with("shown", options).await.unwrap();
    // It stays a member when it is gone.
    let flags = ["--instance", "two", "--member-ttl", "600"];
    let second = mesh.start_pusher(2, &flags).await.unwrap();
    mesh.apply(&service("clock", &[mesh.net.at(8, 10_001)]))
        .await
        .unwrap();
    let addresses = [mesh.net.at(1, 18000), mesh.net.at(2, 18000)];
    let fleet = Fleet::start(20, &addresses, 1);
    fleet.see(10_001).await;
    let owners = settled(&mesh, 2, &fleet.ids().collect()).await;
    let server = format!("http://{}", mesh.api_address());
    let meshctl = async |line: &str| -> Result<String> {
        let output = meshctl(&server, line).output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{line}: {said}");
        Ok(String::from_utf8(output.stdout)?)
    };
    let row = async |name: &str| -> Result<Vec<String>> {
        let table = meshctl("shards").await?;
        let rows = table.lines().map(|line| line.split_whitespace());
        let rows = rows.map(|row| row.map(str::to_owned).collect::<Vec<_>>());
        let mut rows = rows.filter(|row| row.first().is_some_and(|first| first == name));
        rows.next()
            .with_context(|| format!("no {name} in\n{table}"))
    };
    let passed: BTreeMap<String, u64> = (shards(&mesh).await.unwrap().into_iter())
        .map(|shard| (shard.instance, shard.passed))
        .collect();
    for (name, address) in ["one", "two"].into_iter().zip(addresses) {
        let address = address.to_string();
        let row = row(name).await.unwrap();
        let nodes = owners.values().filter(|owner| **owner == address).count();
        let (nodes, passed) = (nodes.to_string(), passed[name].to_string());
        let (before, after) = ([&address], [&nodes, &nodes, "0", &passed, "0"]);
        assert_eq!(row[1..2], before.map(String::as_str), "{row:?}");
        assert_eq!(
            row[3..],
            ["yes"].into_iter().chain(after).collect::<Vec<_>>()
        );
    }
    let json: Value = serde_json::from_str(&meshctl("shards -o json").await.unwrap()).unwrap();
    let answer = mesh.call(Method::GET, "/v1/shards", None).await.unwrap();
    assert_eq!(json, answer.json().unwrap());

    second.kill();
    let address = addresses[1].to_string();
    wait::until("the second to be silent", PATIENCE, async || {
        let row = row("two").await?;
        let silent = ["two", &address, "-", "SILENT", "-", "-", "-", "-", "-"];
        ensure!(row == silent, "{row:?}");
        Ok(())
    })
    .await
    .unwrap();
}
