#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, SerialNumber, date_time_ymd,
};
use serde_json::{Value, json};

use super::*;
use crate::{Kind, Metadata, Object, Options, Spec, check};

macro_rules! data {
    ($name:literal) => {
        include_str!(concat!("testdata/", $name))
    };
}

fn checked_spec(spec: &Value) -> Spec {
    check(object(spec), Options::default())
        .unwrap()
        .resource
        .spec
}

/// What a spec is refused with, or what is warned about.
fn checked(spec: &Value) -> Result<Vec<String>, Vec<String>> {
    match check(object(spec), Options::default()) {
        Ok(checked) => Ok(checked.warnings),
        Err(errors) => Err(errors.iter().map(ToString::to_string).collect()),
    }
}

fn object(spec: &Value) -> Object {
    let metadata = Metadata {
        name: "cert".into(),
        namespace: "shop".into(),
        ..Metadata::default()
    };
    Object {
        kind: Kind::TlsSecret,
        metadata,
        spec: spec.clone(),
    }
}

#[test]
fn every_usual_form_of_key_is_taken() {
    let pairs = [
        (data!("rsa.crt"), data!("rsa.pkcs8.key")),
        (data!("rsa.crt"), data!("rsa.pkcs1.key")),
        (data!("ec.crt"), data!("ec.sec1.key")),
    ];
    for (certificate, key) in pairs {
        let spec = json!({"certificate": certificate, "privateKey": key});
        assert_eq!(checked(&spec), Ok(vec![]));
    }
    let authorities = format!(
        "# two of them\n{}\n{}",
        data!("rsa.crt"),
        data!("ed25519.crt")
    );
    assert_eq!(checked(&json!({"caCertificates": authorities})), Ok(vec![]));
}

