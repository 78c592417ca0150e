#![allow(clippy::unwrap_used)]

use model::Kind;
use proptest::prelude::*;

use super::*;

const HASH: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

fn key(namespace: &str, name: &str) -> Key {
    Key::new(Kind::TlsSecret, namespace, name)
}

#[test]
fn what_is_sealed_opens_with_the_keys_of_the_issuer_only() {
    let (old, new) = (OpeningKey::generate("old"), OpeningKey::generate("new"));
    let of = key("shop", "cert");
    let sealed = old.sealing_key().seal(&of, HASH, "KEY");
    let both = [new.clone(), old.clone()];
    assert_eq!(*open(&both, &of, &sealed).unwrap(), "KEY");
    let unknown = SealError::UnknownKey {
        name: "old".into(),
        known: "new".into(),
    };
    assert_eq!(open(&[new], &of, &sealed), Err(unknown));
    let impostor = OpeningKey::generate("old");
    assert_eq!(open(&[impostor], &of, &sealed), Err(SealError::Tampered));
    assert!(!format!("{old:?}").contains(&STANDARD.encode(*old.secret())));
}

#[test]
fn a_sealed_value_opens_for_its_own_resource_and_certificate_only() {
    let opening = [OpeningKey::generate("k")];
    let of = key("shop", "cert");
    let sealed = opening[0].sealing_key().seal(&of, HASH, "KEY");
    for other in [key("bank", "cert"), key("shop", "cert2")] {
        assert_eq!(open(&opening, &other, &sealed), Err(SealError::Tampered));
    }
    let other_certificate = SealedPrivateKey {
        public_key_sha256: "another".into(),
        ..sealed.clone()
    };
    let other_text = SealedPrivateKey {
        ciphertext: opening[0].sealing_key().seal(&of, HASH, "KEY").ciphertext,
        ..sealed.clone()
    };
    for changed in [other_certificate, other_text] {
        assert_eq!(open(&opening, &of, &changed), Err(SealError::Tampered));
    }
    assert_eq!(*open(&opening, &of, &sealed).unwrap(), "KEY");
}

#[test]
fn keys_are_stored_and_published() {
    let key = OpeningKey::generate("k");
    let restored = OpeningKey::restore("k", &*key.secret()).unwrap();
    assert_eq!(restored.sealing_key(), key.sealing_key());
    let published = SealingKey::from_bytes(&key.sealing_key().to_bytes()).unwrap();
    assert_eq!(published, key.sealing_key());
    assert!(OpeningKey::restore("k", &[1; 31]).is_err());
    for wrong in ["", "{}", r#"{"name":"k","suite":"rot13","publicKey":""}"#] {
        assert!(SealingKey::from_bytes(wrong.as_bytes()).is_err(), "{wrong}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_text_comes_back(text in ".*", namespace in "[a-z]{1,9}", name in "[a-z.-]{1,9}") {
        let opening = [OpeningKey::generate("k")];
        let of = key(&namespace, &name);
        let sealed = opening[0].sealing_key().seal(&of, HASH, &text);
        prop_assert_eq!(&*open(&opening, &of, &sealed).unwrap(), &text);
    }

    #[test]
    fn nothing_else_opens(encapsulated in ".{0,64}", ciphertext in ".{0,64}") {
        let opening = [OpeningKey::generate("k")];
        let sealed = SealedPrivateKey {
            key: "k".into(),
            public_key_sha256: HASH.into(),
            encapsulated,
            ciphertext,
        };
        prop_assert_eq!(open(&opening, &key("a", "b"), &sealed), Err(SealError::Tampered));
    }
}
