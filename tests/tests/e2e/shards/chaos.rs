//! What may happen to three pushers, under load.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use weft_tests::mesh::{Mesh, Options};

use super::cluster::{Cluster, flags};
use super::fleet::Fleet;
use super::settled;
use crate::edge::service;

const SIMULATED: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_takes_only_its_nodes_along_and_who_comes_takes_its_share() {
    let mut cluster = Cluster::start("shares").await;
    let fleet = cluster.fleet(SIMULATED).await;
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
    fleet.see(cluster.time).await;
    fleet.forget_ends();
    let status = cluster.more[0].stop().await;
    assert!(status.success(), "{status}: {}", cluster.more[0].tail(20));
    assert_eq!(settled(&cluster.mesh, 2, &nodes).await, without);
    let ends = fleet.ends();
    let told = |end: &&String| end.contains("this replica is shutting down");
    assert!(
        ends.iter().any(|end| told(&end)),
        "nobody was told: {ends:?}"
    );
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

/// How many blows there are.
const BLOWS: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_blows_lose_no_request_and_set_nobody_back() {
    let seed = std::env::var("WEFT_CHAOS_SEED").ok();
    let seed = seed.map_or_else(|| rand::rng().random(), |seed| seed.parse().unwrap());
    eprintln!("WEFT_CHAOS_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::secure("chaos").await;
    let fleet = cluster.fleet(SIMULATED).await;
    fleet.see(cluster.time).await;
    let loads = cluster.load().await;

    let mut fates = [Fate::Up; 3];
    let mut blows = 0;
    for step in 0.. {
        for (pusher, fate) in cluster.pushers().into_iter().zip(&mut fates) {
            match *fate {
                Fate::Down(until) if until <= step => pusher.start_again().unwrap(),
                Fate::Frozen(until) if until <= step => pusher.signal(Signal::SIGCONT),
                _ => continue,
            }
            *fate = Fate::Up;
        }
        if blows == BLOWS {
            break;
        }
        let up: Vec<usize> = (0..3).filter(|n| fates[*n] == Fate::Up).collect();
        if let Some(victim) = up.choose(&mut random) {
            blows += 1;
            let pusher = cluster.pushers()[*victim];
            let until = step + random.random_range(1..5);
            fates[*victim] = match random.random_range(0..3) {
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
