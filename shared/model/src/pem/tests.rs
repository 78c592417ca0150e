#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn encode(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

#[test]
fn what_is_wrong_is_told_without_quoting_it() {
    let cases = [
        ("", "has no PEM block"),
        ("# only a comment\n", "has no PEM block"),
        ("MIISECRET", "line 1 is outside of PEM blocks"),
        (
            "\n----BEGIN PRIVATE KEY-----\nMIISECRET",
            "line 2 is outside of PEM blocks",
        ),
        (
            "-----BEGIN A-----\nMIISECRET",
            "the PEM block of line 1 has no end",
        ),
        (
            "-----BEGIN A-----\nMIISECRET\n-----END B-----",
            "the PEM block of line 1 has no end",
        ),
        (
            "-----BEGIN A-----\nMII SECRET!\n-----END A-----",
            "is not base64",
        ),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIISECRET\n-----END RSA PRIVATE KEY-----",
            "decrypt it with `openssl pkey`",
        ),
    ];
    for (text, expected) in cases {
        let error = blocks(text).err().unwrap();
        assert!(error.contains(expected), "{text:?}: {error}");
        assert!(!error.contains("SECRET"), "{error}");
    }
}

proptest! {
    #[test]
    fn what_was_encoded_is_read(
        given in prop::collection::vec(("[A-Z]{1,9}( [A-Z]{1,9})?", prop::collection::vec(any::<u8>(), 1..200)), 1..5),
        windows in any::<bool>(),
    ) {
        let mut text: String = given
            .iter()
            .map(|(label, der)| format!("# a comment\n\n{}", encode(label, der)))
            .collect();
        if windows {
            text = text.replace('\n', "\r\n");
        }
        let read = blocks(&text).unwrap();
        let read: Vec<_> = read.iter().map(|it| (it.label.clone(), it.der.to_vec())).collect();
        prop_assert_eq!(read, given);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(-----(BEGIN|END) A-----|[ -~\n])*") {
        drop(blocks(&text));
    }
}
