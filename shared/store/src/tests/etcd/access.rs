//! How etcd is reached: several servers, users, limits that differ, and what an operator sees.
//!
//! *Invariant:* see [`super`].

use std::process::Command;

use etcd_client::PermissionType;
use futures::StreamExt;
use model::Kind;
use serde_json::json;

use super::*;
use crate::etcd::{Credentials, Limits};
use crate::testing::PATIENCE;
use crate::testing::contract::object;
use crate::{Author, Error, Expect, Op};

pub(super) async fn create(store: &EtcdStore, name: &str) -> crate::Result<Revision> {
    let object = object(
        Kind::VirtualService,
        "default",
        name,
        json!({ "hosts": [name] }),
    );
    store
        .commit(
            vec![Op::Put {
                object,
                expect: Expect::Absent,
            }],
            Author::default(),
        )
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_several_servers_is_enough() {
    let etcd = Etcd::start().await;
    let dead = "http://127.0.0.1:1".to_owned();
    let store = EtcdStore::new(EtcdConfig::new([dead.clone(), etcd.endpoint(), dead]));
    for n in 0..20 {
        create(&store, &format!("r{n}")).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_has_a_root_of_its_own() {
    let etcd = Etcd::start().await;
    let other = EtcdStore::new(EtcdConfig {
        root: "/other/mesh/".into(),
        ..etcd.config()
    });
    create(&other, "a").await.unwrap();
    create(&etcd.store(), "a").await.unwrap();
    let output = Command::new(Etcd::program().with_file_name("etcdctl"))
        .env("ETCDCTL_API", "3")
        .args([
            "--endpoints",
            &etcd.endpoint(),
            "get",
            "--prefix",
            "/other/mesh/config/",
        ])
        .output()
        .unwrap();
    let expected = "/other/mesh/config/networking.istio.io/VirtualService/default/a\n\
        {\"apiVersion\":\"networking.istio.io/v1\",\"kind\":\"VirtualService\",\
        \"metadata\":{\"name\":\"a\",\"namespace\":\"default\"},\"spec\":{\"hosts\":[\"a\"]}}\n";
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_configuration_and_etcd_has_the_last_word() {
    let etcd = Etcd::start_with(&["--max-txn-ops", "200"]).await;
    let batch = |n: usize| -> Vec<Op> {
        let object = |i| object(Kind::VirtualService, "default", &format!("r{i}"), json!({}));
        (0..n)
            .map(|i| Op::Put {
                object: object(i),
                expect: Expect::Absent,
            })
            .collect()
    };
    let with = |operations| {
        let limits = Limits {
            operations,
            ..Limits::default()
        };
        EtcdStore::new(EtcdConfig {
            limits,
            ..etcd.config()
        })
    };
    let refused = with(200).commit(batch(200), Author::default()).await;
    assert!(
        matches!(
            refused,
            Err(Error::TooLarge {
                actual: 200,
                limit: 199,
                ..
            })
        ),
        "{refused:?}"
    );
    let refused = with(1000).commit(batch(200), Author::default()).await;
    assert!(
        matches!(&refused, Err(Error::Refused(why)) if why.contains("too many operations")),
        "{refused:?}"
    );
    with(200)
        .commit(batch(199), Author::default())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_are_known_by_their_passwords() {
    let mut etcd = Etcd::start().await;
    let mut root = Client::connect([etcd.endpoint()], None).await.unwrap();
    root.user_add("root", "secret", None).await.unwrap();
    root.user_grant_role("root", "root").await.unwrap();
    root.role_add("weft").await.unwrap();
    let all = etcd_client::Permission::new(PermissionType::Readwrite, "/weft/v1/").with_prefix();
    root.role_grant_permission("weft", all).await.unwrap();
    root.user_add("weft", "hush", None).await.unwrap();
    root.user_grant_role("weft", "weft").await.unwrap();
    root.auth_enable().await.unwrap();

    let as_user = |user: &str, password: &str| {
        let credentials = Credentials {
            user: user.into(),
            password: password.into(),
        };
        EtcdStore::new(EtcdConfig {
            credentials: Some(credentials),
            ..etcd.config()
        })
    };
    let (store, wrong, nobody) = (
        as_user("weft", "hush"),
        as_user("weft", "guess"),
        etcd.store(),
    );
    create(&store, "a").await.unwrap();
    let refused = create(&nobody, "b").await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    let refused = create(&wrong, "b").await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    let mut seen = store
        .watch(crate::Scope::default(), None, true)
        .await
        .unwrap();
    let first = tokio::time::timeout(PATIENCE, seen.next()).await.unwrap();
    assert!(
        matches!(first, Some(crate::Event::Snapshot(_))),
        "{first:?}"
    );
    // A restart forgets the token, which is replaced.
    etcd.kill();
    etcd.restart().await;
    let last = create(&store, "c").await.unwrap();
    let told = async {
        while let Some(event) = seen.next().await {
            if matches!(event, crate::Event::Changes { revision, .. } if revision == last) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.unwrap();
}
