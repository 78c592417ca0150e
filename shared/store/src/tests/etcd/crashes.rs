//! etcd crashing, freezing and losing answers.
//!
//! *Invariant:* see [`super`].

use std::time::Duration;

use futures::StreamExt;
use model::{Key, Kind, Object};
use serde_json::json;
use tokio::sync::watch;

use super::*;
use crate::testing::PATIENCE;
use crate::testing::contract::object;
use crate::{Author, Change, Error, Event, Expect, Op, Scope, Watch};

fn route(name: &str) -> Object {
    object(
        Kind::VirtualService,
        "default",
        name,
        json!({ "hosts": [name] }),
    )
}

async fn create(store: &EtcdStore, name: &str) -> crate::Result<Revision> {
    store
        .commit(
            vec![Op::Put {
                object: route(name),
                expect: Expect::Absent,
            }],
            Author::default(),
        )
        .await
}

async fn next(watch: &mut Watch) -> Event {
    tokio::time::timeout(PATIENCE, watch.next())
        .await
        .expect("an event in time")
        .unwrap()
}

/// The names of the resources that a watch tells of next, and the revision.
async fn created(watch: &mut Watch) -> (Revision, Vec<String>) {
    loop {
        match next(watch).await {
            Event::Changes {
                revision, changes, ..
            } => {
                let name = |change: Change| match change {
                    Change::Put { object, .. } => object.metadata.name.clone(),
                    other => panic!("{other:?}"),
                };
                return (revision, changes.into_iter().map(name).collect());
            }
            Event::Snapshot(_) => panic!("it had to begin anew"),
            Event::Progress { .. } | Event::Disconnected { .. } => {}
        }
    }
}

/// kill -9 under concurrent writers, three times: what was acknowledged is there, and a watch that lived through it was
/// told of each write once, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost_by_a_crash() {
    let mut etcd = Etcd::start().await;
    let store = etcd.store();
    let mut seen = store.watch(Scope::default(), None, true).await.unwrap();
    assert!(matches!(next(&mut seen).await, Event::Snapshot(_)));
    let acknowledged = watch::Sender::new(Vec::<(Revision, String)>::new());
    let stop = watch::Sender::new(false);
    let write = async |writer: usize| {
        for n in 0.. {
            if *stop.borrow() {
                return;
            }
            let name = format!("w{writer}-{n}");
            // An unknown outcome is allowed, a wrong one is not: nobody else writes this name.
            match create(&store, &name).await {
                Ok(revision) => acknowledged.send_modify(|all| all.push((revision, name))),
                Err(Error::Unavailable(_)) => {}
                Err(other) => panic!("{name}: {other}"),
            }
        }
    };
    let crash = async {
        for _ in 0..3 {
            let mut progress = acknowledged.subscribe();
            let goal = progress.borrow().len() + 40;
            progress.wait_for(|all| all.len() >= goal).await.unwrap();
            etcd.kill();
            etcd.restart().await;
        }
        let mut progress = acknowledged.subscribe();
        let goal = progress.borrow().len() + 40;
        progress.wait_for(|all| all.len() >= goal).await.unwrap();
        stop.send_replace(true);
    };
    futures::join!(write(0), write(1), write(2), write(3), crash);

    let mut acknowledged = acknowledged.borrow().clone();
    acknowledged.sort();
    let page = store.list(Scope::default(), 0, None, None).await.unwrap();
    for (revision, name) in &acknowledged {
        let object = page
            .objects
            .iter()
            .find(|object| object.metadata.name == *name);
        assert_eq!(
            object.and_then(|object| object.revision()),
            Some(*revision),
            "{name}"
        );
    }
    // The watch: each resource that exists, once, in order of revision; it never had to begin anew.
    let mut stored: Vec<_> = page
        .objects
        .iter()
        .map(|o| (o.revision().unwrap(), o.metadata.name.clone()))
        .collect();
    stored.sort();
    for (revision, name) in stored {
        assert_eq!(created(&mut seen).await, (revision, vec![name]));
    }
}

