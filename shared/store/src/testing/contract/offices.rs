//! Offices: one holder at a time, and fenced writes.
//!
//! *Invariant:* see [`super`].

use super::*;
use crate::{Area, Leadership, Vault, VaultError, VaultOp};

const TTL: Duration = Duration::from_secs(6);

async fn campaign(vault: &Arc<dyn Vault>, instance: &str) -> Box<dyn Leadership> {
    tokio::time::timeout(PATIENCE, vault.campaign("issuer", instance, TTL))
        .await
        .expect("elected in time")
        .unwrap()
}

fn create(path: &str) -> Vec<VaultOp> {
    vec![VaultOp::Put {
        path: path.into(),
        value: b"x".to_vec(),
        expect: Expect::Absent,
    }]
}

pub async fn an_office_has_one_holder(rig: &dyn Rig) {
    let (vault, other) = (rig.vault(), rig.other_vault());
    let first = campaign(&vault, "a").await;
    assert_eq!(rig.get_raw("leaders/issuer").await.unwrap(), b"a");
    let elsewhere = vault.campaign("another", "a", TTL).await.unwrap();
    let waiting = tokio::spawn({
        let other = other.clone();
        async move { campaign(&other, "b").await }
    });
    let written = vault
        .write(Area::Ca, create("1"), Some(first.fence()))
        .await;
    written.unwrap();
    assert!(!waiting.is_finished());
    first.resign().await;
    let second = waiting.await.unwrap();
    assert_eq!(rig.get_raw("leaders/issuer").await.unwrap(), b"b");
    assert_ne!(elsewhere.fence(), second.fence());
}

pub async fn of_many_candidates_one_wins(rig: &dyn Rig) {
    let vault = rig.vault();
    let held = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let candidates = (0..5).map(|n| {
        let (vault, held) = (vault.clone(), held.clone());
        async move {
            use std::sync::atomic::Ordering::SeqCst;
            let office = campaign(&vault, &format!("c{n}")).await;
            assert_eq!(held.fetch_add(1, SeqCst), 0, "two hold the office");
            let path = format!("by/{n}");
            let written = vault
                .write(Area::Ca, create(&path), Some(office.fence()))
                .await;
            written.unwrap();
            held.fetch_sub(1, SeqCst);
            office.resign().await;
        }
    });
    futures::future::join_all(candidates).await;
}

pub async fn who_lost_the_office_writes_nothing(rig: &dyn Rig) {
    let (vault, other) = (rig.vault(), rig.other_vault());
    let first = campaign(&vault, "a").await;
    rig.revoke_leases().await;
    let late = vault
        .write(Area::Ca, create("x"), Some(first.fence()))
        .await;
    assert!(matches!(late, Err(VaultError::Deposed { .. })), "{late:?}");
    let second = campaign(&other, "b").await;
    let late = vault
        .write(Area::Ca, create("x"), Some(first.fence()))
        .await;
    assert!(matches!(late, Err(VaultError::Deposed { .. })), "{late:?}");
    assert_eq!(rig.get_raw("ca/x").await, None);
    let fine = other
        .write(Area::Ca, create("x"), Some(second.fence()))
        .await;
    fine.unwrap();
    let again = other
        .write(Area::Ca, create("x"), Some(second.fence()))
        .await;
    assert!(
        matches!(again, Err(VaultError::Conflict { .. })),
        "{again:?}"
    );
    tokio::time::timeout(PATIENCE, first.lost())
        .await
        .expect("it learns of it");
}

pub async fn a_holder_that_is_cut_off_loses_the_office(rig: &dyn Rig) {
    let (vault, other) = (rig.vault(), rig.other_vault());
    let first = campaign(&vault, "a").await;
    rig.cut();
    tokio::time::timeout(PATIENCE, first.lost())
        .await
        .expect("it gives up by itself");
    // A store that is away ends no lease by itself.
    rig.revoke_leases().await;
    let second = campaign(&other, "b").await;
    rig.restore();
    let late = loop {
        match vault
            .write(Area::Ca, create("x"), Some(first.fence()))
            .await
        {
            Err(VaultError::Store(_)) => {}
            answer => break answer,
        }
    };
    assert!(matches!(late, Err(VaultError::Deposed { .. })), "{late:?}");
    second.resign().await;
}

pub async fn an_office_lasts_while_it_is_held(rig: &dyn Rig) {
    let (vault, other) = (rig.vault(), rig.other_vault());
    let first = campaign(&vault, "a").await;
    let waiting = other.campaign("issuer", "b", TTL);
    // Twice as long as a lease that nobody prolongs.
    assert!(tokio::time::timeout(2 * TTL, waiting).await.is_err());
    let written = vault
        .write(Area::Ca, create("x"), Some(first.fence()))
        .await;
    written.unwrap();
}
