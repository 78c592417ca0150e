//! Opaque values.
//!
//! *Invariant:* see [`super`].

use futures::stream::BoxStream;

use super::*;
use crate::{Area, Deed, Entries, Error, Limits, VaultError, VaultOp};

fn put(path: &str, value: &str, expect: Expect) -> VaultOp {
    VaultOp::Put {
        path: path.into(),
        value: value.into(),
        expect,
    }
}

async fn next_set(sets: &mut BoxStream<'static, Entries>) -> Vec<(String, String)> {
    let set = tokio::time::timeout(PATIENCE, sets.next())
        .await
        .expect("a set in time")
        .unwrap();
    set.iter()
        .map(|(path, entry)| {
            let value = String::from_utf8(entry.value.to_vec()).unwrap();
            (path.to_string(), value)
        })
        .collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
    pairs.iter().map(owned).collect()
}

/// What is no resource is on record like the rest, in the transaction that wrote it, and without its value.
pub async fn a_recorded_write_says_who_did_it(rig: &dyn Rig) {
    let (store, vault) = (rig.store(), rig.vault());
    let author = |verb: &str| Author {
        who: "ann".into(),
        verb: verb.into(),
        ..Author::default()
    };
    let deed = |before, after| Deed {
        kind: "Credential".into(),
        namespace: "shop".into(),
        name: "orders".into(),
        before,
        after,
    };
    let create = || vec![put("abc", "hidden", Expect::Absent)];
    let write =
        |ops, verb, deed| vault.write_recorded(Area::Tokens, ops, None, author(verb), vec![deed]);
    let made = write(create(), "make", deed(None, true)).await.unwrap();
    let again = write(create(), "again", deed(None, true)).await;
    assert!(
        matches!(&again, Err(VaultError::Conflict { path, actual }) if path == "abc" && *actual == Some(made)),
        "{again:?}"
    );
    let delete = vec![VaultOp::Delete {
        path: "abc".into(),
        expect: made,
    }];
    let revoked = write(delete, "revoke", deed(Some(made), false));
    let revoked = revoked.await.unwrap();
    let records = store.history(None, None, 0).await.unwrap();
    let said: Vec<_> = records
        .iter()
        .map(|record| (record.revision, record.author.clone(), record.deeds.clone()))
        .collect();
    let expected = [
        (revoked, author("revoke"), vec![deed(Some(made), false)]),
        (made, author("make"), vec![deed(None, true)]),
    ];
    assert_eq!(said, expected);
    assert!(records.iter().all(|record| record.edits.is_empty()));
    assert!(!format!("{records:?}").contains("hidden"));
}

pub async fn a_value_is_written_once_replaced_and_deleted(rig: &dyn Rig) {
    let vault = rig.vault();
    assert_eq!(vault.read(Area::Ca, "state").await.unwrap(), None);
    let create = || vec![put("state", "one", Expect::Absent)];
    let first = vault.write(Area::Ca, create(), None).await.unwrap();
    let read = vault.read(Area::Ca, "state").await.unwrap().unwrap();
    assert_eq!((&*read.value, read.revision), (&b"one"[..], first));
    assert_eq!(rig.get_raw("ca/state").await.unwrap(), b"one");
    let all = vault.read_all(Area::Ca).await.unwrap();
    assert_eq!(all.get("state"), Some(&read));
    assert_eq!(
        (all.len(), vault.read_all(Area::Tokens).await.unwrap().len()),
        (1, 0)
    );
    let conflict = vault.write(Area::Ca, create(), None).await.unwrap_err();
    assert!(
        matches!(&conflict, VaultError::Conflict { path, actual } if path == "state" && *actual == Some(first)),
        "{conflict}"
    );
    let replace = vec![put("state", "two", Expect::At(first))];
    let second = vault.write(Area::Ca, replace.clone(), None).await.unwrap();
    assert!(vault.write(Area::Ca, replace, None).await.is_err(), "stale");
    let delete = |at| {
        vec![VaultOp::Delete {
            path: "state".into(),
            expect: at,
        }]
    };
    assert!(vault.write(Area::Ca, delete(first), None).await.is_err());
    vault.write(Area::Ca, delete(second), None).await.unwrap();
    let gone = vault
        .write(Area::Ca, delete(second), None)
        .await
        .unwrap_err();
    assert!(
        matches!(gone, VaultError::Conflict { actual: None, .. }),
        "{gone}"
    );
    assert_eq!(rig.get_raw("ca/state").await, None);
}

