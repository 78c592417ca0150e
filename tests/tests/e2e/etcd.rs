//! Three members of etcd that crash, freeze, lose their quorum and forget, under concurrent writes to two replicas of
//! config-api: every answer was true, no request through an Envoy failed, and every Envoy ends where etcd does.

mod members;
mod partition;
mod restore;
mod site;
mod writers;

use nix::sys::signal::Signal;
use weft_tests::net::Block;

use site::{APIS, Ground, Site};
use writers::Writers;

/// How many acknowledged writes there are around each fault.
const ENOUGH: usize = 250;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_to_its_members_no_answer_was_a_lie() {
    let ground = Ground::One(Block::claim().unwrap());
    let site = Site::start(ground).await.unwrap();
    let loads = site.loads().await.unwrap();
    let writers = Writers::start(&APIS.map(|n| site.ground.at(n, 8080)));
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
    site.all_ready(503).await.unwrap();
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
    site.members.compact(0).await.unwrap();
    writers.acknowledged(ENOUGH).await;
    site.pushers[1].signal(Signal::SIGCONT);

    site.begins_anew(1).await.unwrap();
    site.holds(writers, loads).await.unwrap();
}
