//! Rotation: each step's conditions, and, over random histories, that no two workloads ever distrust each other.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use proptest::prelude::*;
use ring::rand::SystemRandom;
use rustls::pki_types::UnixTime;

use super::rotation::{Acknowledged, Step};
use super::*;

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

fn policy() -> Policy {
    Policy {
        root_ttl: MINUTE * 10_000,
        issuing_ttl: MINUTE * 1000,
        svid_ttl: MINUTE * 60,
        overlap: MINUTE * 5,
        patience: MINUTE * 500,
        jwt_ttl: MINUTE * 5,
        jwt_key_ttl: MINUTE * 2000,
    }
}

fn start() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn created() -> Authority {
    let domain = "td".parse().unwrap();
    Authority::create(&domain, &policy(), start(), &SystemRandom::new()).unwrap()
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "every step is made for one call"
)]
fn take(authority: &Authority, step: Step, minutes: i32) -> Authority {
    let now = start() + MINUTE * minutes;
    let random = SystemRandom::new();
    authority.take(&step, &policy(), now, &random).unwrap()
}

fn due(authority: &Authority, minutes: i32, seen: Acknowledged) -> Option<Step> {
    authority.due(&policy(), start() + MINUTE * minutes, seen)
}

fn signed(authority: &Authority, now: Timestamp) -> X509Svid {
    let id = "spiffe://td/ns/shop/sa/orders".parse().unwrap();
    let random = SystemRandom::new();
    let key = PrivateKey::generate(&random).unwrap().public();
    let ttl = policy().svid_ttl;
    authority.sign(&id, &key, now, ttl, &[], &random).unwrap()
}

/// Whether somebody who trusts these roots accepts this certificate.
fn trusts(bundle: &[CertificateDer<'static>], svid: &X509Svid, now: Timestamp) -> bool {
    let anchors: Vec<_> = bundle
        .iter()
        .map(|root| webpki::anchor_from_trusted_cert(root).unwrap())
        .collect();
    let leaf = webpki::EndEntityCert::try_from(&svid.chain[0]).unwrap();
    let now = Duration::from_secs(now.as_second().try_into().unwrap());
    leaf.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &anchors,
        &svid.chain[1..],
        UnixTime::since_unix_epoch(now),
        webpki::KeyUsage::client_auth(),
        None,
        None,
    )
    .is_ok()
}

fn bundle(authority: &Authority) -> Vec<CertificateDer<'static>> {
    authority.bundle().cloned().collect()
}

#[test]
fn a_new_authority_has_nothing_to_do_for_a_while() {
    let authority = created();
    assert_eq!(due(&authority, 0, Acknowledged::Nobody), None);
    assert_eq!(due(&authority, 499, Acknowledged::Nobody), None);
    assert!(trusts(
        &bundle(&authority),
        &signed(&authority, start()),
        start()
    ));
}

#[test]
fn the_issuing_certificate_is_replaced_at_half_its_life() {
    let authority = created();
    assert_eq!(
        due(&authority, 501, Acknowledged::Unknown),
        Some(Step::RotateIssuing)
    );
    let next = take(&authority, Step::RotateIssuing, 501);
    assert_ne!(
        next.issuing().certificate(),
        authority.issuing().certificate()
    );
    assert_eq!(
        next.sequence(),
        authority.sequence(),
        "nobody has to be told"
    );
    assert_eq!(due(&next, 501, Acknowledged::Unknown), None);
    let now = start() + MINUTE * 501;
    assert!(trusts(&bundle(&authority), &signed(&next, now), now));
}

