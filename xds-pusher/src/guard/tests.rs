//! Each rule of who may speak for a node, and that credentials are counted by workload.

#![allow(clippy::unwrap_used)]

use jiff::{SignedDuration, Timestamp};
use store::memory::MemoryStore;
use store::{Expect, VaultOp};
use tonic::Code;

use super::*;

fn identity(text: &str) -> Identity {
    text.parse().unwrap()
}

fn peer(id: &str, validity: SignedDuration) -> Peer {
    let mut peer = Peer::default();
    peer.extensions.insert(Connection {
        address: "127.0.0.1:1".parse().unwrap(),
        certificate: Some((identity(id), Timestamp::now() + validity)),
    });
    peer
}

const ORDERS: &str = "spiffe://td/ns/shop/sa/orders";
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// A guard that knows `shop/orders-1` and `shop/orders-2` of the account `orders`, of which the first has a credential.
fn guard() -> Guard {
    let workload = |name: &str| (Arc::from("shop"), Arc::from(name));
    let accounts = [
        (workload("orders-1"), Arc::from("orders")),
        (workload("orders-2"), Arc::from("orders")),
    ];
    let credentials = [((identity(ORDERS), Arc::from("orders-1")), 1_usize)];
    let (_, accounts) = watch::channel(Some(accounts.into_iter().collect()));
    let (_, credentials) = watch::channel(Some(credentials.into_iter().collect()));
    Guard {
        trust_domain: "td".parse().unwrap(),
        system_namespace: "weft-system".into(),
        accounts,
        credentials,
    }
}

#[test]
fn a_node_is_served_to_its_own_identity_only() {
    let guard = guard();
    guard
        .may("shop", "orders-1", &peer(ORDERS, MINUTE))
        .unwrap();
    for (namespace, name, peer, code, why) in [
        (
            "shop",
            "orders-1",
            Peer::default(),
            Code::Unauthenticated,
            "show a certificate",
        ),
        (
            "shop",
            "orders-1",
            peer(ORDERS, -MINUTE),
            Code::Unauthenticated,
            "expired",
        ),
        (
            "shop",
            "orders-1",
            peer("spiffe://other/ns/shop/sa/orders", MINUTE),
            Code::Unauthenticated,
            "trust domain td",
        ),
        (
            "till",
            "orders-1",
            peer(ORDERS, MINUTE),
            Code::PermissionDenied,
            "another namespace",
        ),
        (
            "shop",
            "orders-1",
            peer("spiffe://td/ns/shop/sa/reviews", MINUTE),
            Code::PermissionDenied,
            "service account is \"orders\"",
        ),
        (
            "shop",
            "orders-2",
            peer(ORDERS, MINUTE),
            Code::PermissionDenied,
            "no credential",
        ),
        (
            "shop",
            "orders-3",
            peer(ORDERS, MINUTE),
            Code::PermissionDenied,
            "no WorkloadEntry",
        ),
    ] {
        let status = guard.may(namespace, name, &peer).unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(why), "{status}");
    }
}

#[test]
fn before_anything_is_known_a_client_is_asked_to_come_again() {
    let mut guard = guard();
    let (_, credentials) = watch::channel(None);
    guard.credentials = credentials;
    let peer = peer(ORDERS, MINUTE);
    let status = guard.may("shop", "orders-1", &peer).unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let (_, accounts) = watch::channel(None);
    guard.accounts = accounts;
    let status = guard.may("shop", "orders-1", &peer).unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}

#[test]
fn only_services_of_the_control_plane_ask_about_proxies() {
    let guard = guard();
    let ask = |id: &str| guard.asking(peer(id, MINUTE).extensions.get());
    ask("spiffe://td/ns/weft-system/sa/config-api").unwrap();
    ask("spiffe://td/ns/weft-system/sa/xds-pusher").unwrap();
    for id in [
        "spiffe://td/ns/weft-system/sa/other",
        "spiffe://td/ns/shop/sa/config-api",
    ] {
        let status = ask(id).unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    }
    let status = ask("spiffe://other/ns/weft-system/sa/config-api").unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
}

#[tokio::test]
async fn a_workload_has_a_credential_until_its_last_one_is_gone() {
    let vault: Arc<dyn Vault> = Arc::new(MemoryStore::default());
    let health = telemetry::Health::default();
    let (publish, mut seen) = watch::channel(None);
    let check = health.check("credentials", "not read");
    tokio::spawn(follow_credentials(vault.clone(), publish, check));
    let record = CredentialRecord {
        identity: identity(ORDERS),
        workload: "orders-1".into(),
        workload_uid: None,
        created: Timestamp::now(),
    };
    for path in ["a", "b"] {
        let value = record.to_bytes();
        let (path, expect) = (path.into(), Expect::Absent);
        let put = VaultOp::Put {
            path,
            value,
            expect,
        };
        vault.write(Area::Tokens, vec![put], None).await.unwrap();
    }
    let owner = (identity(ORDERS), Arc::from("orders-1"));
    for (left, gone) in [(Some(2), "a"), (Some(1), "b"), (None, "")] {
        let counted = |seen: &Credentials| {
            (seen.as_ref()).is_some_and(|seen| seen.get(&owner).copied() == left)
        };
        seen.wait_for(counted).await.unwrap();
        if let Some(entry) = vault.read(Area::Tokens, gone).await.ok().flatten() {
            let (path, expect) = (gone.into(), entry.revision);
            let delete = VaultOp::Delete { path, expect };
            vault.write(Area::Tokens, vec![delete], None).await.unwrap();
        }
    }
}

#[test]
fn only_what_is_lost_or_changed_has_streams_looked_at() {
    let of = |pairs: &[(u8, char)]| Some(pairs.iter().copied().collect::<OrdMap<u8, char>>());
    let (one, two) = (of(&[(1, 'a')]), of(&[(1, 'a'), (2, 'b')]));
    let other = of(&[(1, 'b'), (2, 'b')]);
    assert!(!lost(&one, &two) && !lost(&two, &two));
    assert!(lost(&two, &one) && lost(&two, &other));
}
