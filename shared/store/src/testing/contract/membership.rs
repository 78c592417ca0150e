//! Leased membership.
//!
//! *Invariant:* see [`super`].

use super::*;
use crate::{Member, Members};

/// Long enough for a loaded machine to renew it in time; one test waits for it to pass.
const TTL: Duration = Duration::from_secs(6);

fn member(instance: &str) -> Member {
    let addresses = [("grpc".to_owned(), "127.0.0.1:18000".to_owned())].into();
    Member {
        instance: instance.into(),
        addresses,
        since: Revision(0),
    }
}

async fn next_set(members: &mut Members) -> Vec<Member> {
    tokio::time::timeout(PATIENCE, members.next())
        .await
        .expect("a set in time")
        .unwrap()
}

fn instances(set: &[Member]) -> Vec<&str> {
    set.iter().map(|member| member.instance.as_str()).collect()
}

pub async fn members_come_and_go(rig: &dyn Rig) {
    let store = rig.store();
    let mut sets = store.members("xds-pusher").await.unwrap();
    assert_eq!(next_set(&mut sets).await, []);
    let a = store.join("xds-pusher", member("a"), TTL).await.unwrap();
    let set = next_set(&mut sets).await;
    assert_eq!(
        (instances(&set), &set[0].addresses),
        (vec!["a"], &member("a").addresses)
    );
    let elsewhere = store.join("config-api", member("z"), TTL).await.unwrap();
    let b = store.join("xds-pusher", member("b"), TTL).await.unwrap();
    let set = next_set(&mut sets).await;
    assert_eq!(instances(&set), ["a", "b"]);
    assert!(set[0].since < set[1].since, "the older is known");
    let mut late = store.members("xds-pusher").await.unwrap();
    assert_eq!(next_set(&mut late).await, set);
    a.leave().await;
    assert_eq!(instances(&next_set(&mut sets).await), ["b"]);
    b.leave().await;
    assert_eq!(next_set(&mut sets).await, []);
    elsewhere.leave().await;
}

pub async fn a_member_that_falls_silent_expires(rig: &dyn Rig) {
    let store = rig.store();
    let mut sets = store.members("xds-pusher").await.unwrap();
    assert_eq!(next_set(&mut sets).await, []);
    let kept = store.join("xds-pusher", member("kept"), TTL).await.unwrap();
    assert_eq!(instances(&next_set(&mut sets).await), ["kept"]);
    drop(
        store
            .join("xds-pusher", member("silent"), TTL)
            .await
            .unwrap(),
    );
    assert_eq!(instances(&next_set(&mut sets).await), ["kept", "silent"]);
    assert_eq!(instances(&next_set(&mut sets).await), ["kept"]);
    kept.leave().await;
}

pub async fn a_lost_lease_is_renewed(rig: &dyn Rig) {
    let store = rig.store();
    let mut sets = store.members("xds-pusher").await.unwrap();
    assert_eq!(next_set(&mut sets).await, []);
    let membership = store.join("xds-pusher", member("a"), TTL).await.unwrap();
    assert_eq!(instances(&next_set(&mut sets).await), ["a"]);
    // And the renewed one again.
    for _ in 0..2 {
        rig.revoke_leases().await;
        assert_eq!(next_set(&mut sets).await, []);
        assert_eq!(instances(&next_set(&mut sets).await), ["a"]);
    }
    membership.leave().await;
    assert_eq!(next_set(&mut sets).await, []);
}

pub async fn a_member_registers_other_addresses(rig: &dyn Rig) {
    let store = rig.store();
    let mut sets = store.members("xds-pusher").await.unwrap();
    assert_eq!(next_set(&mut sets).await, []);
    let membership = store.join("xds-pusher", member("a"), TTL).await.unwrap();
    let since = next_set(&mut sets).await[0].since;
    let mut addresses = member("a").addresses;
    addresses.insert("more".into(), "1".into());
    membership.set_addresses(addresses.clone());
    let set = next_set(&mut sets).await;
    assert_eq!((&set[0].addresses, set[0].since), (&addresses, since));
    // And also under another lease; what was set meanwhile is not lost.
    rig.revoke_leases().await;
    assert_eq!(next_set(&mut sets).await, []);
    addresses.insert("more".into(), "2".into());
    membership.set_addresses(addresses.clone());
    loop {
        match next_set(&mut sets).await.first() {
            Some(member) if member.addresses == addresses => break,
            _ => {}
        }
    }
    membership.leave().await;
    assert_eq!(next_set(&mut sets).await, []);
}

pub async fn nobody_leaves_because_the_store_is_away(rig: &dyn Rig) {
    let (store, other) = (rig.store(), rig.other());
    let a = other.join("xds-pusher", member("a"), TTL).await.unwrap();
    let mut sets = store.members("xds-pusher").await.unwrap();
    assert_eq!(instances(&next_set(&mut sets).await), ["a"]);
    // A watch of resources shows that the cut has been noticed.
    let (mut watch, _) = watch_all(&store).await;
    rig.cut();
    disconnected(&mut watch).await;
    let b = other.join("xds-pusher", member("b"), TTL).await.unwrap();
    rig.restore();
    assert_eq!(
        instances(&next_set(&mut sets).await),
        ["a", "b"],
        "no set in between"
    );
    a.leave().await;
    b.leave().await;
    assert_eq!(instances(&next_set(&mut sets).await), ["b"]);
    assert_eq!(next_set(&mut sets).await, []);
}