#[test]
fn a_root_is_prepared_before_its_end_and_activated_when_acknowledged() {
    let mut authority = created();
    // A fifth of its life is left.
    let at = 8001;
    authority.jwt_keys.clear();
    authority = take(&authority, Step::RotateIssuing, at - 1);
    assert_eq!(due(&authority, at - 1, Acknowledged::Nobody), None);
    assert_eq!(
        due(&authority, at, Acknowledged::Nobody),
        Some(Step::PrepareRoot)
    );
    let old = authority.active_root().name.clone();
    let prepared = take(&authority, Step::PrepareRoot, at);
    assert_eq!((prepared.roots().len(), prepared.sequence()), (2, 2));
    assert_eq!(prepared.active_root().name, old, "it does not sign yet");

    let ready = Acknowledged::Sequence(2);
    assert_eq!(
        due(&prepared, at + 4, ready),
        None,
        "the overlap is not over"
    );
    assert_eq!(
        due(&prepared, at + 5, Acknowledged::Sequence(1)),
        None,
        "a proxy is behind"
    );
    assert_eq!(due(&prepared, at + 5, Acknowledged::Unknown), None);
    for seen in [ready, Acknowledged::Nobody] {
        assert_eq!(due(&prepared, at + 5, seen), Some(Step::ActivateRoot));
    }
    let patient = due(&prepared, at + 500, Acknowledged::Sequence(1));
    assert_eq!(patient, Some(Step::ActivateRoot), "patience ends");

    let active = take(&prepared, Step::ActivateRoot, at + 5);
    assert_ne!(active.active_root().name, old);
    let now = start() + MINUTE * (at + 5);
    assert!(trusts(&bundle(&prepared), &signed(&active, now), now));
    assert!(!trusts(&bundle(&authority), &signed(&active, now), now));
    assert_eq!(
        due(&active, at + 65, Acknowledged::Nobody),
        None,
        "its certificates live"
    );
    let retire = due(&active, at + 66, Acknowledged::Unknown);
    assert_eq!(retire, Some(Step::RetireRoot(old.clone())));
    let retired = take(&active, Step::RetireRoot(old.clone()), at + 66);
    assert_eq!(retired.roots().len(), 1);
    let now = start() + MINUTE * (at + 1);
    assert!(!trusts(&bundle(&retired), &signed(&authority, now), now));
}

#[test]
fn a_revoked_root_is_gone_at_once() {
    let authority = created();
    let old = authority.active_root().name.clone();
    let next = take(&authority, Step::RevokeRoot(old.clone()), 1);
    let now = start() + MINUTE;
    assert!(!trusts(&bundle(&next), &signed(&authority, now), now));
    assert!(trusts(&bundle(&next), &signed(&next, now), now));
    assert!(next.sequence() > authority.sequence());
    // If another is prepared, and so known to some already, it takes the place.
    let prepared = take(&authority, Step::PrepareRoot, 1);
    let next = take(&prepared, Step::RevokeRoot(old), 2);
    assert_eq!(next.active_root().name, prepared.roots()[1].name);
    assert_eq!(next.roots().len(), 1);
    let now = start() + MINUTE * 2;
    assert!(trusts(&bundle(&next), &signed(&next, now), now));
}

/// What the issuer shows as its own certificate.
fn served(authority: &Authority, now: Timestamp) -> X509Svid {
    let mut svid = signed(authority, now);
    svid.chain.extend(authority.lineage(now).cloned());
    svid
}

/// A root that takes the place of the active one, which is trusted no longer.
fn replaced(authority: &Authority, minutes: i32) -> Authority {
    let old = authority.active_root().name.clone();
    let prepared = take(authority, Step::PrepareRoot, minutes);
    let active = take(&prepared, Step::ActivateRoot, minutes);
    take(&active, Step::RetireRoot(old), minutes)
}

#[test]
fn who_pins_an_older_root_accepts_the_issuer_and_no_more() {
    let mut history = vec![created()];
    for minutes in 1..=6 {
        history.push(replaced(history.last().unwrap(), minutes));
    }
    let now = start() + MINUTE * 6;
    for (age, older) in history.iter().rev().enumerate() {
        let newest = history.last().unwrap();
        assert_eq!(bundle(older).len(), 1);
        let (accepted, pinned) = (age <= lineage::LONGEST, &bundle(older));
        assert_eq!(trusts(pinned, &served(newest, now), now), accepted, "{age}");
        // A workload shows no such way.
        assert_eq!(trusts(pinned, &signed(newest, now), now), age == 0);
        // Who trusts the new root alone trusts nothing that an old one signed.
        assert_eq!(trusts(&bundle(newest), &served(older, now), now), age == 0);
    }
    // The way ends when the first root on it does.
    let newest = history.last().unwrap();
    assert_eq!(newest.lineage(now).count(), lineage::LONGEST);
    let end = history[2].active_root().signer.not_after();
    assert_eq!(newest.lineage(end - MINUTE).count(), lineage::LONGEST);
    assert_eq!(newest.lineage(end).count(), lineage::LONGEST - 1);
}

