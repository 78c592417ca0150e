//! What we sign, as OpenSSL, webpki, the SPIFFE library for Rust and Python's `cryptography` see it.

use std::process::Command;
use std::time::Duration;

use rustls::pki_types::UnixTime;

use super::*;

/// A chain that is valid at the machine's own time, and its root.
struct Signed {
    root: Signer,
    svid: X509Svid,
    key: PrivateKey,
}

impl Signed {
    fn new() -> Self {
        let now = Timestamp::now();
        let root = Signer::root(&domain(), "root 1", key(), serial(), now, now + HOUR * 9).unwrap();
        let issuer = root
            .issuing("issuing 1", key(), serial(), now, now + HOUR * 5)
            .unwrap();
        let key = key();
        let svid = issuer
            .svid(
                &orders(),
                &key.public(),
                serial(),
                now,
                HOUR,
                &["localhost".into()],
            )
            .unwrap();
        Self { root, svid, key }
    }

    /// `root.pem`, `leaf.pem`, `issuing.pem` in a directory.
    fn files(&self) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let [leaf, issuing] = &self.svid.chain[..] else {
            panic!("two certificates")
        };
        for (name, certificate) in [
            ("root.pem", self.root.certificate()),
            ("leaf.pem", leaf),
            ("issuing.pem", issuing),
        ] {
            std::fs::write(dir.path().join(name), certificates_pem([certificate])).unwrap();
        }
        dir
    }
}

fn run(command: &mut Command) -> (bool, String) {
    let done = command.output().unwrap();
    let text = [done.stdout, done.stderr].concat();
    (
        done.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn openssl_verifies_the_chain() {
    let signed = Signed::new();
    let dir = signed.files();
    let verify = |root: &str, purpose: &str| {
        run(Command::new("openssl")
            .current_dir(dir.path())
            .args([
                "verify",
                "-x509_strict",
                "-purpose",
                purpose,
                "-CAfile",
                root,
            ])
            .args(["-untrusted", "issuing.pem", "leaf.pem"]))
    };
    for purpose in ["sslserver", "sslclient"] {
        let (fine, text) = verify("root.pem", purpose);
        assert!(fine, "{text}");
    }
    let other = Signed::new().root;
    let pem = certificates_pem([other.certificate()]);
    std::fs::write(dir.path().join("other.pem"), pem).unwrap();
    assert!(!verify("other.pem", "sslserver").0, "of another root");
}

#[test]
fn openssl_finds_the_way_to_an_older_root() {
    let signed = Signed::new();
    let dir = signed.files();
    let now = Timestamp::now();
    let old = Signer::root(&domain(), "root 0", key(), serial(), now, now + HOUR * 2).unwrap();
    let cross = old.cross("root 1", &signed.root, serial(), now).unwrap();
    let write = |name: &str, certificates: &[&CertificateDer<'static>]| {
        let pem = certificates_pem(certificates.iter().copied());
        std::fs::write(dir.path().join(name), pem).unwrap();
    };
    write("old.pem", &[old.certificate()]);
    write("served.pem", &[&signed.svid.chain[1], &cross]);
    let verify = |root: &str, untrusted: &str| {
        run(Command::new("openssl")
            .current_dir(dir.path())
            .args(["verify", "-x509_strict", "-purpose", "sslserver"])
            .args(["-CAfile", root, "-untrusted", untrusted, "leaf.pem"]))
    };
    for root in ["old.pem", "root.pem"] {
        let (fine, text) = verify(root, "served.pem");
        assert!(fine, "{root}: {text}");
    }
    assert!(!verify("old.pem", "issuing.pem").0, "nothing leads there");
    let parsed = parse(&cross).unwrap();
    let end = not_after(&parsed).unwrap();
    assert_eq!(end.as_second(), (now + HOUR * 2).as_second());
    assert_eq!(
        parsed.subject(),
        parse(signed.root.certificate()).unwrap().subject()
    );
}

#[test]
fn webpki_verifies_the_chain_for_both_sides() {
    let signed = Signed::new();
    let verify = |root: &Signer, intermediates: &[CertificateDer<'_>]| {
        let anchors = [webpki::anchor_from_trusted_cert(root.certificate()).unwrap()];
        let leaf = webpki::EndEntityCert::try_from(&signed.svid.chain[0]).unwrap();
        let now = Timestamp::now().as_second().try_into().unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        [
            webpki::KeyUsage::client_auth(),
            webpki::KeyUsage::server_auth(),
        ]
        .map(|usage| {
            let algorithms = webpki::ALL_VERIFICATION_ALGS;
            leaf.verify_for_usage(algorithms, &anchors, intermediates, now, usage, None, None)
                .map(drop)
        })
    };
    let issuing = &signed.svid.chain[1..];
    assert_eq!(verify(&signed.root, issuing), [Ok(()), Ok(())]);
    assert!(
        verify(&signed.root, &[])[0].is_err(),
        "the issuing one is needed"
    );
    assert!(verify(&Signed::new().root, issuing)[0].is_err());
}

#[test]
fn the_spiffe_library_reads_identity_and_key() {
    let signed = Signed::new();
    let chain: Vec<u8> = signed.svid.chain.iter().flat_map(|c| c.to_vec()).collect();
    let svid = spiffe::X509Svid::parse_from_der(&chain, signed.key.pkcs8()).unwrap();
    assert_eq!(svid.spiffe_id().to_string(), orders().to_string());
    let domain: spiffe::TrustDomain = "td".try_into().unwrap();
    let bundle = spiffe::X509Bundle::parse_from_der(domain, signed.root.certificate()).unwrap();
    assert_eq!(bundle.authorities().len(), 1);
}

#[test]
fn python_cryptography_verifies_the_chain() {
    const SCRIPT: &str = r#"
import sys, datetime
from cryptography import x509
from cryptography.x509 import verification as v
load = lambda name: x509.load_pem_x509_certificate(open(name, "rb").read())
root, issuing, leaf = load("root.pem"), load("issuing.pem"), load("leaf.pem")
verifier = v.PolicyBuilder().store(v.Store([root])).build_client_verifier()
names = [n.value for n in verifier.verify(leaf, [issuing]).subjects]
verifier = v.PolicyBuilder().store(v.Store([root])).build_server_verifier(x509.DNSName("localhost"))
verifier.verify(leaf, [issuing])
print(names)
"#;
    let signed = Signed::new();
    let dir = signed.files();
    let tools = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools");
    let python = tools.join("python/bin/python").canonicalize();
    let python = python.expect(".tools/python is missing: run tests/install-tools");
    let (fine, text) = run(Command::new(python)
        .current_dir(dir.path())
        .args(["-c", SCRIPT]));
    assert!(fine, "{text}");
    assert!(text.contains(&orders().to_string()), "{text}");
}
