//! What is stored, and when: after the acknowledgement, when it turned, and not for workloads that are gone.

#![allow(clippy::unwrap_used)]

use store::memory::MemoryStore;
use xds::pb::google::protobuf::{Struct, Value};

use super::*;

struct Fixture {
    vault: Arc<dyn Vault>,
    tell: Tell,
    accounts: watch::Sender<Accounts>,
    sets: BoxStream<'static, Entries>,
}

impl Fixture {
    async fn new() -> Self {
        let vault: Arc<dyn Vault> = Arc::new(MemoryStore::default());
        let (tell, told) = mpsc::unbounded_channel();
        let (accounts, seen) = watch::channel(None);
        let keeper = Keeper {
            vault: vault.clone(),
            accounts: seen,
            told,
        };
        tokio::spawn(keeper.keep());
        let mut sets = follow(vault.clone()).await;
        assert!(sets.next().await.unwrap().is_empty());
        Self {
            vault,
            tell,
            accounts,
            sets,
        }
    }

    fn published(&self, revision: i64, mode: Mode) {
        let told = Told::Published {
            node: NODE.into(),
            revision,
            modes: BTreeMap::from([(80, mode)]),
            cause: Carried::default(),
        };
        self.tell.send(told).unwrap_or_else(|_| unreachable!());
    }

    fn tell(&self, told: Told) {
        self.tell.send(told).unwrap_or_else(|_| unreachable!());
    }

    fn acknowledged(&self, revision: i64) {
        self.acknowledged_by(1, revision);
    }

    fn node(id: &str) -> Arc<Node> {
        let seconds = Value {
            kind: Some(Kind::NumberValue(7.0)),
        };
        let node = Node {
            id: id.into(),
            metadata: Some(Struct {
                fields: [(DRAIN_TIME.to_owned(), seconds)].into(),
            }),
            ..Node::default()
        };
        node.into()
    }

    fn acknowledged_by(&self, stream: u64, revision: i64) {
        self.tell(Told::Acknowledged {
            node: Self::node(NODE),
            stream,
            revision,
        });
    }

    /// The mode in the next set, and what the compiler makes of the change.
    async fn next(&mut self, before: &Entries) -> (Entries, Option<Acknowledged>) {
        let next = tokio::time::timeout(Duration::from_secs(60), self.sets.next());
        let set = next.await.expect("nothing was stored").unwrap();
        assert_eq!(changes(before, &set).len(), 1);
        let entry = set.get("shop/orders-1");
        let stored = entry.map(|entry| Acknowledged::from_bytes(&entry.value).unwrap());
        (set, stored)
    }
}

impl Fixture {
    /// What is stored once everything told so far was looked at: another workload's turn is told after it.
    async fn after(&mut self, before: &Entries, turn: i64) -> (Entries, Option<Acknowledged>) {
        let other = "sidecar~shop~orders-2";
        let mode = [Mode::Permissive, Mode::Disable][usize::from(turn % 2 == 0)];
        self.tell(Told::Published {
            node: other.into(),
            revision: turn,
            modes: BTreeMap::from([(80, mode)]),
            cause: Carried::default(),
        });
        self.tell(Told::Acknowledged {
            node: Self::node(other),
            stream: 9,
            revision: turn,
        });
        let mut set = before.clone();
        while set.get("shop/orders-2") == before.get("shop/orders-2") {
            let next = tokio::time::timeout(Duration::from_secs(60), self.sets.next());
            set = next.await.expect("nothing was stored").unwrap();
        }
        let entry = set.get("shop/orders-1");
        let stored = entry.map(|entry| Acknowledged::from_bytes(&entry.value).unwrap());
        (set, stored)
    }
}

const NODE: &str = "sidecar~shop~orders-1";