#[test]
fn nothing_leads_to_a_revoked_root() {
    let a = created();
    let b = replaced(&a, 1);
    let c = replaced(&b, 2);
    let name = |authority: &Authority| authority.active_root().name.clone();
    let now = start() + MINUTE * 3;
    // Roots that were retired before are known by what they certified.
    for (revoked, left) in [(&a, 1), (&b, 0)] {
        let next = take(&c, Step::RevokeRoot(name(revoked)), 3);
        assert_eq!(next.lineage(now).count(), left);
        assert!(!trusts(&bundle(revoked), &served(&next, now), now));
        assert_eq!((name(&next), next.sequence()), (name(&c), c.sequence()));
        let again = next.take(
            &Step::RevokeRoot(name(revoked)),
            &policy(),
            now,
            &SystemRandom::new(),
        );
        assert!(matches!(again, Err(AuthorityError::NoSuchRoot { .. })));
    }
    // The active one: neither what was prepared under it nor what takes its place leads to it.
    let prepared = take(&c, Step::PrepareRoot, 3);
    for authority in [&c, &prepared] {
        let next = take(authority, Step::RevokeRoot(name(&c)), 3);
        assert_eq!(next.lineage(now).count(), 0);
        assert!(!trusts(&bundle(&c), &served(&next, now), now));
    }
}

#[test]
fn steps_that_make_no_sense_are_refused() {
    let authority = created();
    let random = SystemRandom::new();
    let refused = |authority: &Authority, step: &Step| {
        let error = authority
            .take(step, &policy(), start(), &random)
            .unwrap_err();
        error.to_string()
    };
    let active = authority.active_root().name.clone();
    assert!(refused(&authority, &Step::ActivateRoot).contains("prepare one first"));
    assert!(refused(&authority, &Step::RetireRoot(active)).contains("not retiring"));
    assert!(refused(&authority, &Step::RevokeRoot("x".into())).contains("its roots are root-"));
    assert!(refused(&authority, &Step::ActivateJwtKey).contains("prepare one first"));
    let prepared = take(&authority, Step::PrepareRoot, 0);
    assert!(refused(&prepared, &Step::PrepareRoot).contains("prepared already"));
}

#[test]
fn keys_of_tokens_overlap() {
    let authority = created();
    let at = 2000;
    let authority = take(&authority, Step::RotateIssuing, at);
    assert_eq!(due(&authority, at - 1, Acknowledged::Nobody), None);
    assert_eq!(
        due(&authority, at, Acknowledged::Nobody),
        Some(Step::PrepareJwtKey)
    );
    let prepared = take(&authority, Step::PrepareJwtKey, at);
    assert_eq!(due(&prepared, at + 4, Acknowledged::Nobody), None);
    assert_eq!(
        due(&prepared, at + 5, Acknowledged::Nobody),
        Some(Step::ActivateJwtKey)
    );
    let active = take(&prepared, Step::ActivateJwtKey, at + 5);
    let stages: Vec<_> = active.jwt_keys().iter().map(|key| key.stage).collect();
    assert_eq!(stages, [Stage::Retiring, Stage::Active]);
    assert_eq!(due(&active, at + 10, Acknowledged::Nobody), None);
    let old = active.jwt_keys()[0].id.clone();
    assert_eq!(
        due(&active, at + 11, Acknowledged::Nobody),
        Some(Step::RetireJwtKey(old.clone()))
    );
    let retired = take(&active, Step::RetireJwtKey(old), at + 11);
    assert_eq!(retired.jwt_keys().len(), 1);
}

#[test]
fn an_authority_survives_storage_and_shows_no_key() {
    let authority = take(&created(), Step::PrepareRoot, 1);
    let bytes = authority.to_bytes();
    let again = Authority::from_bytes(&bytes).unwrap();
    assert_eq!(*again.to_bytes(), *bytes);
    assert_eq!(bundle(&again), bundle(&authority));
    assert_eq!(again.roots()[1].lineage.len(), 1);
    // One that was stored before roots certified each other has the same form, without.
    let first = String::from_utf8(created().to_bytes().to_vec()).unwrap();
    assert!(!first.contains("lineage"), "{first}");
    assert!(Authority::from_bytes(first.as_bytes()).is_ok());
    let shown = format!("{again:?}");
    assert!(shown.contains("PrivateKey(…)"), "{shown}");
    let canary = |key: &PrivateKey| {
        use base64::Engine as _;
        let secret = &key.pkcs8()[36..68];
        assert!(!shown.contains(&base64::engine::general_purpose::STANDARD.encode(secret)));
        assert!(!shown.contains(&format!("{secret:?}")[1..90]));
    };
    canary(again.issuing().key());
    canary(again.active_root().signer.key());
    let text = std::str::from_utf8(&bytes).unwrap();
    for damaged in [
        text.replace("\"version\":1", "\"version\":2"),
        text.replace("\"active\"", "\"retiring\""),
        text.replacen("\"key\":\"", "\"key\":\"AAAA", 1),
        text[..text.len() / 2].to_owned(),
    ] {
        let error = Authority::from_bytes(damaged.as_bytes()).unwrap_err();
        assert!(error.to_string().len() < 100, "no key in {error}");
    }
}

