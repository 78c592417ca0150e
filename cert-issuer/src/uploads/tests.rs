//! What is served of what was uploaded.

#![allow(clippy::unwrap_used)]

use model::{Metadata, Revision};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use store::Snapshot;

use super::*;

struct Pair {
    certificate: String,
    key: String,
}

fn pair() -> Pair {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["web.example".to_owned()]).unwrap();
    Pair {
        certificate: params.self_signed(&key).unwrap().pem(),
        key: key.serialize_pem(),
    }
}

fn object(name: &str, spec: Value) -> Arc<Object> {
    let (namespace, name) = name.split_once('/').unwrap();
    Arc::new(Object {
        kind: Kind::TlsSecret,
        metadata: Metadata {
            name: name.into(),
            namespace: namespace.into(),
            ..Metadata::default()
        },
        spec,
    })
}

/// A secret as the API stores it.
fn stored(name: &str, pair: &Pair, key: &OpeningKey) -> Arc<Object> {
    let hash = PrivateKeyPem::from(pair.key.clone())
        .public_key_sha256()
        .unwrap();
    let of = object(name, Value::Null).key();
    let sealed = key.sealing_key().seal(&of, &hash, &pair.key);
    object(
        name,
        json!({"certificate": pair.certificate, "sealedPrivateKey": sealed}),
    )
}

/// The resources of a namespace by name, as text.
fn served(secrets: &Secrets, namespace: &str) -> BTreeMap<String, String> {
    let uploads = secrets.uploads();
    let of = uploads.get(namespace).into_iter().flat_map(|of| of.iter());
    of.map(|it| (it.name().to_string(), it.to_json().to_string()))
        .collect()
}

fn put(object: &Arc<Object>) -> Event {
    Event::Changes {
        revision: Revision(1),
        changes: vec![Change::Put {
            object: object.clone(),
            before: None,
        }],
        authors: vec![],
        written: None,
    }
}

#[test]
fn lists_of_what_was_revoked_go_with_the_authorities() {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let by = rcgen::CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let list = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2020, 1, 1),
        next_update: rcgen::date_time_ymd(2090, 1, 1),
        crl_number: 1_u64.into(),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&by).unwrap().pem().unwrap();
    let mut secrets = Secrets::default();
    let spec = json!({"caCertificates": by.pem(), "caCrl": list});
    secrets.put(object("shop/web", spec), &[]);
    let served = &served(&secrets, "shop")["shop/web-cacert"];
    let served: Value = serde_json::from_str(served).unwrap();
    let context = ["validation_context", "validationContext"].map(|key| &served[key]);
    let context = context.into_iter().find(|it| it.is_object()).unwrap();
    assert!(context["crl"].to_string().contains("X509 CRL"), "{served}");
}

#[test]
fn authorities_of_that_very_name_prevail() {
    let authority = |pem: &str| json!({"caCertificates": pem});
    let (one, other) = (pair().certificate, pair().certificate);
    let mut secrets = Secrets::default();
    secrets.put(object("shop/web", authority(&one)), &[]);
    assert_eq!(
        served(&secrets, "shop").keys().collect::<Vec<_>>(),
        ["shop/web-cacert"]
    );
    secrets.put(object("shop/web-cacert", authority(&other)), &[]);
    let shown = served(&secrets, "shop");
    let line = |pem: &str| pem.lines().nth(1).unwrap().to_owned();
    assert!(
        shown["shop/web-cacert"].contains(&line(&other)),
        "{shown:?}"
    );
    assert!(!shown["shop/web-cacert"].contains(&line(&one)), "{shown:?}");
    assert!(served(&secrets, "bank").is_empty());
}

#[test]
fn what_cannot_be_opened_replaces_nothing() {
    let (old, new) = (OpeningKey::generate("old"), OpeningKey::generate("new"));
    let (first, second) = (pair(), pair());
    let mut secrets = Secrets::default();
    let keys = [old.clone()];
    assert!(secrets.apply(put(&stored("shop/web", &first, &old)), &keys));
    let good = served(&secrets, "shop");
    assert!(good.contains_key("shop/web") && secrets.faults().is_none());

    let moved = {
        let of = stored("shop/other", &second, &old);
        object("shop/web", of.spec.clone())
    };
    let mixed = {
        // Sealed by who knows the public key, with another key inside than it says.
        let hash = PrivateKeyPem::from(second.key.clone())
            .public_key_sha256()
            .unwrap();
        let sealed = old.sealing_key().seal(&moved.key(), &hash, &first.key);
        let spec = json!({"certificate": second.certificate, "sealedPrivateKey": sealed});
        object("shop/web", spec)
    };
    let later = stored("shop/web", &second, &new);
    for (wrong, why) in [
        (moved, "does not open"),
        (mixed, "holds another key"),
        (later, "\"new\""),
    ] {
        secrets.apply(put(&wrong), &keys);
        let (count, fault) = secrets.faults().unwrap();
        assert!(count == 1 && fault.contains(why), "{fault}");
        assert_eq!(served(&secrets, "shop"), good);
    }
    // The key arrives.
    secrets.retry(&[new, old]);
    assert!(secrets.faults().is_none());
    assert_ne!(served(&secrets, "shop"), good);
}

#[test]
fn what_is_gone_is_served_no_longer_and_what_is_damaged_is() {
    let key = OpeningKey::generate("key");
    let keys = std::slice::from_ref(&key);
    let mut secrets = Secrets::default();
    for name in ["shop/a", "shop/b", "shop/c", "shop/d"] {
        secrets.put(stored(name, &pair(), &key), keys);
    }
    let gone = Change::Delete {
        key: object("shop/a", Value::Null).key(),
        before: None,
    };
    let damaged = object("shop/c", Value::Null).key();
    let undecodable = store::Undecodable {
        etcd_key: "c".into(),
        key: Some(damaged),
        revision: Revision(2),
        error: "it".into(),
    };
    let changes = vec![gone, Change::Undecodable(undecodable.clone())];
    secrets.apply(
        Event::Changes {
            revision: Revision(2),
            changes,
            authors: vec![],
            written: None,
        },
        keys,
    );
    let names = |secrets: &Secrets| served(secrets, "shop").into_keys().collect::<Vec<_>>();
    assert_eq!(names(&secrets), ["shop/b", "shop/c", "shop/d"]);
    let there = stored("shop/d", &pair(), &key);
    let snapshot = Snapshot {
        revision: Revision(3),
        objects: vec![there],
        undecodable: vec![undecodable],
        ..Snapshot::default()
    };
    assert!(secrets.apply(Event::Snapshot(snapshot), keys));
    assert_eq!(names(&secrets), ["shop/c", "shop/d"]);
}
