//! Tokens and their records.

#![allow(clippy::unwrap_used)]

use super::*;

fn token(byte: u8) -> Credential {
    Credential::new(&Zeroizing::new([byte; CREDENTIAL_BYTES]))
}

#[test]
fn a_token_is_recognized_and_not_shown() {
    let credential = token(7);
    let presented = Credential::parse(credential.expose()).unwrap();
    assert_eq!(presented.hash(), credential.hash());
    assert_ne!(token(8).hash(), credential.hash());
    assert_eq!(format!("{credential:?}"), "Credential(…)");
    assert!(!credential.hash().contains(&credential.expose()[5..]));
    // `printf weft_BwcH… | sha256sum`, so that another program finds the same record.
    assert_eq!(
        credential.expose(),
        "weft_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"
    );
    assert_eq!(credential.hash().len(), 64);
}

#[test]
fn other_texts_are_no_tokens() {
    let fine = token(7).expose().to_owned();
    for text in [
        "",
        "weft_",
        "Bearer x",
        &fine[5..],
        &fine[..47],
        &format!("{fine}A"),
        &fine.replace("weft_", "WEFT_"),
    ] {
        assert!(Credential::parse(text).is_none(), "{text}");
    }
}

#[test]
fn a_record_is_read_strictly() {
    let record = CredentialRecord {
        identity: "spiffe://td/ns/shop/sa/orders".parse().unwrap(),
        workload: "orders-v1".into(),
        workload_uid: Some("1-2".into()),
        created: "2026-11-21T12:00:00Z".parse().unwrap(),
    };
    let bytes = record.to_bytes();
    assert_eq!(CredentialRecord::from_bytes(&bytes).unwrap(), record);
    let text = String::from_utf8(bytes).unwrap();
    let service = text.replace(",\"workloadUid\":\"1-2\"", "");
    let read = CredentialRecord::from_bytes(service.as_bytes()).unwrap();
    assert_eq!(read.workload_uid, None);
    assert_eq!(read.to_bytes(), service.as_bytes());
    for damaged in [
        text.replace("/sa/", "/x/"),
        text.replace("\"workload\"", "\"other\""),
        text.replacen('{', "{\"more\":1,", 1),
    ] {
        assert!(
            CredentialRecord::from_bytes(damaged.as_bytes()).is_err(),
            "{damaged}"
        );
    }
}
