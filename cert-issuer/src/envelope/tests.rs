//! What is sealed opens where it belongs, and nothing else does.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use ring::rand::SystemRandom;

use super::*;

fn list(keys: &[(&str, u8)]) -> KeyList {
    let text: Vec<String> = keys
        .iter()
        .map(|(id, byte)| format!("{id}:{}", STANDARD.encode([*byte; KEY_LEN])))
        .collect();
    KeyList::parse(&text.join("\n")).unwrap()
}

fn sealed(keys: &KeyList, path: &str, value: &[u8]) -> Vec<u8> {
    keys.seal(path, value, &SystemRandom::new()).unwrap()
}

#[test]
fn keys_are_parsed_strictly_and_never_shown() {
    let key = STANDARD.encode([7; KEY_LEN]);
    let keys = KeyList::parse(&format!("# the new one\nb:{key}\n\n a:{key} , c:{key}\n")).unwrap();
    assert_eq!(keys.ids().collect::<Vec<_>>(), ["b", "a", "c"]);
    assert_eq!(format!("{keys:?}"), r#"["b", "a", "c"]"#);
    let short = STANDARD.encode([7; 31]);
    for (text, error) in [
        (String::new(), KeyListError::Empty),
        ("# only a comment".into(), KeyListError::Empty),
        (format!("a:{key},{key}"), KeyListError::Line(2)),
        (format!(":{key}"), KeyListError::Line(1)),
        (format!("a b:{key}"), KeyListError::Line(1)),
        (
            format!("a:{short}"),
            KeyListError::Length { id: "a".into() },
        ),
        (
            "a:not base64".into(),
            KeyListError::Length { id: "a".into() },
        ),
        (
            format!("a:{key}\na:{key}"),
            KeyListError::Twice { id: "a".into() },
        ),
    ] {
        assert_eq!(KeyList::parse(&text).unwrap_err(), error, "{text}");
        assert!(!error.to_string().contains(&key));
    }
}

#[test]
fn a_key_can_be_replaced_step_by_step() {
    let old = list(&[("old", 1)]);
    let value = sealed(&old, "ca/state", b"secret");
    let both = list(&[("new", 2), ("old", 1)]);
    assert!(both.is_outdated("ca/state", &value).unwrap());
    let opened = both.open("ca/state", &value).unwrap();
    let again = sealed(&both, "ca/state", &opened);
    assert!(!both.is_outdated("ca/state", &again).unwrap());
    let new = list(&[("new", 2)]);
    assert_eq!(new.open("ca/state", &again).unwrap().as_slice(), b"secret");
    let error = new.open("ca/state", &value).unwrap_err();
    assert!(matches!(&error, EnvelopeError::UnknownKey { id, .. } if id == "old"));
}

#[test]
fn what_was_not_sealed_is_no_envelope() {
    let keys = list(&[("a", 1)]);
    for stored in ["", "{}", "plain", r#"{"kek":"a","key":"","data":"","x":1}"#] {
        let error = keys.open("p", stored.as_bytes()).unwrap_err();
        assert!(matches!(error, EnvelopeError::Form { .. }), "{stored}");
    }
    for data in ["", "AAAA", "!"] {
        let stored = format!(r#"{{"kek":"a","key":"{data}","data":"{data}"}}"#);
        let error = keys.open("p", stored.as_bytes()).unwrap_err();
        assert!(matches!(error, EnvelopeError::Tampered { .. }), "{stored}");
    }
}

proptest! {
    #[test]
    fn what_is_sealed_opens_and_shows_nothing(
        value in proptest::collection::vec(any::<u8>(), 0..300), path in "[a-z/]{1,20}",
    ) {
        let keys = list(&[("a", 1)]);
        let stored = sealed(&keys, &path, &value);
        prop_assert_eq!(keys.open(&path, &stored).unwrap().to_vec(), value.clone());
        if value.len() > 8 {
            let parsed: Sealed = serde_json::from_slice(&stored).unwrap();
            for part in [parsed.key, parsed.data] {
                let bytes = STANDARD.decode(part).unwrap();
                prop_assert!(!bytes.windows(value.len()).any(|window| window == value));
            }
        }
        // A data key and nonces of its own each time.
        prop_assert_ne!(&stored, &sealed(&keys, &path, &value));
    }

    #[test]
    fn no_bit_of_it_can_be_changed(
        value in proptest::collection::vec(any::<u8>(), 0..100), at in any::<proptest::sample::Index>(), bit in 0..8_u32,
        wrapped in any::<bool>(),
    ) {
        let keys = list(&[("a", 1)]);
        let mut parsed: Sealed = serde_json::from_slice(&sealed(&keys, "p", &value)).unwrap();
        let part = if wrapped { &mut parsed.key } else { &mut parsed.data };
        let mut bytes = STANDARD.decode(&*part).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        *part = STANDARD.encode(bytes);
        let error = keys.open("p", &serde_json::to_vec(&parsed).unwrap()).unwrap_err();
        let tampered = matches!(error, EnvelopeError::Tampered { .. });
        prop_assert!(tampered);
    }

    #[test]
    fn it_opens_at_its_own_path_only(a in "[a-z/\0]{0,10}", b in "[a-z/\0]{0,10}") {
        prop_assume!(a != b);
        let keys = list(&[("a", 1)]);
        let stored = sealed(&keys, &a, b"secret");
        let error = keys.open(&b, &stored).unwrap_err();
        let tampered = matches!(error, EnvelopeError::Tampered { .. });
        prop_assert!(tampered);
    }

    #[test]
    fn parts_of_two_envelopes_do_not_fit_together(swap_key in any::<bool>()) {
        let keys = list(&[("a", 1)]);
        let mut one: Sealed = serde_json::from_slice(&sealed(&keys, "p", b"one")).unwrap();
        let two: Sealed = serde_json::from_slice(&sealed(&keys, "p", b"two")).unwrap();
        if swap_key { one.key = two.key } else { one.data = two.data }
        prop_assert!(keys.open("p", &serde_json::to_vec(&one).unwrap()).is_err());
    }

    #[test]
    fn another_key_of_the_same_name_opens_nothing(other in 2..=255_u8) {
        let stored = sealed(&list(&[("a", 1)]), "p", b"secret");
        let error = list(&[("a", other)]).open("p", &stored).unwrap_err();
        let tampered = matches!(error, EnvelopeError::Tampered { .. });
        prop_assert!(tampered);
    }

    #[test]
    fn renaming_the_key_opens_nothing(name in "[b-z]{1,5}") {
        let stored = sealed(&list(&[("a", 1)]), "p", b"secret");
        let renamed = String::from_utf8(stored).unwrap().replace(r#""kek":"a""#, &format!(r#""kek":"{name}""#));
        let error = list(&[(&name, 1)]).open("p", renamed.as_bytes()).unwrap_err();
        let tampered = matches!(error, EnvelopeError::Tampered { .. });
        prop_assert!(tampered);
    }
}