/// A proxy: what it trusts and what it shows.
struct Proxy {
    sequence: u64,
    bundle: Vec<CertificateDer<'static>>,
    svid: X509Svid,
}

impl Proxy {
    fn of(authority: &Authority, now: Timestamp) -> Self {
        Self {
            sequence: authority.sequence(),
            bundle: bundle(authority),
            svid: signed(authority, now),
        }
    }
}

#[derive(Clone, Debug)]
enum Happens {
    /// Time goes by, in minutes.
    Wait(u8),
    /// A proxy takes the newest bundle, and later the newest certificate: they come on two streams.
    Bundle(usize),
    Certificate(usize),
    /// An operator forces a rotation.
    Root,
    Issuing,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (1..25_u8).prop_map(Happens::Wait),
        3 => (0..3_usize).prop_map(Happens::Bundle),
        3 => (0..3_usize).prop_map(Happens::Certificate),
        1 => Just(Happens::Root),
        1 => Just(Happens::Issuing),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn nobody_ever_distrusts_anybody(history in proptest::collection::vec(happens(), 1..60)) {
        let (policy, random) = (policy(), SystemRandom::new());
        let (mut authority, mut now) = (created(), start());
        let mut proxies: Vec<Proxy> = (0..3).map(|_| Proxy::of(&authority, now)).collect();
        for happens in history {
            match happens {
                Happens::Wait(minutes) => now += MINUTE * i32::from(minutes),
                Happens::Bundle(n) => {
                    proxies[n].sequence = authority.sequence();
                    proxies[n].bundle = bundle(&authority);
                }
                Happens::Certificate(n) => proxies[n].svid = signed(&authority, now),
                Happens::Root => {
                    authority = authority.take(&Step::PrepareRoot, &policy, now, &random).unwrap_or(authority);
                }
                Happens::Issuing => {
                    authority = authority.take(&Step::RotateIssuing, &policy, now, &random).unwrap();
                }
            }
            // Certificates are renewed before they expire.
            for proxy in &mut proxies {
                if proxy.svid.not_after.duration_since(now) < MINUTE * 30 {
                    proxy.svid = signed(&authority, now);
                }
            }
            let seen = proxies.iter().map(|proxy| proxy.sequence).min().unwrap();
            if let Some(step) = authority.due(&policy, now, Acknowledged::Sequence(seen)) {
                authority = authority.take(&step, &policy, now, &random).unwrap();
            }
            let fresh = Proxy::of(&authority, now);
            for a in proxies.iter().chain([&fresh]) {
                for b in proxies.iter().chain([&fresh]) {
                    prop_assert!(trusts(&a.bundle, &b.svid, now));
                }
            }
        }
    }
}

#[test]
fn an_authority_of_before_gets_a_sealing_key_and_old_ones_are_kept() {
    let names = |authority: &Authority| -> Vec<String> {
        let keys = authority.sealing_keys().iter();
        keys.map(|key| key.name().to_owned()).collect()
    };
    let mut stored: serde_json::Value = serde_json::from_slice(&created().to_bytes()).unwrap();
    assert!(
        stored
            .as_object_mut()
            .unwrap()
            .remove("sealing_keys")
            .is_some()
    );
    let old = Authority::from_bytes(stored.to_string().as_bytes()).unwrap();
    assert_eq!(names(&old).len(), 0);
    let step = due(&old, 0, Acknowledged::Unknown);
    assert_eq!(step, Some(Step::RotateSealingKey));
    let first = take(&old, Step::RotateSealingKey, 0);
    assert_eq!(due(&first, 0, Acknowledged::Unknown), None);
    let second = take(&first, Step::RotateSealingKey, 1);
    assert_eq!(names(&second)[1..], names(&first)[..]);
    let restored = Authority::from_bytes(&second.to_bytes()).unwrap();
    assert_eq!(names(&restored), names(&second));
    let public = |authority: &Authority| authority.sealing_keys()[0].sealing_key();
    assert_eq!(public(&restored), public(&second));
    assert_eq!(second.sequence(), old.sequence(), "peers trust the same");
}
