//! Tokens, good and bad, and the key set that tells them apart.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use model::spec::JwtRule;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

pub(super) const ISSUER: &str = "https://issuer.example/shop";
const AUDIENCE: &str = "shop";

/// A signing key with its `kid`.
pub(super) struct Issuer {
    kid: &'static str,
    key: EcdsaKeyPair,
}

impl Issuer {
    pub(super) fn new(kid: &'static str) -> Self {
        let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
        Self { kid, key }
    }

    /// Its public key, as it stands in a key set.
    pub(super) fn jwk(&self) -> Value {
        let point = &self.public()[1..];
        let (x, y) = (BASE64.encode(&point[..32]), BASE64.encode(&point[32..]));
        json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": self.kid, "x": x, "y": y})
    }

    fn public(&self) -> &[u8] {
        self.key.public_key().as_ref()
    }

    /// The rule that believes keys.
    pub(super) fn rule(keys: &[&Self]) -> JwtRule {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        JwtRule {
            issuer: ISSUER.into(),
            audiences: vec![AUDIENCE.into()],
            jwks: Some(json!({ "keys": keys }).to_string()),
            ..Default::default()
        }
    }

    /// A token with these claims beside those that make it good.
    pub(super) fn token(&self, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": self.kid});
        let input = input(&header, claims);
        let signature = self
            .key
            .sign(&SystemRandom::new(), input.as_bytes())
            .unwrap();
        format!("{input}.{}", BASE64.encode(signature))
    }

    /// Tokens that nobody may believe, and why.
    pub(super) fn bad(&self) -> Vec<(&'static str, String)> {
        let good = self.token(&json!({"role": "admin"}));
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let none = |alg: &str| {
            input(
                &json!({"alg": alg, "typ": "JWT", "kid": self.kid}),
                &json!({"role": "admin"}),
            )
        };
        let hs256 = none("HS256");
        let with = |key: &[u8]| {
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), hs256.as_bytes());
            format!("{hs256}.{}", BASE64.encode(tag))
        };
        let tampered = input(
            &json!({"alg": "ES256", "kid": self.kid}),
            &json!({"role": "root"}),
        );
        let other = Self::new(self.kid);
        let unknown = Self {
            kid: "unknown",
            key: Self::new("x").key,
        };
        let claims = |claims: Value| self.token(&claims);
        vec![
            ("alg none", format!("{}.", none("none"))),
            ("alg None", format!("{}.", none("None"))),
            (
                "alg none with a signature",
                format!("{}.{signature}", none("none")),
            ),
            ("alg empty", format!("{}.{signature}", none(""))),
            ("HS256 with the public point", with(self.public())),
            (
                "HS256 with the key set's entry",
                with(self.jwk().to_string().as_bytes()),
            ),
            (
                "HS256 with x",
                with(self.jwk()["x"].as_str().unwrap().as_bytes()),
            ),
            ("no signature", format!("{signed}.")),
            ("no dot", signed.replace('.', "")),
            (
                "somebody else's signature",
                format!("{tampered}.{signature}"),
            ),
            (
                "another key of the same kid",
                other.token(&json!({"role": "admin"})),
            ),
            ("an unknown kid", unknown.token(&json!({"role": "admin"}))),
            ("a wrong audience", claims(json!({"aud": "other"}))),
            (
                "a list of wrong audiences",
                claims(json!({"aud": ["other", "shopping"]})),
            ),
            ("no audience", claims(json!({"aud": null}))),
            (
                "a wrong issuer",
                claims(json!({"iss": "https://issuer.example/other"})),
            ),
            (
                "an issuer that begins like ours",
                claims(json!({"iss": format!("{ISSUER}x")})),
            ),
            ("no issuer", claims(json!({"iss": null}))),
            ("expired", claims(json!({"exp": 1_000_000_000}))),
            ("not valid yet", claims(json!({"nbf": 4_000_000_000_u64}))),
            ("nothing", String::new()),
            ("a word", "token".into()),
            ("dots", "..".into()),
        ]
    }
}

fn input(header: &Value, claims: &Value) -> String {
    let mut all = json!({"iss": ISSUER, "sub": "me", "aud": AUDIENCE, "exp": 4_000_000_000_u64});
    for (name, value) in claims.as_object().unwrap() {
        all[name] = value.clone();
    }
    all.as_object_mut()
        .unwrap()
        .retain(|_, value| !value.is_null());
    let encode = |value: &Value| BASE64.encode(value.to_string());
    format!("{}.{}", encode(header), encode(&all))
}
