//! The rules of SPIFFE IDs, one row each.

#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn well_formed_ids_keep_their_text() {
    for text in [
        "spiffe://td",
        "spiffe://a.b-c_d.9/x",
        "spiffe://td/ns/shop/sa/orders",
        "spiffe://td/A/b.c/_-",
        &format!("spiffe://{}", "a".repeat(255)),
        &format!("spiffe://td/{}", "a".repeat(2048 - 12)),
    ] {
        let id: SpiffeId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(
            serde_json::from_value::<SpiffeId>(serde_json::json!(text)).unwrap(),
            id
        );
    }
}

#[test]
fn every_rule_has_its_error() {
    use SpiffeIdError as E;
    let id = |text: &str| text.parse::<SpiffeId>().unwrap_err();
    let character = |found| E::TrustDomainCharacter {
        text: format!("t{found}d"),
        found,
    };
    let in_path = |found| E::PathCharacter {
        text: format!("/a{found}"),
        found,
    };
    let long = format!("spiffe://td/{}", "a".repeat(2048 - 11));
    let table = [
        (long.as_str(), E::TooLong(2049)),
        ("https://td/x", E::Scheme("https://td/x".into())),
        ("SPIFFE://td/x", E::Scheme("SPIFFE://td/x".into())),
        ("", E::Scheme(String::new())),
        ("spiffe://", E::NoTrustDomain),
        ("spiffe:///x", E::NoTrustDomain),
        ("spiffe://tDd", character('D')),
        ("spiffe://t:d", character(':')),
        ("spiffe://t@d", character('@')),
        ("spiffe://t%d", character('%')),
        ("spiffe://t?d", character('?')),
        ("spiffe://td/", E::TrailingSlash("/".into())),
        ("spiffe://td/a/", E::TrailingSlash("/a/".into())),
        ("spiffe://td//a", E::EmptySegment("//a".into())),
        ("spiffe://td/./a", E::DotSegment("/./a".into())),
        ("spiffe://td/a/..", E::DotSegment("/a/..".into())),
        ("spiffe://td/a%", in_path('%')),
        ("spiffe://td/a?", in_path('?')),
        ("spiffe://td/a#", in_path('#')),
        ("spiffe://td/aé", in_path('é')),
    ];
    for (text, error) in table {
        assert_eq!(id(text), error, "{text}");
    }
    let long = format!("spiffe://{}/x", "a".repeat(256));
    assert_eq!(id(&long), E::TrustDomainTooLong(256));
}

#[test]
fn a_workloads_identity_has_one_form() {
    let domain: TrustDomain = "td".parse().unwrap();
    let identity = Identity::new(&domain, "shop", "orders").unwrap();
    assert_eq!(identity.to_string(), "spiffe://td/ns/shop/sa/orders");
    assert_eq!(identity, identity.to_string().parse().unwrap());
    assert_eq!(
        (identity.namespace(), identity.service_account()),
        ("shop", "orders")
    );
    for text in [
        "spiffe://td",
        "spiffe://td/ns/shop",
        "spiffe://td/ns/shop/sa/orders/x",
        "spiffe://td/sa/orders/ns/shop",
    ] {
        let error = text.parse::<Identity>().unwrap_err();
        assert_eq!(error, SpiffeIdError::NoWorkload(text.into()));
    }
    // No part can smuggle another.
    assert!(Identity::new(&domain, "shop/sa/admin", "x").is_err());
    assert!(Identity::new(&domain, "..", "x").is_err());
    assert!(Identity::new(&domain, "shop", "").is_err());
}
