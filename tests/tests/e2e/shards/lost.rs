//! Packets that are lost between a pusher and the store, and between pushers: no connection ends, and nothing comes.
//!
//! All of it runs in a network of its own, where rules of the kernel drop packets. Where the machine allows none, this says so
//! and checks nothing.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use weft_tests::process::{Environment, Process};
use weft_tests::run::Run;
use weft_tests::skip::skip;
use weft_tests::wait::{self, PATIENCE};
use weft_tests::{binaries, http};

use super::cluster::{Cluster, GROUPS};
use super::fleet::Fleet;
use super::{settled, shards};

const TEST: &str = "shards::lost::lost_packets_fail_no_request_and_set_nobody_back";

/// Set in the process that has a network of its own.
const INSIDE: &str = "WEFT_TESTS_OWN_NETWORK";

/// How many simulated Envoys there are.
const SIMULATED: usize = 120;

/// Runs a program; what it said.
fn run(program: &Path, words: &str) -> Result<String> {
    let output = Command::new(program)
        .args(words.split_whitespace())
        .output();
    let output = output.with_context(|| program.display().to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{} {words}: {said}",
        program.display()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn iptables(words: &str) -> Result<String> {
    run(&binaries::tool("iptables/iptables")?, words)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_packets_fail_no_request_and_set_nobody_back() {
    if std::env::var_os(INSIDE).is_some() {
        return lose_packets().await;
    }
    let iptables = binaries::tool("iptables/iptables").unwrap();
    if let Err(error) = run(
        Path::new("unshare"),
        &format!("--net {} -L", iptables.display()),
    ) {
        skip(format!(
            "no network of its own with iptables (as root, on Linux with nf_tables): {error:#}"
        ));
        return;
    }
    let logs = Run::temporary("lost").unwrap();
    let exe = std::env::current_exe().unwrap().display().to_string();
    let args = ["--net", "--", &exe, "--exact", TEST, "--nocapture"].map(str::to_owned);
    let inside = Environment::from([(INSIDE.to_owned(), "1".to_owned())]);
    let log = logs.path("log");
    let test = Process::start_in("lost", Path::new("unshare"), &args, &inside, &log).unwrap();
    test.succeeds(PATIENCE * 10).await.unwrap();
    assert!(test.tail(5).contains("1 passed"), "{}", test.tail(25));
}

/// Ways on which packets are lost, both there and back, while this lives.
struct Cut(Vec<String>);

/// Where packets go that a pusher sends.
#[derive(Clone, Copy, Debug)]
enum To {
    Store,
    /// The pusher of this number, beginning at 1.
    Pusher(usize),
}

impl Cut {
    /// Between pushers (beginning at 1) and what they call.
    fn of(cluster: &Cluster, ways: &[(usize, To)]) -> Self {
        let net = &cluster.mesh.net;
        let mut cut = Self(Vec::new());
        for (from, to) in ways {
            let to = match to {
                To::Store => net.at(1, 2379),
                To::Pusher(n) => cluster.addresses()[n - 1],
            };
            let (mark, ip, port) = (GROUPS[from - 1], to.ip(), to.port());
            for way in [
                format!("-d {ip} --dport {port}"),
                format!("-s {ip} --sport {port}"),
            ] {
                let rule = format!("OUTPUT -p tcp -m connmark --mark {mark} {way} -j DROP");
                iptables(&format!("-A {rule}")).unwrap();
                cut.0.push(rule);
            }
        }
        cut
    }

    /// How many packets were lost.
    fn lost() -> u64 {
        let rules = iptables("-L OUTPUT -n -v -x").unwrap();
        let counts = rules.lines().filter(|line| line.contains("DROP"));
        let counts = counts.map(|line| line.split_whitespace().next().unwrap().parse::<u64>());
        counts.map(Result::unwrap).sum()
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        for rule in &self.0 {
            if let Err(error) = iptables(&format!("-D {rule}")) {
                eprintln!("{error:#}");
            }
        }
    }
}

/// How often the pushers served a node that belongs to one they could not reach.
async fn unreachable(cluster: &Cluster) -> Result<f64> {
    let mut sum = 0.0;
    for n in 1..=3 {
        let metrics = http::get(format!("http://{}/metrics", cluster.mesh.net.at(n, 18001)));
        let metrics = metrics.await?.ok()?.body;
        let lines = metrics.lines().filter(|line| {
            line.starts_with("weft_pusher_passes_total") && line.contains("unreachable")
        });
        sum += lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum::<f64>();
    }
    Ok(sum)
}

async fn lose_packets() {
    run(Path::new("ip"), "link set lo up").unwrap();
    for group in GROUPS {
        // A connection is known by who opened it.
        let opened = format!("-m conntrack --ctdir ORIGINAL -m owner --gid-owner {group}");
        let mark = format!("-j CONNMARK --set-mark {group}");
        iptables(&format!("-t mangle -A OUTPUT -p tcp {opened} {mark}")).unwrap();
    }
    let mut cluster = Cluster::grouped("lost").await;
    let fleet = cluster.fleet(SIMULATED).await;
    fleet.see(cluster.time).await;
    let nodes = cluster.nodes(&fleet);
    settled(&cluster.mesh, 3, &nodes).await;
    let loads = cluster.load().await;

    use To::{Pusher, Store};
    let from_the_store = [
        vec![(1, Store)],
        vec![(2, Store)],
        vec![(3, Store)],
        // And from everybody.
        vec![
            (2, Store),
            (2, Pusher(1)),
            (2, Pusher(3)),
            (1, Pusher(2)),
            (3, Pusher(2)),
        ],
    ];
    for ways in from_the_store {
        let cut = Cut::of(&cluster, &ways);
        cluster.tick().await;
        wait::until("its membership to end", PATIENCE, async || {
            let left = shards(&cluster.mesh).await?.len();
            ensure!(left == 2, "there are {left} replicas");
            Ok(())
        })
        .await
        .unwrap();
        cluster.tick().await;
        assert!(Cut::lost() > 0, "{ways:?}");
        fleet.not_set_back().unwrap();
        drop(cut);
        settled(&cluster.mesh, 3, &nodes).await;
        fleet.see(cluster.time).await;
        fleet.not_set_back().unwrap();
    }

    for (one, other) in [(1, 2), (2, 3), (3, 1)] {
        let before = unreachable(&cluster).await.unwrap();
        // Who calls one of them only is passed on to the other, if that is its owner.
        let stuck = SIMULATED..SIMULATED + 20;
        let stuck = Fleet::of(stuck, &cluster.addresses()[one - 1..one], 20);
        stuck.see(cluster.time).await;
        let ways = [(one, Pusher(other)), (other, Pusher(one))];
        let cut = Cut::of(&cluster, &ways);
        wait::until("streams between them to be lost", PATIENCE, async || {
            let lost = stuck.ended_with("the replica that served this stream is lost");
            ensure!(lost, "{:?}", stuck.ends());
            Ok(())
        })
        .await
        .unwrap();
        assert!(Cut::lost() > 0, "{ways:?}");
        // Everybody reaches the store, so everybody is told.
        cluster.tick().await;
        stuck.see(cluster.time).await;
        assert!(unreachable(&cluster).await.unwrap() > before, "{ways:?}");
        stuck.not_set_back().unwrap();
        drop(stuck);
        fleet.see(cluster.time).await;
        cluster.envoys_see_the_time().await;
        drop(cut);
        settled(&cluster.mesh, 3, &nodes).await;
    }

    cluster.tick().await;
    fleet.see(cluster.time).await;
    cluster.envoys_see_the_time().await;
    fleet.agree().await.unwrap();
    for load in loads {
        load.stop().await.flawless().unwrap();
    }
}
