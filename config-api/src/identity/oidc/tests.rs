#![allow(clippy::unwrap_used)]

use std::path::Path;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{EncodingKey, Header, encode, get_current_timestamp};
use serde_json::json;
use telemetry::Health;

use super::*;

/// A key pair by its id, with the JWK of its public half.
struct Pair {
    pem: String,
    public: String,
    jwk: Jwk,
}

fn pair(kid: &str) -> Pair {
    let pair = rcgen::KeyPair::generate().unwrap();
    let pem = pair.serialize_pem();
    let key = EncodingKey::from_ec_pem(pem.as_bytes()).unwrap();
    let mut jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
    jwk.common.key_id = Some(kid.into());
    let public = pair.public_key_pem();
    Pair { pem, public, jwk }
}

impl Pair {
    fn sign(&self, header: &Header, claims: &Value) -> String {
        let key = EncodingKey::from_ec_pem(self.pem.as_bytes()).unwrap();
        encode(header, claims, &key).unwrap()
    }
}

fn header(kid: &str) -> Header {
    Header {
        kid: Some(kid.into()),
        ..Header::new(Algorithm::ES256)
    }
}

fn claims() -> Value {
    let now = get_current_timestamp();
    json!({"iss": "https://id.example", "aud": ["weft", "other"], "exp": now + 600, "sub": "alice", "groups": ["shop"]})
}

fn settings() -> Settings {
    Settings {
        issuer: "https://id.example".into(),
        audience: "weft".into(),
        algorithms: vec!["ES256".parse().unwrap()],
        name_claim: "sub".into(),
        groups_claim: "groups".into(),
    }
}

fn write(path: &Path, keys: &[&Pair]) {
    let keys = keys.iter().map(|pair| pair.jwk.clone()).collect();
    std::fs::write(path, serde_json::to_vec(&JwkSet { keys }).unwrap()).unwrap();
}

/// An issuer whose keys are in a file.
fn issuer(path: &Path, settings: Settings) -> Oidc {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let fetcher = Fetcher::new(Origin::File(path.into()), None).unwrap();
    let oidc = Oidc::new(settings, fetcher.keys());
    tokio::spawn(fetcher.run(Health::default().check("oidc", "new")));
    oidc
}

#[tokio::test]
async fn a_good_token_names_its_subject() {
    let directory = tempfile::tempdir().unwrap();
    let (path, one) = (directory.path().join("jwks"), pair("one"));
    write(&path, &[&one]);
    let oidc = issuer(&path, settings());
    let subject = oidc
        .subject(&one.sign(&header("one"), &claims()))
        .await
        .unwrap();
    assert_eq!(subject.name, "oidc:alice");
    assert_eq!(subject.groups, ["oidc:shop"]);
    // Without a key id, the only key is meant.
    let anonymous = Header::new(Algorithm::ES256);
    assert!(oidc.subject(&one.sign(&anonymous, &claims())).await.is_ok());
}

#[tokio::test]
async fn everything_about_a_token_must_hold() {
    let directory = tempfile::tempdir().unwrap();
    let (path, one, two, stranger) = (
        directory.path().join("jwks"),
        pair("one"),
        pair("two"),
        pair("one"),
    );
    write(&path, &[&one, &two]);
    let oidc = issuer(&path, settings());
    let good = one.sign(&header("one"), &claims());
    assert!(oidc.subject(&good).await.is_ok());

    let with = |field: &str, value: Value| {
        let mut claims = claims();
        claims[field] = value;
        one.sign(&header("one"), &claims)
    };
    let without = |field: &str| {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(field);
        one.sign(&header("one"), &claims)
    };
    let now = get_current_timestamp();
    let part = |value: &Value| {
        use base64::Engine;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string())
    };
    let body = good.split('.').nth(1).unwrap();
    // HS256 with the public key as the secret: the classic confusion.
    let secret = EncodingKey::from_secret(one.public.as_bytes());
    let confused = Header {
        kid: Some("one".into()),
        ..Header::new(Algorithm::HS256)
    };
    let critical = Header {
        crit: Some(vec!["b64".into()]),
        ..header("one")
    };
    for (what, token) in [
        ("another issuer", with("iss", "https://evil.example".into())),
        ("another audience", with("aud", "other".into())),
        ("expired", with("exp", (now - 60).into())),
        ("not yet", with("nbf", (now + 600).into())),
        ("no expiry", without("exp")),
        ("no issuer", without("iss")),
        ("no audience", without("aud")),
        ("no subject", without("sub")),
        ("an empty subject", with("sub", "".into())),
        ("a number for a subject", with("sub", 7.into())),
        ("a stranger's key", stranger.sign(&header("one"), &claims())),
        ("the other key", two.sign(&header("one"), &claims())),
        ("an unknown key", one.sign(&header("three"), &claims())),
        (
            "no key id among two",
            one.sign(&Header::new(Algorithm::ES256), &claims()),
        ),
        (
            "alg none",
            format!("{}.{body}.", part(&json!({"alg": "none", "kid": "one"}))),
        ),
        ("HS256", encode(&confused, &claims(), &secret).unwrap()),
        ("a critical extension", one.sign(&critical, &claims())),
        ("another body", {
            let mut other = claims();
            other["sub"] = "root".into();
            good.replace(body, &part(&other))
        }),
        ("nothing", "..".into()),
    ] {
        let refusal = oidc.subject(&token).await.expect_err(what);
        assert!(matches!(refusal, Refusal::Token(_)), "{what}: {refusal}");
    }
    // An algorithm that the key is not for, though it is allowed and of the key's family.
    let mut mismatched = pair("one");
    mismatched.jwk.common.key_algorithm = Some(jsonwebtoken::jwk::KeyAlgorithm::ES384);
    let token = mismatched.sign(&header("one"), &claims());
    assert!(
        settings()
            .verify(&token, Algorithm::ES256, &mismatched.jwk)
            .is_err()
    );
    mismatched.jwk.common.key_algorithm = None;
    assert!(
        settings()
            .verify(&token, Algorithm::ES256, &mismatched.jwk)
            .is_ok()
    );
}