#[tokio::test]
async fn a_mode_is_stored_when_its_revision_is_acknowledged() {
    let mut at = Fixture::new().await;
    at.published(5, Mode::Permissive);
    at.published(8, Mode::Strict);
    at.acknowledged(4);
    at.acknowledged(6);
    let (first, stored) = at.next(&Entries::default()).await;
    let stored = stored.unwrap();
    assert_eq!(stored.ports[&80].mode, Mode::Permissive);
    assert_eq!(stored.drain_seconds, 7);
    at.acknowledged(6);
    at.acknowledged(9);
    let (second, stored) = at.next(&first).await;
    assert_eq!(stored.unwrap().ports[&80].mode, Mode::Strict);
    // What did not turn is not stored again: the next set is of the next turn.
    at.published(10, Mode::Strict);
    at.acknowledged(10);
    // What is to leave STRICT has left it as soon as it is told to.
    at.published(11, Mode::Disable);
    let (second, stored) = at.next(&second).await;
    assert_eq!(stored.unwrap().ports[&80].mode, Mode::Permissive);
    at.acknowledged(11);
    let (third, stored) = at.next(&second).await;
    assert_eq!(stored.unwrap().ports[&80].mode, Mode::Disable);
    let change = compile::Change::Mtls {
        namespace: "shop".into(),
        name: "orders-1".into(),
        ports: Default::default(),
    };
    assert_eq!(changes(&second, &third), [change]);
}

/// Two Envoys that say they are one node, or one that has come back while its old stream lingers.
#[tokio::test]
async fn a_mode_has_turned_when_every_stream_of_the_node_has_it() {
    let mut at = Fixture::new().await;
    let opened = |stream| Told::Opened {
        node: Fixture::node(NODE),
        stream,
    };
    let closed = |stream| Told::Closed {
        node: NODE.into(),
        stream,
    };
    at.tell(opened(1));
    at.tell(opened(2));
    at.published(5, Mode::Permissive);
    at.acknowledged_by(1, 5);
    at.acknowledged_by(2, 5);
    let (first, stored) = at.next(&Entries::default()).await;
    assert_eq!(stored.unwrap().ports[&80].mode, Mode::Permissive);

    // Two are strict, and a third that has come has not said anything.
    at.published(8, Mode::Strict);
    at.acknowledged_by(1, 8);
    at.tell(opened(3));
    at.acknowledged_by(2, 8);
    let (first, stored) = at.after(&first, 1).await;
    assert_eq!(stored.unwrap().ports[&80].mode, Mode::Permissive);
    at.acknowledged_by(3, 8);
    let (second, stored) = at.next(&first).await;
    assert_eq!(stored.unwrap().ports[&80].mode, Mode::Strict);

    // One that goes before it answers is not waited for.
    at.published(9, Mode::Disable);
    let (second, stored) = at.next(&second).await;
    assert_eq!(stored.unwrap().ports[&80].mode, Mode::Permissive);
    at.acknowledged_by(1, 9);
    at.acknowledged_by(2, 9);
    let (second, stored) = at.after(&second, 2).await;
    assert_eq!(stored.unwrap().ports[&80].mode, Mode::Permissive);
    at.tell(closed(3));
    let (_, stored) = at.next(&second).await;
    assert_eq!(stored.unwrap().ports[&80].mode, Mode::Disable);
}

/// A gateway's modes are none; they are not the sidecar's of the same workload.
#[tokio::test]
async fn a_gateway_of_the_same_workload_says_nothing_of_its_sidecar() {
    let mut at = Fixture::new().await;
    at.published(5, Mode::Strict);
    at.acknowledged(5);
    let (first, stored) = at.next(&Entries::default()).await;
    assert_eq!(stored.unwrap().ports[&80].mode, Mode::Strict);
    let gateway = "gateway~shop~orders-1";
    at.tell(Told::Published {
        node: gateway.into(),
        revision: 6,
        modes: BTreeMap::new(),
        cause: Carried::default(),
    });
    at.tell(Told::Acknowledged {
        node: Fixture::node(gateway),
        stream: 2,
        revision: 6,
    });
    at.published(7, Mode::Permissive);
    at.acknowledged(7);
    let (_, stored) = at.next(&first).await;
    let ports = stored.unwrap().ports;
    assert_eq!(
        ports[&80].mode,
        Mode::Permissive,
        "the next turn is the sidecar's"
    );
}

