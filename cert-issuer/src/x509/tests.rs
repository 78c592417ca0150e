//! The rules of X.509-SVIDs, one test each, and verifiers that nobody here wrote.

#![allow(clippy::unwrap_used)]

mod verifiers;

use ring::rand::{SecureRandom, SystemRandom};

use mtls::leaf;

use super::*;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn key() -> PrivateKey {
    PrivateKey::generate(&SystemRandom::new()).unwrap()
}

fn serial() -> Serial {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).unwrap();
    Serial(bytes)
}

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn domain() -> TrustDomain {
    "td".parse().unwrap()
}

fn orders() -> SpiffeId {
    "spiffe://td/ns/shop/sa/orders".parse().unwrap()
}

fn root() -> Signer {
    Signer::root(
        &domain(),
        "root 1",
        key(),
        serial(),
        now(),
        now() + HOUR * 1000,
    )
    .unwrap()
}

fn issuing(root: &Signer) -> Signer {
    let not_after = now() + HOUR * 100;
    root.issuing("issuing 1", key(), serial(), now(), not_after)
        .unwrap()
}

fn svid(issuer: &Signer, key: &PublicKey) -> X509Svid {
    issuer
        .svid(&orders(), key, serial(), now(), HOUR, &[])
        .unwrap()
}

/// The certificate of a workload, made by a fresh authority.
fn certificate() -> CertificateDer<'static> {
    svid(&issuing(&root()), &key().public()).chain.remove(0)
}

#[test]
fn a_leaf_names_its_identity_and_nothing_else() {
    let der = certificate();
    let parsed = parse(&der).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    assert_eq!(
        names.value.general_names,
        [x509_parser::extensions::GeneralName::URI(
            "spiffe://td/ns/shop/sa/orders"
        )]
    );
    // Without a subject the extension must be critical (RFC 5280, section 4.1.2.6).
    assert_eq!(parsed.subject().iter().count(), 0);
    assert!(names.critical);
}

#[test]
fn a_leaf_cannot_sign() {
    let der = certificate();
    let parsed = parse(&der).unwrap();
    assert!(!parsed.is_ca());
    let usage = parsed.key_usage().unwrap().unwrap();
    assert!(usage.critical);
    assert_eq!(usage.value.flags, 1, "digital signature alone");
    let extended = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.client_auth && extended.server_auth && !extended.any);
}

#[test]
fn authorities_can_only_sign() {
    let root = root();
    let issuing = issuing(&root);
    for (signer, below) in [(&root, None), (&issuing, Some(0))] {
        let parsed = parse(signer.certificate()).unwrap();
        let constraints = parsed.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca);
        assert_eq!(constraints.value.path_len_constraint, below);
        let usage = parsed.key_usage().unwrap().unwrap();
        assert!(usage.critical);
        assert!(usage.value.key_cert_sign() && !usage.value.digital_signature());
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        assert_eq!(
            names.value.general_names,
            [x509_parser::extensions::GeneralName::URI("spiffe://td")],
            "the trust domain, without a path"
        );
    }
}

#[test]
fn validity_begins_ten_seconds_back_and_ends_within_the_issuers() {
    let issuer = issuing(&root());
    let key = key().public();
    let of = |ttl| {
        let svid = issuer
            .svid(&orders(), &key, serial(), now(), ttl, &[])
            .unwrap();
        let parsed = parse(&svid.chain[0]).unwrap();
        let validity = parsed.validity();
        let seconds = |at: i64| at - now().as_second();
        assert_eq!(validity.not_after.timestamp(), svid.not_after.as_second());
        (
            seconds(validity.not_before.timestamp()),
            seconds(validity.not_after.timestamp()),
        )
    };
    assert_eq!(of(HOUR), (-10, 3600));
    assert_eq!(of(HOUR * 500), (-10, 3600 * 100), "cut to the issuer's");
    let late = now() + HOUR * 100;
    let error = issuer.svid(&orders(), &key, serial(), late, HOUR, &[]);
    assert!(
        matches!(error, Err(X509Error::IssuerExpired(_))),
        "{error:?}"
    );
    let root = root();
    let issuing = root
        .issuing("issuing", self::key(), serial(), now(), now() + HOUR * 5000)
        .unwrap();
    assert_eq!(issuing.not_after(), root.not_after());
}