#[tokio::test]
async fn keys_rotate_by_their_ids() {
    let directory = tempfile::tempdir().unwrap();
    let (path, one, two) = (directory.path().join("jwks"), pair("one"), pair("two"));
    write(&path, &[&one]);
    let oidc = issuer(&path, settings());
    let (old, new) = (
        one.sign(&header("one"), &claims()),
        two.sign(&header("two"), &claims()),
    );
    assert!(oidc.subject(&old).await.is_ok());
    write(&path, &[&two]);
    assert!(
        oidc.subject(&new).await.is_ok(),
        "an unknown key id fetches the keys anew"
    );
    assert!(
        oidc.subject(&old).await.is_err(),
        "what was withdrawn is gone"
    );
    // Keys that cannot be fetched: the known ones hold, an unknown one is nobody's fault.
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(oidc.subject(&old).await, Err(Refusal::Keys(_))));
    assert!(oidc.subject(&new).await.is_ok());
}

#[tokio::test]
async fn without_keys_nobody_passes() {
    let directory = tempfile::tempdir().unwrap();
    let oidc = issuer(&directory.path().join("missing"), settings());
    let token = pair("one").sign(&header("one"), &claims());
    assert!(matches!(oidc.subject(&token).await, Err(Refusal::Keys(_))));
}

#[tokio::test]
async fn an_unverified_address_is_no_name() {
    let directory = tempfile::tempdir().unwrap();
    let (path, one) = (directory.path().join("jwks"), pair("one"));
    write(&path, &[&one]);
    let by_mail = Settings {
        name_claim: "email".into(),
        ..settings()
    };
    let oidc = issuer(&path, by_mail);
    for (verified, ok) in [(true, true), (false, false)] {
        let mut said = claims();
        said["email"] = "a@example.com".into();
        said["email_verified"] = verified.into();
        let subject = oidc.subject(&one.sign(&header("one"), &said)).await;
        assert_eq!(subject.is_ok(), ok, "{subject:?}");
    }
}

#[test]
fn keys_come_over_a_safe_way_only() {
    for (issuer, keys, ok) in [
        ("https://id.example", None, true),
        ("http://id.example", None, false),
        ("http://127.0.0.1:9", None, true),
        ("http://[::1]:9/x", None, true),
        ("http://localhost:9", None, false),
        ("id.example", None, false),
        ("id.example", Some("/etc/jwks.json"), true),
        ("id.example", Some("https://id.example/keys"), true),
        ("id.example", Some("http://id.example/keys"), false),
        ("id.example", Some("file:///etc/jwks.json"), false),
    ] {
        assert_eq!(Origin::new(issuer, keys).is_ok(), ok, "{issuer} {keys:?}");
    }
    let url = Origin::new("https://id.example/", None).unwrap();
    let document = "https://id.example/.well-known/openid-configuration";
    assert_eq!(url, Origin::Issuer(document.parse().unwrap()));
    for algorithm in ["none", "HS256", "es256", ""] {
        assert!(algorithm.parse::<Signature>().is_err(), "{algorithm}");
    }
}
