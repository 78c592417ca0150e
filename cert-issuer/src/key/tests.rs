//! Which keys are certified, and that private ones are not shown.

#![allow(clippy::unwrap_used)]

use ring::rand::SystemRandom;

use super::*;

fn request(key: &rcgen::KeyPair) -> Vec<u8> {
    let mut params = rcgen::CertificateParams::new(["evil.example".to_owned()]).unwrap();
    let uri = "spiffe://td/ns/other/sa/admin".try_into().unwrap();
    params.subject_alt_names.push(rcgen::SanType::URI(uri));
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.serialize_request(key).unwrap().der().to_vec()
}

#[test]
fn a_private_key_survives_storage_and_shows_nothing() {
    let key = PrivateKey::generate(&SystemRandom::new()).unwrap();
    let again = PrivateKey::from_pkcs8(key.pkcs8().clone()).unwrap();
    assert_eq!(key.public(), again.public());
    assert_eq!(format!("{key:?}"), "PrivateKey(…)");
    let der = pem::decode("PRIVATE KEY", key.pem().as_bytes())
        .unwrap()
        .unwrap();
    assert_eq!(der, **key.pkcs8());
    let error = PrivateKey::from_pkcs8(Zeroizing::new(b"nonsense".to_vec())).unwrap_err();
    assert_eq!(error, KeyError::Private);
}

#[test]
fn a_request_gives_its_key_and_nothing_else() {
    let key = rcgen::KeyPair::generate().unwrap();
    let der = request(&key);
    let public = PublicKey::of_request(&der).unwrap();
    assert_eq!(
        public,
        PublicKey::from_der(&key.subject_public_key_info()).unwrap()
    );
    let text = pem::encode("CERTIFICATE REQUEST", &der);
    assert_eq!(public, PublicKey::of_request(text.as_bytes()).unwrap());
}

#[test]
fn a_request_must_be_signed_by_its_own_key() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut der = request(&key);
    // The end of the signature.
    *der.last_mut().unwrap() ^= 1;
    assert_eq!(
        PublicKey::of_request(&der).unwrap_err(),
        KeyError::Possession
    );
    let mut long = request(&key);
    long.push(0);
    assert!(matches!(
        PublicKey::of_request(&long),
        Err(KeyError::Request(_))
    ));
    assert!(matches!(
        PublicKey::of_request(b"nonsense"),
        Err(KeyError::Request(_))
    ));
    assert!(matches!(
        PublicKey::from_der(b"nonsense"),
        Err(KeyError::Public(_))
    ));
}

#[test]
fn weak_and_unusual_keys_are_not_certified() {
    let tool = |args: &[&str]| {
        let made = std::process::Command::new("openssl")
            .args(args)
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        made.stdout
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key.pem");
    let file = file.to_str().unwrap();
    for (options, taken) in [
        (
            &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"][..],
            true,
        ),
        (
            &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
            true,
        ),
        (
            &[
                "-algorithm",
                "EC",
                "-pkeyopt",
                "ec_paramgen_curve:secp256k1",
            ],
            false,
        ),
        (
            &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"],
            false,
        ),
        (
            &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
            true,
        ),
        (
            &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"],
            false,
        ),
        (&["-algorithm", "ED25519"], true),
        (&["-algorithm", "X25519"], false),
    ] {
        tool(&[&["genpkey", "-out", file][..], options].concat());
        let public = tool(&["pkey", "-in", file, "-pubout", "-outform", "DER"]);
        let got = PublicKey::from_der(&public);
        assert_eq!(got.is_ok(), taken, "{options:?}: {got:?}");
        if !taken {
            assert!(matches!(got, Err(KeyError::Kind(_))));
        }
    }
}
