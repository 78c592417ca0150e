//! What the death of one pusher of three costs: how long its Envoys are served by nobody.
//!
//! *Invariant:* a node counts as served again when it holds everything on a stream that opened after the death.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rand::RngExt as _;
use reqwest::Method;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use super::figures::{percentiles, say};
use super::{Flags, PATIENCE};
use crate::mesh::Mesh;
use crate::process::Process;
use crate::wait;
use crate::xds_client::{Client, Reaction, Settings, State, Type};

/// An Envoy waits up to this long before it opens the next stream (its default `base_interval`, jittered).
const BACKOFF: f64 = 0.5;

/// A node and what happened to it.
enum News {
    /// It holds everything.
    Served(u32, Instant),
    /// Its stream ended.
    Lost(u32, Instant),
}

/// Kills each of three pushers in turn, and measures until its nodes are served by others, and by their new owners.
pub(super) async fn recovery(mesh: &Mesh, flags: &Flags) -> Result<()> {
    let more = [
        mesh.start_pusher(2, &[]).await?,
        mesh.start_pusher(3, &[]).await?,
    ];
    let pushers: Vec<&Process> = std::iter::once(&mesh.pusher).chain(&more).collect();
    let addresses: Vec<SocketAddr> = (1..=3).map(|n| mesh.net.at(n, 18000)).collect();
    let (tell, mut told) = mpsc::unbounded_channel();
    let mut nodes = JoinSet::new();
    for n in 0..flags.recovery {
        let mut addresses = addresses.clone();
        addresses.rotate_left(n as usize % 3);
        let channels = addresses.into_iter().map(channel);
        let channels = channels.collect::<Result<_>>()?;
        nodes.spawn(live(n, channels, flags.clone(), tell.clone()));
    }
    let (mut again, mut home) = (Vec::new(), Vec::new());
    for pusher in pushers {
        owned(mesh, 3, flags.recovery).await?;
        while told.try_recv().is_ok() {}
        let died = Instant::now();
        pusher.kill();
        owned(mesh, 2, flags.recovery).await?;
        home.push(died.elapsed());
        // What was lost by the death, not by moving home after it.
        let (mut lost, mut served) = (BTreeMap::new(), BTreeMap::new());
        while let Ok(news) = told.try_recv() {
            match news {
                News::Lost(n, at) if at < died + Duration::from_secs(1) => {
                    lost.entry(n).or_insert(at);
                }
                News::Served(n, at) if lost.contains_key(&n) => {
                    served.entry(n).or_insert(at);
                }
                _ => {}
            }
        }
        ensure!(!lost.is_empty(), "no node lost its stream");
        for n in lost.keys() {
            let at = served
                .get(n)
                .with_context(|| format!("node {n} was not served"))?;
            again.push(at.saturating_duration_since(died));
        }
        pusher.start_again()?;
    }
    let what = format!("1 of 3 pushers killed, {} Envoys", flags.recovery);
    let count = again.len();
    say(
        &format!("{what}: until who lost its stream is served ({count})"),
        &percentiles(again),
    );
    say(
        &format!("{what}: until every node has its new owner"),
        &percentiles(home),
    );
    Ok(())
}

fn channel(pusher: SocketAddr) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{pusher}"))?;
    Ok(endpoint
        .connect_timeout(Duration::from_secs(2))
        .connect_lazy())
}

/// A node that opens streams one after the other, at the next pusher when one ends.
async fn live(
    n: u32,
    mut channels: Vec<Channel>,
    flags: Flags,
    tell: mpsc::UnboundedSender<News>,
) -> Result<()> {
    let all =
        |s: &State| s.holds(Type::Endpoint) >= flags.services as usize && s.holds(Type::Route) > 0;
    loop {
        let settings = Settings {
            node: format!("sidecar~shop~r{n}"),
            variant: flags.variant,
            reaction: Reaction::Ack,
        };
        if let Ok(client) = Client::open(channels[0].clone(), settings).await {
            if client.until("everything", PATIENCE, all).await.is_ok() {
                tell.send(News::Served(n, Instant::now()))?;
            }
            let mut states = client.states();
            // Its end, or that of whoever told it.
            drop(states.wait_for(|state| state.ended.is_some()).await);
            tell.send(News::Lost(n, Instant::now()))?;
        }
        channels.rotate_left(1);
        let pause = rand::rng().random_range(0.0..BACKOFF);
        tokio::time::sleep(Duration::from_secs_f64(pause)).await;
    }
}

/// Waits until so many replicas serve all nodes, each one where it belongs.
async fn owned(mesh: &Mesh, replicas: usize, nodes: u32) -> Result<()> {
    wait::until("every node to have its owner", PATIENCE, async || {
        let answer = mesh.call(Method::GET, "/v1/shards", None).await?.ok()?;
        let answer = answer.json()?;
        let shards = answer["shards"].as_array().context("no shards")?;
        let count = |what: &str| -> usize {
            let lists = shards.iter().filter_map(|shard| shard[what].as_array());
            lists
                .flatten()
                .filter(|it| it.as_str().is_some_and(is_ours))
                .count()
        };
        let (served, misplaced) = (count("nodes"), count("misplaced"));
        ensure!(shards.len() == replicas, "{} replicas", shards.len());
        ensure!(misplaced == 0, "{misplaced} misplaced");
        ensure!(served == nodes as usize, "{served} of {nodes} served");
        anyhow::Ok(())
    })
    .await
}

fn is_ours(node: &str) -> bool {
    node.starts_with("sidecar~shop~r")
}
