#![allow(clippy::unwrap_used)]
use serde_json::{Value, json};

use super::refresh::goes_back;
use super::*;

fn bundle(sequence: u64) -> Value {
    json!({"keys": [], "spiffe_sequence": sequence})
}

fn spec(domains: &Value) -> MeshConfig {
    serde_json::from_value(json!({"federatedTrustDomains": domains})).unwrap()
}

fn one(domain: &Value) -> Domain {
    let (mut domains, faults) = configured(&spec(&json!([domain])), &"own".parse().unwrap());
    assert!(faults.is_empty(), "{faults:?}");
    domains.remove(0)
}

fn stored(configured: Option<&str>, bundle: Value) -> Entry {
    let stored = FederatedBundle {
        configured: FederatedBundle::digest(configured),
        fetched: jiff::Timestamp::UNIX_EPOCH,
        bundle,
    };
    Entry {
        value: stored.to_bytes().as_slice().into(),
        revision: model::Revision(7),
    }
}

#[test]
fn what_was_fetched_is_in_force_until_another_bundle_is_configured() {
    let sequence = |domain: &Domain, stored: Option<&Entry>| {
        domain.in_force(stored).map(|it| it.sequence().unwrap())
    };
    let (first, second) = (bundle(3).to_string(), bundle(1).to_string());
    let of = |text: &str| one(&json!({"trustDomain": "b", "trustDomainBundle": text}));
    let fetched = stored(Some(&first), bundle(5));
    assert_eq!(sequence(&of(&first), None), Some(3));
    assert_eq!(sequence(&of(&first), Some(&fetched)), Some(5));
    // The operator's word counts, also if its number is less.
    assert_eq!(sequence(&of(&second), Some(&fetched)), Some(1));
    let web = json!({"trustDomain": "b", "bundleEndpointURL": "https://b/", "bundleEndpointProfile": {"type": "https_web"}});
    assert_eq!(sequence(&one(&web), None), None);
    assert_eq!(
        sequence(&one(&web), Some(&stored(None, bundle(4)))),
        Some(4)
    );
    let damaged = Entry {
        value: b"{".as_slice().into(),
        revision: model::Revision(7),
    };
    assert_eq!(sequence(&of(&first), Some(&damaged)), Some(3));
}

#[test]
fn what_the_api_would_refuse_is_left_out_and_named() {
    let own = "own".parse().unwrap();
    let text = bundle(1).to_string();
    let (domains, faults) = configured(
        &spec(&json!([
            {"trustDomain": "own", "trustDomainBundle": text},
            {"trustDomain": "B", "trustDomainBundle": text},
            {"trustDomain": "c", "bundleEndpointURL": "https://c/"},
            {"trustDomain": "d", "trustDomainBundle": "{}"},
            {"trustDomain": "e", "trustDomainBundle": text},
        ])),
        &own,
    );
    assert_eq!(domains.len(), 1);
    assert_eq!(domains[0].name.as_str(), "e");
    for (fault, named) in faults.iter().zip(["own", "\"B\"", "\"c\"", "\"d\""]) {
        assert!(fault.contains(named), "{fault}");
    }
    assert_eq!(faults.len(), 4);
}

#[test]
fn sequence_numbers_do_not_go_back() {
    let parse = |value: Value| TrustBundle::try_from(value).unwrap();
    let (old, new) = (parse(bundle(5)), parse(bundle(6)));
    let silent = parse(json!({"keys": []}));
    assert_eq!(goes_back(Some(&new), &old), Some((6, 5)));
    for (before, after) in [
        (None, &old),
        (Some(&old), &new),
        (Some(&old), &old),
        // Without a number the newest answer counts (Federation 4.2).
        (Some(&old), &silent),
        (Some(&silent), &old),
    ] {
        assert_eq!(goes_back(before, after), None);
    }
}

#[test]
fn how_often_a_bundle_is_fetched_is_its_own_word_within_limits() {
    let after = |hint: Value| {
        pause(&TrustBundle::try_from(json!({"keys": [], "spiffe_refresh_hint": hint})).unwrap())
    };
    assert_eq!(after(Value::Null), USUAL);
    assert_eq!(after(json!(60)), Duration::from_secs(60));
    assert_eq!(after(json!(0)), LEAST);
    assert_eq!(after(json!(u64::MAX)), MOST);
}
