//! Tokens as verifiers that nobody here wrote see them.

#![allow(clippy::unwrap_used)]

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use ring::rand::SystemRandom;

use super::*;
use crate::authority::Policy;
use crate::authority::rotation::Step;

const TTL: SignedDuration = SignedDuration::from_mins(5);

fn authority() -> Authority {
    let domain = "td".parse().unwrap();
    let random = SystemRandom::new();
    Authority::create(&domain, &Policy::default(), Timestamp::now(), &random).unwrap()
}

fn orders() -> SpiffeId {
    "spiffe://td/ns/shop/sa/orders".parse().unwrap()
}

fn sign(authority: &Authority, audience: &[&str]) -> Result<JwtSvid, JwtError> {
    let audience: Vec<String> = audience.iter().map(|&text| text.to_owned()).collect();
    authority.sign_jwt(
        &orders(),
        &audience,
        Some("https://td"),
        Timestamp::now(),
        TTL,
    )
}

fn verify(jwks: Value, token: &str, audience: &str) -> Result<Value, String> {
    let keys: JwkSet = serde_json::from_value(jwks).unwrap();
    let kid = jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    let key = keys.find(&kid).ok_or("no such key")?;
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_audience(&[audience]);
    validation.set_required_spec_claims(&["exp", "aud", "sub"]);
    let key = DecodingKey::from_jwk(key).unwrap();
    jsonwebtoken::decode::<Value>(token, &key, &validation)
        .map(|data| data.claims)
        .map_err(|error| error.to_string())
}

#[test]
fn a_token_is_for_its_subject_and_audiences() {
    let authority = authority();
    let svid = sign(&authority, &["a", "b"]).unwrap();
    for audience in ["a", "b"] {
        let claims = verify(authority.jwks(), &svid.token, audience).unwrap();
        assert_eq!(claims["sub"], "spiffe://td/ns/shop/sa/orders");
        assert_eq!(claims["aud"], json!(["a", "b"]));
        assert_eq!(claims["iss"], "https://td");
        let lasts = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
        assert_eq!(lasts, 300);
        assert_eq!(claims.as_object().unwrap().len(), 5);
    }
    assert!(verify(authority.jwks(), &svid.token, "c").is_err());
    let other = self::authority();
    assert!(verify(other.jwks(), &svid.token, "a").is_err());
    assert!(!format!("{svid:?}").contains(&svid.token[..10]));
}

#[test]
fn a_token_needs_audiences() {
    let authority = authority();
    let many = vec!["a"; 17];
    let long = "a".repeat(1025);
    for audience in [&[][..], &[""], &["a", ""], &many, &[&long]] {
        assert!(matches!(
            sign(&authority, audience),
            Err(JwtError::Audience)
        ));
    }
}

#[test]
fn a_key_is_published_before_it_signs_and_after() {
    let random = SystemRandom::new();
    let take = |authority: &Authority, step| {
        let now = Timestamp::now();
        authority
            .take(&step, &Policy::default(), now, &random)
            .unwrap()
    };
    let first = authority();
    let old = sign(&first, &["a"]).unwrap();
    let prepared = take(&first, Step::PrepareJwtKey);
    let active = take(&prepared, Step::ActivateJwtKey);
    let new = sign(&active, &["a"]).unwrap();
    assert!(verify(first.jwks(), &new.token, "a").is_err());
    assert!(verify(prepared.jwks(), &new.token, "a").is_ok());
    assert!(verify(active.jwks(), &old.token, "a").is_ok());
    let id = first.jwt_keys()[0].id.clone();
    let retired = take(&active, Step::RetireJwtKey(id));
    assert!(verify(retired.jwks(), &old.token, "a").is_err());
}

#[test]
fn the_spiffe_library_reads_bundle_and_token() {
    let authority = authority();
    let text = authority.spiffe_bundle(300).to_string();
    let domain: spiffe::TrustDomain = "td".try_into().unwrap();
    let keys = authority.jwks().to_string();
    let bundle = spiffe::JwtBundle::from_jwt_authorities(domain, keys.as_bytes()).unwrap();
    let key = &authority.jwt_keys()[0];
    assert!(bundle.find_jwt_authority(&key.id).is_some());
    let token = sign(&authority, &["a"]).unwrap().token;
    let svid = spiffe::JwtSvid::parse_insecure(&token).unwrap();
    assert_eq!(svid.spiffe_id().to_string(), orders().to_string());
    let bundle: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(bundle["spiffe_sequence"], 1);
    let root = STANDARD
        .decode(bundle["keys"][0]["x5c"][0].as_str().unwrap())
        .unwrap();
    assert_eq!(root, authority.active_root().signer.certificate().to_vec());
}
