//! A pusher with more new streams than it may let wait: it refuses some while another replica can take them, and none when it
//! is the last.

use weft_tests::http;
use weft_tests::mesh::{Mesh, Options};

use super::fleet::Fleet;
use super::settled;
use super::stale::Gate;
use crate::edge::service;

/// How often a pusher refused a stream.
async fn refused(mesh: &Mesh, n: u8) -> f64 {
    let metrics = http::get(format!("http://{}/metrics", mesh.net.at(n, 18001)));
    let metrics = metrics.await.unwrap().ok().unwrap().body;
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with("weft_pusher_admission_refused_total"));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_full_refuses_only_what_another_can_take() {
    let options = Options {
        pusher: &["--instance", "one"],
        ..Options::default()
    };
    let mesh = Mesh::start_with("full", options).await.unwrap();
    // One new stream at a time, and two that wait.
    let flags = "--instance two --admit-at-once 1 --admission-queue 2";
    let flags: Vec<&str> = flags.split(' ').collect();
    let gate = Gate::to(mesh.net.at(1, 2379), mesh.net.at(7, 2379)).await;
    let two = mesh.start_pusher_through(2, gate.address, &flags);
    let _two = two.await.unwrap();
    let tick = async |port: u16| {
        let clock = service("clock", &[mesh.net.at(8, port)]);
        mesh.apply(&clock).await.unwrap();
        u32::from(port)
    };
    let then = tick(10_001).await;
    let [one, two] = [mesh.net.at(1, 18000), mesh.net.at(2, 18000)];
    let all = Fleet::start(24, &[one, two], 10);
    all.see(then).await;
    let owners = settled(&mesh, 2, &all.ids().collect()).await;
    drop(all);
    let of_two = || (0..24).filter(|n| owners[&Fleet::id(*n)] == two.to_string());

    // What it has is too old now, and who comes keeps its turn until that is over.
    gate.open.send_replace(false);
    let now = tick(10_002).await;
    let fleet = Fleet::of(of_two(), &[two, one], 100);
    fleet.see(now).await;
    assert!(refused(&mesh, 2).await > 0.0, "nobody was refused");
    assert!(fleet.ended_with("another replica can take this one"));
    assert!(refused(&mesh, 1).await == 0.0, "the other was not full");
    drop(fleet);

    // The last one takes everybody, with what it has.
    mesh.pusher.kill();
    let before = refused(&mesh, 2).await;
    let fleet = Fleet::of(of_two(), &[two], 100);
    fleet.see(then).await;
    assert!(!fleet.ended_with("another replica can take this one"));
    let after = refused(&mesh, 2).await;
    assert!(after <= before, "{before} before, {after} after");

    gate.open.send_replace(true);
    fleet.see(now).await;
    fleet.agree().await.unwrap();
}