pub async fn values_are_written_all_or_none(rig: &dyn Rig) {
    let vault = rig.vault();
    let taken = vec![put("b/c", "0", Expect::Absent)];
    vault.write(Area::Tokens, taken, None).await.unwrap();
    let both = vec![
        put("a", "1", Expect::Absent),
        put("b/c", "1", Expect::Absent),
    ];
    let error = vault.write(Area::Tokens, both, None).await.unwrap_err();
    assert!(
        matches!(&error, VaultError::Conflict { path, .. } if path == "b/c"),
        "{error}"
    );
    assert_eq!(vault.read(Area::Tokens, "a").await.unwrap(), None);
    for path in ["", "/a", "a/", "a//b"] {
        let error = vault.write(Area::Tokens, vec![put(path, "", Expect::Absent)], None);
        assert!(
            matches!(error.await, Err(VaultError::Path { .. })),
            "{path:?}"
        );
    }
    let long = "x".repeat(Limits::default().bytes);
    let error = vault.write(Area::Tokens, vec![put("a", &long, Expect::Absent)], None);
    let error = error.await.unwrap_err();
    assert!(
        matches!(error, VaultError::Store(Error::TooLarge { .. })),
        "{error}"
    );
}

pub async fn areas_are_apart(rig: &dyn Rig) {
    let (vault, store) = (rig.vault(), rig.store());
    let (_watch, before) = watch_all(&store).await;
    assert_eq!(names(&before), [""; 0]);
    for (area, value) in [(Area::Ca, "ca"), (Area::Tokens, "token")] {
        let one = vec![put("x", value, Expect::Absent)];
        vault.write(area, one, None).await.unwrap();
    }
    let read = vault.read(Area::Tokens, "x").await.unwrap().unwrap();
    assert_eq!(&*read.value, b"token");
    let mut sets = vault.follow(Area::Ca).await.unwrap();
    assert_eq!(next_set(&mut sets).await, pairs(&[("x", "ca")]));
    let page = store.list(Scope::default(), 0, None, None).await.unwrap();
    assert!(page.objects.is_empty() && page.undecodable.is_empty());
}

pub async fn a_follower_sees_every_later_set(rig: &dyn Rig) {
    let (vault, other) = (rig.vault(), rig.other_vault());
    let mut sets = vault.follow(Area::Tokens).await.unwrap();
    assert_eq!(next_set(&mut sets).await, []);
    let one = vec![put("a/b", "1", Expect::Absent)];
    let at = other.write(Area::Tokens, one, None).await.unwrap();
    assert_eq!(next_set(&mut sets).await, pairs(&[("a/b", "1")]));
    let two = vec![
        put("a/b", "2", Expect::At(at)),
        put("c", "3", Expect::Absent),
    ];
    let at = other.write(Area::Tokens, two, None).await.unwrap();
    let both = pairs(&[("a/b", "2"), ("c", "3")]);
    assert_eq!(next_set(&mut sets).await, both, "one write, one set");
    let delete = VaultOp::Delete {
        path: "c".into(),
        expect: at,
    };
    other.write(Area::Tokens, vec![delete], None).await.unwrap();
    assert_eq!(next_set(&mut sets).await, pairs(&[("a/b", "2")]));
}

pub async fn a_follower_catches_up_after_a_cut(rig: &dyn Rig) {
    let (vault, other) = (rig.vault(), rig.other_vault());
    let (mut watch, _) = watch_all(&rig.store()).await;
    let mut sets = vault.follow(Area::Tokens).await.unwrap();
    assert_eq!(next_set(&mut sets).await, []);
    rig.cut();
    // A watch of resources shows that the cut has been noticed.
    disconnected(&mut watch).await;
    let write = other.write(Area::Tokens, vec![put("a", "1", Expect::Absent)], None);
    let at = write.await.unwrap();
    rig.compact(at).await;
    rig.restore();
    assert_eq!(next_set(&mut sets).await, pairs(&[("a", "1")]));
}