/// The request gets through and the answer does not: the change record tells, and the write is answered with the
/// revision it had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_was_lost_is_resolved() {
    let rig = Real::new().await;
    let store = EtcdStore::new(EtcdConfig::new([rig.connection.endpoint()]));
    // Connected, and nothing to make up any more.
    store.epoch().await.unwrap();
    let mut seen = rig.other.watch(Scope::default(), None, true).await.unwrap();
    assert!(matches!(next(&mut seen).await, Event::Snapshot(_)));
    for round in 0..5 {
        let name = format!("r{round}");
        // Before the write begins: its request may be gone before anything else here is polled.
        rig.connection.mute_on(b"changes/");
        let lose = async {
            let told = created(&mut seen).await;
            assert!(rig.connection.is_mute());
            rig.connection.cut();
            rig.connection.restore();
            told
        };
        let (answer, (revision, _)) = futures::join!(create(&store, &name), lose);
        assert_eq!(answer.unwrap(), revision);
    }
    assert_eq!(store.history(None, None, 0).await.unwrap().len(), 5);
}

/// Without an answer for as long as patience lasts, the outcome is unknown, and that is said while etcd is still frozen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_etcd_is_unavailable_once_patience_ends() {
    let etcd = Etcd::start().await;
    let impatient = EtcdStore::new(EtcdConfig {
        patience: Duration::from_secs(2),
        request_timeout: Duration::from_secs(1),
        ..etcd.config()
    });
    while impatient.epoch().await.is_err() {}
    etcd.freeze();
    let refused = tokio::time::timeout(PATIENCE, create(&impatient, "a")).await;
    assert!(
        matches!(refused, Ok(Err(Error::Unavailable(_)))),
        "{refused:?}"
    );
    etcd.thaw();
    create(&etcd.store(), "b").await.unwrap();
}

/// A connection that stays open and says nothing is given up, and the watch goes on when etcd does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_watch_is_rebuilt() {
    let etcd = Etcd::start().await;
    let silence = Duration::from_secs(5);
    let store = EtcdStore::new(EtcdConfig {
        silence,
        ..etcd.config()
    });
    let mut seen = store.watch(Scope::default(), None, true).await.unwrap();
    assert!(matches!(next(&mut seen).await, Event::Snapshot(_)));
    // An etcd that is idle is not silent: it answers when it is asked. Were it otherwise, this would come to nothing.
    let idle = tokio::time::timeout(silence * 2, seen.next()).await;
    assert!(idle.is_err(), "{idle:?}");
    etcd.freeze();
    match next(&mut seen).await {
        Event::Disconnected { reason } => assert!(reason.contains("silent"), "{reason}"),
        other => panic!("{other:?}"),
    }
    etcd.thaw();
    let revision = create(&store, "a").await.unwrap();
    assert_eq!(created(&mut seen).await, (revision, vec!["a".to_owned()]));
}

/// A restart with a compaction behind a watch's back: it begins anew, and deletions are implied.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_survives_a_restart_and_a_compaction() {
    let mut rig = Real::new().await;
    let gone = create(&rig.other, "gone").await.unwrap();
    create(&rig.other, "kept").await.unwrap();
    let mut seen = rig.store.watch(Scope::default(), None, true).await.unwrap();
    assert!(matches!(next(&mut seen).await, Event::Snapshot(_)));
    // A restart alone loses nothing.
    rig.etcd.kill();
    rig.etcd.restart().await;
    let revision = create(&rig.other, "new").await.unwrap();
    assert_eq!(created(&mut seen).await, (revision, vec!["new".to_owned()]));

    rig.cut();
    while !matches!(next(&mut seen).await, Event::Disconnected { .. }) {}
    let key = Key::new(Kind::VirtualService, "default", "gone");
    let op = Op::Delete {
        key,
        expect: Expect::At(gone),
    };
    rig.other.commit(vec![op], Author::default()).await.unwrap();
    let last = create(&rig.other, "newer").await.unwrap();
    rig.compact(last).await;
    rig.etcd.kill();
    rig.etcd.restart().await;
    rig.restore();
    let snapshot = loop {
        match next(&mut seen).await {
            Event::Snapshot(snapshot) => break snapshot,
            Event::Changes { .. } => panic!("those changes are compacted"),
            Event::Progress { .. } | Event::Disconnected { .. } => {}
        }
    };
    let names: Vec<_> = snapshot
        .objects
        .iter()
        .map(|object| object.metadata.name.as_str())
        .collect();
    assert_eq!(
        (snapshot.revision, names),
        (last, vec!["kept", "new", "newer"])
    );
}