#[tokio::test]
async fn what_another_replica_stored_meanwhile_is_not_lost() {
    let mut at = Fixture::new().await;
    let other = Acknowledged::default().turned(
        &BTreeMap::from([(80, Mode::Strict)]),
        Duration::from_secs(7),
        Timestamp::UNIX_EPOCH,
    );
    // The keeper may or may not have seen it when it stores its own.
    let put = VaultOp::Put {
        path: "shop/orders-1".into(),
        value: other.to_bytes(),
        expect: Expect::Absent,
    };
    at.vault.write(Area::Mtls, vec![put], None).await.unwrap();
    at.published(1, Mode::Strict);
    at.acknowledged(1);
    at.published(2, Mode::Permissive);
    at.acknowledged(2);
    let (first, stored) = at.next(&Entries::default()).await;
    assert_eq!(stored.unwrap(), other);
    let (_, stored) = at.next(&first).await;
    assert_eq!(stored.unwrap().ports[&80].mode, Mode::Permissive);
}

#[tokio::test]
async fn a_workload_that_is_gone_is_forgotten() {
    let mut at = Fixture::new().await;
    at.published(1, Mode::Strict);
    at.acknowledged(1);
    let (first, _) = at.next(&Entries::default()).await;
    let workload: Workload = ("shop".into(), "orders-1".into());
    let declared = [(workload, Arc::<str>::from("orders"))];
    let declared = declared.into_iter().collect();
    at.accounts.send_replace(Some(declared));
    at.accounts.send_replace(Some(imbl::OrdMap::new()));
    let (_, stored) = at.next(&first).await;
    assert_eq!(stored, None);
}

/// Thousands of proxies that acknowledge at once are thousands of values and few transactions.
#[tokio::test]
async fn what_many_proxies_acknowledge_is_stored_together() {
    const MANY: usize = 2_500;
    let vault: Arc<dyn Vault> = Arc::new(MemoryStore::default());
    let (tell, told) = mpsc::unbounded_channel();
    for at in 0..MANY {
        let id = format!("sidecar~shop~w{at}");
        let modes = BTreeMap::from([(80, Mode::Strict)]);
        let published = Told::Published {
            node: id.as_str().into(),
            revision: 1,
            modes,
            cause: Carried::default(),
        };
        let node = Node {
            id,
            ..Node::default()
        };
        let acknowledged = Told::Acknowledged {
            node: node.into(),
            stream: 1,
            revision: 1,
        };
        for told in [published, acknowledged] {
            tell.send(told).unwrap_or_else(|_| unreachable!());
        }
    }
    // One that another replica stored meanwhile delays its neighbours, and nothing is lost.
    let other = Acknowledged::default().turned(
        &BTreeMap::from([(80, Mode::Permissive)]),
        Duration::from_secs(7),
        Timestamp::UNIX_EPOCH,
    );
    let put = VaultOp::Put {
        path: "shop/w7".into(),
        value: other.to_bytes(),
        expect: Expect::Absent,
    };
    vault.write(Area::Mtls, vec![put], None).await.unwrap();
    let (_accounts, accounts) = watch::channel(None);
    let keeper = Keeper {
        vault: vault.clone(),
        accounts,
        told,
    };
    tokio::spawn(keeper.keep());
    let mut sets = follow(vault.clone()).await;
    let all_strict = async {
        loop {
            let set = sets.next().await.unwrap();
            let strict = |entry: &Entry| {
                Acknowledged::from_bytes(&entry.value).unwrap().ports[&80].mode == Mode::Strict
            };
            if set.len() == MANY && set.values().all(strict) {
                return set;
            }
        }
    };
    let set = tokio::time::timeout(Duration::from_secs(60), all_strict).await;
    let set = set.expect("all are stored");
    let revisions: std::collections::BTreeSet<_> = set.values().map(|it| it.revision).collect();
    assert!(revisions.len() <= MANY / AT_ONCE + 1, "{}", revisions.len());
}
