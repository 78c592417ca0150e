//! `weft-bench`: what the size of a mesh costs, measured on a real etcd, config-api and pusher with simulated Envoys.
//!
//! *Invariant:* every phase has a bound in count or time, and nothing is left running.

mod envoys;
mod figures;
mod flags;
mod recovery;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use model::{Key, Kind};
use store::etcd::{EtcdConfig, EtcdStore};
use store::{Author, Expect, Op, Store};

use self::envoys::{Fleet, Names};
use self::figures::{Usage, mib, percentiles, say};
pub use self::flags::Flags;
use crate::mesh::{Mesh, Variant};
use crate::wait;
use crate::xds_client::{Client, Reaction, Settings, State, Type};

/// Documents in one transaction: etcd allows 128 comparisons, of which the change record and new hosts take one each.
const BATCH: usize = 100;
/// How long anything may take to arrive.
const PATIENCE: Duration = Duration::from_secs(600);
/// The namespace of the services.
const NAMESPACE: &str = "shop";

/// Runs the phases and prints a table of what they measured.
///
/// # Errors
/// If a part does not start, or something does not arrive in time.
pub async fn bench(flags: Flags) -> Result<()> {
    let mesh = Mesh::start("bench").await?;
    load(&mesh, &flags).await?;
    let pusher = Usage::of(mesh.pusher.pid());
    say("pusher, no stream: RSS", &mib(pusher.rss()?));
    let (names, _clients) = first_streams(&mesh, &flags, &pusher).await?;
    let store = EtcdStore::new(EtcdConfig::new([format!(
        "http://{}",
        mesh.net.at(1, 2379)
    )]));
    for count in &flags.envoys {
        streams(&mesh, &flags, &store, &pusher, &names, *count).await?;
    }
    if flags.storm > 0 {
        storm(&mesh, &flags, &names).await?;
    }
    if flags.recovery > 0 {
        recovery::recovery(&mesh, &flags).await?;
    }
    Ok(())
}

/// Kills the pusher, and opens streams to its successor all at once.
async fn storm(mesh: &Mesh, flags: &Flags, names: &Names) -> Result<()> {
    mesh.pusher.kill();
    mesh.pusher.start_again()?;
    mesh.ready().await?;
    let pusher = Usage::of(mesh.pusher.pid());
    let (begun, count) = (Instant::now(), flags.storm);
    let xds = mesh.net.at(1, 18000);
    let _fleet = Fleet::open_by(count, xds, flags, names, count, PATIENCE).await?;
    say(
        &format!(
            "{count} {} streams at once: all served",
            flags.variant.name()
        ),
        &format!(
            "{:.1?}, CPU of the pusher {:.1?}, RSS {}",
            begun.elapsed(),
            pusher.cpu()?,
            mib(pusher.rss()?)
        ),
    );
    Ok(())
}

/// Declares the services, through config-api like anyone.
async fn load(mesh: &Mesh, flags: &Flags) -> Result<()> {
    let begun = Instant::now();
    let all: Vec<u32> = (0..flags.services).collect();
    for batch in all.chunks(BATCH) {
        let documents: Vec<String> = batch.iter().map(|n| service(*n, flags.endpoints)).collect();
        mesh.apply(&documents.join("---\n")).await?;
    }
    say(
        "applied through config-api",
        &format!(
            "{} services, {} endpoints in {:.1?}",
            flags.services,
            flags.services * flags.endpoints,
            begun.elapsed()
        ),
    );
    Ok(())
}

/// Opens the first stream of two classes: the first one fills what classes share. Returns what such a stream asks for by
/// name, and the streams, for classes end with their last.
async fn first_streams(mesh: &Mesh, flags: &Flags, pusher: &Usage) -> Result<(Names, Vec<Client>)> {
    let services = flags.services as usize;
    let (mut names, mut clients) = (Names::default(), Vec::new());
    for (what, namespace) in [
        ("first stream", NAMESPACE),
        ("first of another class", "other"),
    ] {
        let (begun, cpu) = (Instant::now(), pusher.cpu()?);
        // As an Envoy does: a stream that ends is opened anew.
        let (client, state) = wait::until("a stream with everything", PATIENCE, async || {
            let settings = Settings {
                node: format!("sidecar~{namespace}~first"),
                variant: Variant::Delta,
                reaction: Reaction::Ack,
            };
            let channel = envoys::channel(mesh.net.at(1, 18000)).await?;
            let client = Client::open(channel, settings).await?;
            let all = |s: &State| s.holds(Type::Endpoint) >= services && s.holds(Type::Route) > 0;
            let state = client.until("everything", PATIENCE, all).await?;
            anyhow::Ok((client, state))
        })
        .await?;
        let bytes: u64 = state.tallies.values().map(|tally| tally.bytes).sum();
        let (took, cpu) = (begun.elapsed(), pusher.cpu()? - cpu);
        say(
            what,
            &format!("{} in {took:.2?}, CPU of the pusher {cpu:.2?}", mib(bytes)),
        );
        let held = |ty| state.held.get(&ty).into_iter().flatten().cloned().collect();
        names = Names {
            endpoints: held(Type::Endpoint),
            routes: held(Type::Route),
        };
        clients.push(client);
    }
    Ok((names, clients))
}

