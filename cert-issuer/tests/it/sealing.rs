//! The key that uploaded private keys are sealed with: made, published and rotated over a real etcd.

use std::sync::Arc;

use cert_issuer::authority::Policy;
use cert_issuer::authority::rotation::Step;
use cert_issuer::ca::Ca;
use cert_issuer::envelope::KeyList;
use ring::rand::SystemRandom;
use seal::SealingKey;
use serde_json::Value;
use store::etcd::EtcdStore;
use store::testing::Etcd;
use store::{Area, Entry, Expect, Vault, VaultOp};

use crate::fixture::{Issuer, KEYS, until};

async fn published(store: &EtcdStore) -> Option<SealingKey> {
    let entry = store.read(Area::Ca, seal::PUBLISHED).await.unwrap()?;
    Some(SealingKey::from_bytes(&entry.value).unwrap())
}

/// Puts the authority back to what it was before there were sealing keys.
async fn forget(store: &EtcdStore, keys: &KeyList) {
    const PATH: &str = "ca/state";
    let read = async |path| -> Entry { store.read(Area::Ca, path).await.unwrap().unwrap() };
    let (state, shown) = (read("state").await, read(seal::PUBLISHED).await);
    let opened = keys.open(PATH, &state.value).unwrap();
    let mut authority: Value = serde_json::from_slice(&opened).unwrap();
    let removed = authority.as_object_mut().unwrap().remove("sealing_keys");
    assert!(removed.is_some_and(|keys| !keys.as_array().unwrap().is_empty()));
    let bytes = authority.to_string().into_bytes();
    let ops = vec![
        VaultOp::Put {
            path: "state".into(),
            value: keys.seal(PATH, &bytes, &SystemRandom::new()).unwrap(),
            expect: Expect::At(state.revision),
        },
        VaultOp::Delete {
            path: seal::PUBLISHED.into(),
            expect: shown.revision,
        },
    ];
    store.write(Area::Ca, ops, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_of_before_gets_a_sealing_key_which_operators_rotate() {
    let etcd = Etcd::start().await;
    let store = etcd.store();
    let keys = || KeyList::parse(KEYS).unwrap();
    let issuer = Issuer::start(&etcd, &[]).await;
    let first = published(&store)
        .await
        .expect("it comes with the authority");
    issuer.stop().await;

    forget(&store, &keys()).await;
    assert_eq!(published(&store).await, None);
    let issuer = Issuer::start(&etcd, &[]).await;
    until("a sealing key", async || published(&store).await.is_some()).await;
    let second = published(&store).await.unwrap();
    assert_ne!(second.name(), first.name());

    let vault = Arc::new(store.clone());
    let ca = Ca::new(vault, keys(), "td".parse().unwrap(), Policy::default());
    let rotated = ca.force(&Step::RotateSealingKey).await.unwrap();
    let third = published(&store).await.unwrap();
    let known: Vec<&str> = rotated
        .sealing_keys()
        .iter()
        .map(|key| key.name())
        .collect();
    assert_eq!(known, [third.name(), second.name()]);
    // Under another key-encryption key they are the same.
    let other = format!("second:MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=\n{KEYS}");
    let other = KeyList::parse(&other).unwrap();
    let vault = Arc::new(store.clone());
    let ca = Ca::new(vault, other, "td".parse().unwrap(), Policy::default());
    assert!(ca.reencrypt().await.unwrap());
    let (authority, _) = ca.load().await.unwrap();
    assert_eq!(authority.sealing_keys()[0].sealing_key(), third);
    issuer.stop().await;
}
