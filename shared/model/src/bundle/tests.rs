#![allow(clippy::unwrap_used)]

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::json;

use super::*;

fn certificate(ca: bool) -> String {
    let mut params = CertificateParams::default();
    if ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let key = KeyPair::generate().unwrap();
    STANDARD.encode(params.self_signed(&key).unwrap().der())
}

#[test]
fn what_a_bundle_holds_is_read_and_what_is_unknown_is_ignored() {
    let bundle = TrustBundle::try_from(json!({
        "keys": [
            {"use": "x509-svid", "kty": "EC", "x5c": [certificate(true)]},
            {"use": "jwt-svid", "kty": "EC", "kid": "a"},
            {"use": "tea", "kty": "leaves"},
        ],
        "spiffe_sequence": 7, "spiffe_refresh_hint": 60, "more": true,
    }))
    .unwrap();
    assert_eq!(bundle.roots().len(), 1);
    assert_eq!(
        (bundle.sequence(), bundle.refresh_hint()),
        (Some(7), Some(60))
    );
    let none = TrustBundle::parse(br#"{"keys": []}"#).unwrap();
    assert!(none.roots().is_empty() && none.sequence().is_none());
}

#[test]
fn what_is_wrong_in_a_bundle_is_named() {
    let key = |x5c: Value| json!({"keys": [{"use": "x509-svid", "x5c": x5c}]});
    let leaf = certificate(false);
    for (bundle, named) in [
        (json!([]), "keys: is missing"),
        (
            json!({"keys": [], "spiffe_sequence": -1}),
            "spiffe_sequence",
        ),
        (
            json!({"keys": [], "spiffe_refresh_hint": "soon"}),
            "spiffe_refresh_hint",
        ),
        (key(json!([])), "keys[0].x5c: must hold exactly one"),
        (
            key(json!([leaf, leaf])),
            "keys[0].x5c: must hold exactly one",
        ),
        (key(json!(["~"])), "keys[0].x5c: is not base64"),
        (key(json!(["AAAA"])), "keys[0].x5c: is no X.509"),
        (
            key(json!([leaf])),
            "keys[0].x5c: must be the certificate of an authority",
        ),
        (
            json!({"keys": [{"use": "jwt-svid", "d": "secret"}]}),
            "keys[0]: holds a private key",
        ),
    ] {
        let error = TrustBundle::try_from(bundle.clone()).unwrap_err();
        assert!(error.contains(named), "{bundle}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
    assert!(
        TrustBundle::parse(b"-----BEGIN")
            .unwrap_err()
            .contains("JWK set")
    );
}
