//! Names, room, and when tokens are signed anew.

#![allow(clippy::unwrap_used)]

use ring::rand::SystemRandom;

use super::*;
use crate::authority::Policy;

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

fn start() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

/// The secrets, byte for byte, after signing what is due so many minutes after the start.
fn signed(tokens: &mut Tokens, authority: &Authority, minutes: i64) -> Vec<Vec<u8>> {
    let identity = "spiffe://td/ns/shop/sa/orders".parse().unwrap();
    let terms = Terms {
        ttl: MINUTE * 10,
        issuer_url: None,
    };
    let now = start() + SignedDuration::from_mins(minutes);
    tokens.sign(authority, &identity, &terms, now).unwrap();
    let secrets = tokens.secrets();
    secrets.map(|secret| secret.body().to_vec()).collect()
}

#[test]
fn an_audience_follows_the_kind() {
    assert_eq!(parse("jwt:db"), Some(("db", "")));
    assert_eq!(
        parse("bearer:https://db/x"),
        Some(("https://db/x", "Bearer "))
    );
    let longest = "a".repeat(1024);
    assert_eq!(parse(&format!("jwt:{longest}")), Some((&*longest, "")));
    for name in [
        "jwt:",
        "bearer:",
        "jwt",
        "db",
        "JWT:db",
        &format!("jwt:{longest}a"),
    ] {
        assert!(!is_token(name), "{name}");
    }
}

#[test]
fn a_token_is_signed_once_and_again_at_half_of_its_life() {
    let domain = "td".parse().unwrap();
    let random = SystemRandom::new();
    let authority = Authority::create(&domain, &Policy::default(), start(), &random).unwrap();
    let mut tokens = Tokens::default();
    assert_eq!(
        (tokens.due(), signed(&mut tokens, &authority, 0).len()),
        (None, 0)
    );
    assert!(tokens.want("jwt:db") && tokens.want("jwt:db") && tokens.want("bearer:db"));
    let first = signed(&mut tokens, &authority, 0);
    assert_eq!(first.len(), 2);
    let text = |n: usize| String::from_utf8_lossy(&first[n]).into_owned();
    assert!(text(0).contains("bearer:db") && text(0).contains("Bearer eyJ"));
    assert!(text(1).contains("jwt:db") && !text(1).contains("Bearer"));
    let due = tokens.due().unwrap();
    assert!(
        due >= start() + MINUTE * 4 && due <= start() + MINUTE * 6,
        "{due}"
    );
    assert_eq!(signed(&mut tokens, &authority, 4), first, "the same");
    let second = signed(&mut tokens, &authority, 6);
    assert!(second.iter().zip(&first).all(|(now, before)| now != before));
    assert!(tokens.due().unwrap() > start() + MINUTE * 6);
}

#[test]
fn there_is_room_for_so_many() {
    let mut tokens = Tokens::default();
    assert!((0..MOST).all(|n| tokens.want(&format!("jwt:{n}"))));
    assert!(!tokens.want("jwt:more") && tokens.want("jwt:0"));
}