#[test]
fn serial_numbers_are_128_bits_and_as_given() {
    let issuer = issuing(&root());
    let key = key().public();
    let mut seen = std::collections::HashSet::new();
    for bytes in [[0; 16], [0xff; 16], serial().0, serial().0] {
        let svid = issuer
            .svid(&orders(), &key, Serial(bytes), now(), HOUR, &[])
            .unwrap();
        let parsed = parse(&svid.chain[0]).unwrap();
        let raw = parsed.raw_serial();
        assert_eq!(raw.len(), 16);
        assert_eq!(raw[1..], bytes[1..]);
        assert_eq!(raw[0] & 0xc0, 0x40, "positive, and as long as it can be");
        assert!(seen.insert(raw.to_vec()));
    }
}

#[test]
fn identities_of_others_are_not_certified() {
    let issuer = issuing(&root());
    let key = key().public();
    let sign = |id: &str| issuer.svid(&id.parse().unwrap(), &key, serial(), now(), HOUR, &[]);
    let foreign = sign("spiffe://other/ns/shop/sa/orders");
    assert!(
        matches!(foreign, Err(X509Error::Foreign { .. })),
        "{foreign:?}"
    );
    assert!(matches!(sign("spiffe://td"), Err(X509Error::NoPath(_))));
}

#[test]
fn a_request_gets_a_certificate_without_what_it_asked_for() {
    let issuer = issuing(&root());
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["evil.example".to_owned()]).unwrap();
    let other = "spiffe://td/ns/other/sa/admin".try_into().unwrap();
    params.subject_alt_names.push(SanType::URI(other));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let request = params.serialize_request(&key).unwrap();
    let public = PublicKey::of_request(request.der()).unwrap();
    let certificate = svid(&issuer, &public).chain.remove(0);
    let (id, not_after) = leaf(&certificate).unwrap();
    assert_eq!((id, not_after), (orders(), now() + HOUR));
    assert!(!certificate.windows(4).any(|bytes| bytes == b"evil"));
}

#[test]
fn a_server_may_have_names_beside_its_identity() {
    let issuer = issuing(&root());
    let key = key().public();
    let sign = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        issuer.svid(&orders(), &key, serial(), now(), HOUR, &names)
    };
    let svid = sign(&["cert-issuer", "127.0.0.1", "::1"]).unwrap();
    assert_eq!(leaf(&svid.chain[0]).unwrap().0, orders(), "one URI still");
    let parsed = parse(&svid.chain[0]).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names.len(), 4);
    assert!(matches!(sign(&["a b"]), Err(X509Error::ServerName(name)) if name == "a b"));
}

#[test]
fn a_leaf_is_checked_rule_by_rule() {
    let issuer = issuing(&root());
    let subject = key();
    let made = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![uri(&orders()).unwrap()];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        change(&mut params);
        let certificate = params
            .signed_by(&subject, &issuer.issuer().unwrap())
            .unwrap();
        leaf(certificate.der())
            .map(|(id, _)| id)
            .map_err(|error| error.to_string())
    };
    assert_eq!(made(&|_| {}).unwrap(), orders());
    let text = |uri: &str| SanType::URI(uri.try_into().unwrap());
    type Change<'a> = &'a dyn Fn(&mut CertificateParams);
    let table: [(Change<'_>, &str); 8] = [
        (
            &|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
            "certificate authority",
        ),
        (&|p| p.key_usages.clear(), "no key usage"),
        (
            &|p| p.key_usages.push(KeyUsagePurpose::KeyCertSign),
            "not that of a workload",
        ),
        (
            &|p| p.key_usages.push(KeyUsagePurpose::CrlSign),
            "not that of a workload",
        ),
        (
            &|p| p.subject_alt_names.clear(),
            "no subject alternative name",
        ),
        (
            &|p| p.subject_alt_names = vec![SanType::DnsName("a.b".try_into().unwrap())],
            "no URI name",
        ),
        (
            &|p| p.subject_alt_names.push(text("https://a.b")),
            "more than one URI",
        ),
        (
            &|p| p.subject_alt_names = vec![text("https://a.b")],
            "spiffe://",
        ),
    ];
    for (change, rule) in table {
        let error = made(change).unwrap_err();
        assert!(error.contains(rule), "{error}");
    }
    assert!(leaf(&CertificateDer::from(vec![1, 2, 3])).is_err());
}

#[test]
fn a_signer_is_restored_with_its_own_key_only() {
    let root = root();
    let issuer = issuing(&root);
    let stored = PrivateKey::from_pkcs8(issuer.key().pkcs8().clone()).unwrap();
    let again = Signer::restore(&domain(), issuer.certificate().clone(), stored).unwrap();
    assert_eq!(again.not_after(), issuer.not_after());
    svid(&again, &key().public());
    let other = Signer::restore(&domain(), issuer.certificate().clone(), key());
    assert!(matches!(other, Err(X509Error::OtherKey)));
}
