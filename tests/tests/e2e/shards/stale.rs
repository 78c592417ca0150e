//! A pusher that is cut off from the store: it may serve what it has, but nobody who has seen more.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use weft_tests::envoy::PATIENCE;
use weft_tests::wait;

use super::cluster::{Cluster, flags};
use super::fleet::Fleet;
use super::settled;

/// A way to a server that can be closed and opened.
pub(super) struct Gate {
    pub(super) address: SocketAddr,
    pub(super) open: watch::Sender<bool>,
    _accepting: AbortOnDropHandle<()>,
}

impl Gate {
    pub(super) async fn to(server: SocketAddr, at: SocketAddr) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let open = watch::Sender::new(true);
        let opened = open.subscribe();
        let accepting = tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut open = opened.clone();
                tokio::spawn(async move {
                    if !*open.borrow() {
                        return;
                    }
                    let Ok(mut server) = TcpStream::connect(server).await else {
                        return;
                    };
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        _ = open.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Self {
            address: at,
            open,
            _accepting: AbortOnDropHandle::new(accepting),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_cut_off_serves_nobody_who_has_seen_more() {
    let mut cluster = Cluster::with("stale", &[]).await;
    let net = &cluster.mesh.net;
    let gate = Gate::to(net.at(1, 2379), net.at(7, 2379)).await;
    let flags_of_two = flags("two");
    let two = cluster
        .mesh
        .start_pusher_through(2, gate.address, &flags_of_two);
    let _two = two.await.unwrap();
    let _three = cluster.mesh.start_pusher(3, &flags("three")).await.unwrap();
    // Those that the second does not own, calling the first and then the second.
    let addresses = [net.at(1, 18000), net.at(2, 18000)];
    let stale = net.at(2, 18000).to_string();
    let envoys: BTreeSet<String> = Cluster::envoys().collect();
    let all = Fleet::start(40, &addresses, 40);
    let nodes = all.ids().chain(envoys.iter().cloned()).collect();
    let owners = settled(&cluster.mesh, 3, &nodes).await;
    drop(all);
    let others = (0..40).filter(|n| owners[&Fleet::id(*n)] != stale);
    let fleet = Fleet::of(others, &addresses, 40);
    fleet.see(cluster.time).await;

    gate.open.send_replace(false);
    cluster.tick().await;
    fleet.see(cluster.time).await;
    cluster.mesh.pusher.kill();
    // The second does not know that the first is gone, and would serve its nodes from before the cut.
    wait::until(
        "the second to let nodes wait in vain",
        PATIENCE,
        async || match fleet.ended_with("there is no configuration for this node yet") {
            true => Ok(()),
            false => Err("none ended so"),
        },
    )
    .await
    .unwrap();
    fleet.not_set_back().unwrap();

    gate.open.send_replace(true);
    fleet.see(cluster.time).await;
    fleet.agree().await.unwrap();
}