#[test]
fn what_does_not_belong_together_is_refused_without_showing_it() {
    let (ec, ec_key) = (data!("ec.crt"), data!("ec.sec1.key"));
    let (rsa, rsa_key) = (data!("rsa.crt"), data!("rsa.pkcs8.key"));
    let both = format!("{rsa}{rsa_key}");
    let sealed = |hash: &str| json!({"key": "k", "publicKeySha256": hash, "encapsulated": "", "ciphertext": ""});
    let cases = [
        (
            json!({}),
            "spec.certificate: is missing: there must be a certificate",
        ),
        (json!({"certificate": ec}), "spec.privateKey: is missing"),
        (
            json!({"privateKey": ec_key}),
            "spec.certificate: is missing: a key",
        ),
        (
            json!({"certificate": ec, "privateKey": rsa_key}),
            "spec.privateKey: does not belong",
        ),
        (
            json!({"certificate": both, "privateKey": rsa_key}),
            "spec.certificate: holds a private key",
        ),
        (
            json!({"certificate": rsa_key, "privateKey": rsa}),
            "spec.certificate: holds a private key",
        ),
        (
            json!({"certificate": rsa, "privateKey": both}),
            "spec.privateKey: must hold one private key",
        ),
        (
            json!({"certificate": rsa, "privateKey": rsa}),
            "spec.privateKey: must be a PRIVATE KEY",
        ),
        (
            json!({"caCertificates": rsa_key}),
            "spec.caCertificates: holds a private key",
        ),
        (
            json!({"certificate": ec, "privateKey": data!("encrypted.key")}),
            "spec.privateKey: is encrypted",
        ),
        (
            json!({"certificate": data!("ed25519.crt"), "privateKey": data!("ed25519.key")}),
            "it must be ECDSA P-256 or P-384",
        ),
        (
            json!({"certificate": data!("weak.crt"), "privateKey": data!("weak.key")}),
            "RSA of 1024 bits",
        ),
        (
            json!({"certificate": ec, "sealedPrivateKey": sealed("another")}),
            "give its privateKey",
        ),
        (
            json!({"certificate": ec, "privateKey": {"key": ec_key}}),
            "spec.privateKey",
        ),
        (
            json!({"certificate": ec, "privateKey": ec_key, "tls.key": ec_key}),
            "unknown field",
        ),
        (
            json!({"certificate": ec_key[30..].to_owned(), "privateKey": 1}),
            "spec.privateKey",
        ),
    ];
    for (spec, expected) in cases {
        let errors = checked(&spec).unwrap_err().join("; ");
        assert!(errors.contains(expected), "{expected}: {errors}");
        for key in [ec_key, rsa_key, data!("rsa.pkcs1.key")] {
            for line in key
                .lines()
                .filter(|line| line.len() > 20 && !line.starts_with('-'))
            {
                assert!(!errors.contains(&line[..20]), "{errors}");
            }
        }
    }
    let hash = certificates(ec).unwrap()[0].public_key_sha256();
    assert_eq!(
        checked(&json!({"certificate": ec, "sealedPrivateKey": sealed(&hash)})),
        Ok(vec![])
    );
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

#[test]
fn a_chain_in_the_wrong_order_and_certificates_out_of_time_are_warned_about() {
    let mut authority = named("authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut leaf = named("leaf.example");
    (leaf.not_before, leaf.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    let leaf = leaf.signed_by(&key, &authority).unwrap();
    let spec = |certificate: String| json!({"certificate": certificate, "privateKey": key.serialize_pem()});
    let right = spec(format!("{}{}", leaf.pem(), authority.pem()));
    assert_eq!(checked(&right), Ok(vec![]));
    let other = KeyPair::generate().unwrap();
    let stranger = named("authority").self_signed(&other).unwrap();
    let wrong = spec(format!("{}{}", leaf.pem(), stranger.pem()));
    let warnings = checked(&wrong).unwrap();
    assert!(
        warnings[0].contains("the certificate 1 is not signed by the certificate 2"),
        "{warnings:?}"
    );

    let object = Object {
        kind: Kind::TlsSecret,
        metadata: Metadata::default(),
        spec: right,
    };
    let Spec::TlsSecret(secret) = object.decode().unwrap().spec else {
        panic!()
    };
    let at = |time: &str| secret.remarks(time.parse().unwrap()).join("; ");
    assert_eq!(at("2020-06-01T00:00:00Z"), "");
    assert!(at("2019-06-01T00:00:00Z").contains("valid from 2020-01-01T00:00:00Z only"));
    assert!(
        at("2021-06-01T00:00:00Z")
            .starts_with("spec.certificate: the certificate of \"CN=leaf.example\" expired")
    );
}

proptest! {
    #[test]
    fn damaged_certificates_and_keys_are_read_or_refused(at in 0..2000usize, with in any::<u8>()) {
        for text in [data!("rsa.crt"), data!("ec.sec1.key")] {
            let mut bytes = text.as_bytes().to_vec();
            let place = at % bytes.len();
            bytes[place] = with;
            let text = String::from_utf8_lossy(&bytes);
            drop(certificates(&text));
            drop(private_key(&text));
        }
    }
}

/// An authority, and a list of nothing by it until a day of 2090 or 2020.
fn authority(name: &str, usages: &[KeyUsagePurpose]) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = usages.to_vec();
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn list(by: &CertifiedIssuer<'static, KeyPair>, until: i32) -> String {
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2019, 1, 1),
        next_update: date_time_ymd(until, 1, 1),
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(by).unwrap().pem().unwrap()
}

#[test]
fn lists_of_what_was_revoked_belong_to_the_authorities() {
    let both = [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let (one, other) = (authority("one", &both), authority("other", &both));
    let namesake = authority("one", &both);
    let spec =
        |lists: &str, authorities: &str| json!({"caCertificates": authorities, "caCrl": lists});
    assert_eq!(checked(&spec(&list(&one, 2090), &one.pem())), Ok(vec![]));
    let (pems, lists) = (
        one.pem() + &other.pem(),
        list(&one, 2090) + &list(&other, 2090),
    );
    assert_eq!(checked(&spec(&lists, &pems)), Ok(vec![]));

    let warned = checked(&spec(&list(&other, 2090), &pems))
        .unwrap()
        .join("; ");
    assert!(
        warned.contains("caCrl") && warned.contains("has no list of \"CN=one\""),
        "{warned}"
    );
    let Spec::TlsSecret(old) = checked_spec(&spec(&list(&one, 2020), &one.pem())) else {
        panic!("it is one");
    };
    let remarks = old
        .remarks("2021-01-01T00:00:00Z".parse().unwrap())
        .join("; ");
    assert!(
        remarks.contains("spec.caCrl: the list of \"CN=one\" expired at 2020-01-01"),
        "{remarks}"
    );
    let before = old.remarks("2019-06-01T00:00:00Z".parse().unwrap());
    assert!(before.is_empty(), "{before:?}");

    let mut certifies = CertificateParams::new([]).unwrap();
    certifies.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    certifies.key_usages = both[..1].to_vec();
    certifies.distinguished_name.push(DnType::CommonName, "one");
    let certifies = certifies.self_signed(one.key()).unwrap();
    for (lists, authorities, expected) in [
        (
            list(&other, 2090),
            one.pem(),
            "spec.caCrl: the list 1, of \"CN=other\", is signed by none",
        ),
        (
            list(&namesake, 2090),
            one.pem(),
            "is signed by none of caCertificates",
        ),
        (list(&one, 2090), certifies.pem(), "has no cRLSign"),
        (one.pem(), one.pem(), "may hold X509 CRL blocks only"),
        (String::new(), one.pem(), "spec.caCrl"),
    ] {
        let errors = checked(&spec(&lists, &authorities)).unwrap_err().join("; ");
        assert!(errors.contains(expected), "{expected}: {errors}");
    }
    let errors = checked(&json!({"caCrl": list(&one, 2090)}))
        .unwrap_err()
        .join("; ");
    assert!(
        errors.contains("spec.caCrl: needs caCertificates"),
        "{errors}"
    );
}
