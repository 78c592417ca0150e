//! Which credentials lose their workload, and which only seem to.
#![allow(clippy::unwrap_used)]

use model::Metadata;
use serde_json::{Value, json};
use store::{Change, Event, Snapshot, Undecodable};

use super::*;

const PATH: &str = "00ff";

/// A workload `shop/web`.
fn workload(uid: &str, spec: Value) -> Arc<Object> {
    let metadata = Metadata {
        name: "web".into(),
        namespace: "shop".into(),
        uid: uid.into(),
        ..Metadata::default()
    };
    Arc::new(Object {
        kind: Kind::WorkloadEntry,
        metadata,
        spec,
    })
}

fn key() -> Key {
    Key::new(Kind::WorkloadEntry, "shop", "web")
}

/// A view of what is stored at a revision.
fn view(revision: i64, objects: &[Arc<Object>]) -> View {
    let mut view = View::new("svc.cluster.local", "istio-system", true);
    view.apply(Event::Snapshot(Snapshot {
        revision: Revision(revision),
        objects: objects.to_vec(),
        ..Snapshot::default()
    }));
    view
}

/// The credentials: one of the workload `web`, written at a revision.
fn entries(revision: i64, uid: Option<&str>) -> Entries {
    let record = CredentialRecord {
        identity: "spiffe://td/ns/shop/sa/default".parse().unwrap(),
        workload: "web".into(),
        workload_uid: uid.map(Into::into),
        created: jiff::Timestamp::UNIX_EPOCH,
    };
    let entry = Entry {
        value: record.to_bytes().into(),
        revision: Revision(revision),
    };
    Entries::unit(PATH.into(), entry)
}

/// Why the credential is revoked.
fn why(judge: &mut Judge, view: &View) -> Option<&'static str> {
    judge.workloads(view);
    let orphans = judge.orphans(view);
    for orphan in &orphans {
        assert_eq!((&*orphan.path, &orphan.workload), (PATH, &key()));
    }
    assert!(orphans.len() < 2);
    orphans.first().map(|orphan| orphan.why)
}

fn judge(entries: &Entries) -> Judge {
    let mut judge = Judge::default();
    judge.credentials(entries);
    judge
}

#[test]
fn a_credential_lasts_as_long_as_its_workload_is_the_same() {
    let address = || json!({"address": "10.0.0.1"});
    let deleted = Some("its workload was deleted");
    let anew = Some("its workload was deleted and created anew");
    let account = Some("its workload has another account now");
    let other = json!({"address": "10.0.0.1", "serviceAccount": "other"});
    let same = json!({"address": "10.0.0.2", "serviceAccount": "default"});
    for (now, expected) in [
        (vec![workload("1", address())], None),
        (vec![workload("1", same)], None),
        (vec![], deleted),
        (vec![workload("2", address())], anew),
        (vec![workload("1", other)], account),
    ] {
        // Told of it at once, and told of it after it was well.
        let later = view(8, &now);
        assert_eq!(why(&mut judge(&entries(7, Some("1"))), &later), expected);
        let mut judge = judge(&entries(7, Some("1")));
        let before = view(7, &[workload("1", address())]);
        assert_eq!(why(&mut judge, &before), None);
        assert_eq!(why(&mut judge, &later), expected);
        // Until it is gone.
        assert_eq!(why(&mut judge, &later), expected);
        judge.credentials(&Entries::new());
        assert_eq!(why(&mut judge, &later), None);
    }
}

#[test]
fn what_is_not_known_revokes_nothing() {
    // The credential is newer than what is known of workloads.
    let mut behind = judge(&entries(7, Some("1")));
    assert_eq!(why(&mut behind, &view(6, &[])), None);
    assert!(why(&mut behind, &view(7, &[])).is_some());

    // The store cannot be followed.
    let mut cut = view(8, &[]);
    let reason = "away".to_owned();
    cut.apply(Event::Disconnected { reason });
    let mut waiting = judge(&entries(7, Some("1")));
    assert_eq!(why(&mut waiting, &cut), None);
    let revision = Revision(8);
    cut.apply(Event::Progress { revision });
    assert!(why(&mut waiting, &cut).is_some());

    // The workload cannot be read.
    let mut damaged = view(8, &[]);
    damaged.apply(Event::Changes {
        revision: Revision(9),
        changes: vec![Change::Undecodable(Undecodable {
            etcd_key: "k".into(),
            key: Some(key()),
            revision: Revision(9),
            error: "damaged".into(),
        })],
        authors: Vec::new(),
        written: None,
    });
    let mut kept = judge(&entries(7, Some("1")));
    assert_eq!(why(&mut kept, &damaged), None);

    // Neither a service of the control plane nor a damaged record has a workload.
    assert_eq!(why(&mut judge(&entries(7, None)), &view(8, &[])), None);
    let value: Arc<[u8]> = b"{}".as_slice().into();
    let revision = Revision(7);
    let entry = Entry { value, revision };
    let unread = Entries::unit(PATH.into(), entry);
    assert_eq!(why(&mut judge(&unread), &view(8, &[])), None);
}