/// Opens streams, weighs them, and changes endpoints under them.
async fn streams(
    mesh: &Mesh,
    flags: &Flags,
    store: &EtcdStore,
    pusher: &Usage,
    names: &Names,
    count: u32,
) -> Result<()> {
    let before = pusher.rss()?;
    let (begun, cpu) = (Instant::now(), pusher.cpu()?);
    let fleet = Fleet::open(mesh.net.at(1, 18000), flags, names, count, PATIENCE).await?;
    let what = format!("{count} {} streams", flags.variant.name());
    say(
        &format!("{what}: connect and converge"),
        &format!(
            "{:.1?}, CPU of the pusher {:.1?}",
            begun.elapsed(),
            pusher.cpu()? - cpu
        ),
    );
    tokio::time::sleep(Duration::from_secs(flags.idle)).await;
    let per_stream = pusher.rss()?.saturating_sub(before) as f64 / f64::from(count) / 1024.0;
    say(
        &format!("{what}: RSS of an idle stream"),
        &format!("{per_stream:.1} KiB"),
    );

    let (mut last, mut every, mut commits) = (Vec::new(), Vec::new(), Vec::new());
    let cpu = pusher.cpu()?;
    for round in 0..flags.changes {
        let number = (round * 7919) % flags.services;
        let marker = format!("11.{}.{}.{}", count >> 8, count & 255, round % 256);
        let operation = moved(store, number, &marker).await?;
        let mut acks = fleet.expect(&marker);
        let sent = Instant::now();
        store.commit(vec![operation], Author::default()).await?;
        let committed = Instant::now();
        let times = acks
            .take(count, Duration::from_secs(60))
            .await
            .with_context(|| format!("change {round}"))?;
        let since = |at: &Instant| at.saturating_duration_since(committed);
        commits.push(committed - sent);
        last.push(times.iter().map(since).max().unwrap_or_default());
        every.extend(times.iter().map(since));
    }
    let cpu = (pusher.cpu()? - cpu) / flags.changes;
    say(
        &format!("{what}: etcd's commit itself"),
        &percentiles(commits),
    );
    say(&format!("{what}: commit to last ACK"), &percentiles(last));
    say(&format!("{what}: commit to each ACK"), &percentiles(every));
    say(
        &format!("{what}: CPU of the pusher per change"),
        &format!("{cpu:.2?}"),
    );
    Ok(())
}

/// A write of a service whose first endpoint is now at this address.
async fn moved(store: &EtcdStore, number: u32, address: &str) -> Result<Op> {
    let key = Key::new(Kind::ServiceEntry, NAMESPACE, format!("s{number}"));
    let mut object = store.get(&key).await?.context("the service is gone")?;
    let revision = object.revision().context("it has no revision")?;
    object.spec["endpoints"][0]["address"] = address.into();
    Ok(Op::Put {
        object,
        expect: Expect::At(revision),
    })
}

fn service(number: u32, endpoints: u32) -> String {
    let list: Vec<String> = (0..endpoints)
        .map(|n| {
            format!(
                "{{ address: 10.{}.{}.{} }}",
                number / 256,
                number % 256,
                n + 1
            )
        })
        .collect();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{ name: s{number}, namespace: {NAMESPACE} }}\nspec:\n  \
         hosts: [s{number}.{NAMESPACE}.svc.cluster.local]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  \
         ports: [{{ number: 80, name: http, protocol: HTTP }}]\n  endpoints: [{}]\n",
        list.join(", ")
    )
}
