//! Rules of `TlsSecret`. None of them quotes a value.

use super::{Findings, Path};
use crate::certificate::{self, Facts, revocation};
use crate::spec::TlsSecret;

pub(super) fn validate(spec: &TlsSecret, path: &Path, findings: &mut Findings) {
    let (certificate, key) = (path.at("certificate"), path.at("privateKey"));
    let has_key = spec.private_key.is_some() || spec.sealed_private_key.is_some();
    match (&spec.certificate, has_key, &spec.ca_certificates) {
        (None, false, None) => findings.error(
            &certificate,
            "is missing: there must be a certificate with its privateKey, or caCertificates, or both",
        ),
        (Some(_), false, _) => findings.error(&key, "is missing: a certificate needs its key"),
        (None, true, _) => findings.error(&certificate, "is missing: a key needs its certificate"),
        _ => {}
    }
    let own = read(spec.certificate.as_deref(), &certificate, findings);
    read(
        spec.ca_certificates.as_deref(),
        &path.at("caCertificates"),
        findings,
    );
    revoked(spec, &path.at("caCrl"), findings);
    if let Some(at) = certificate::broken_chain(&own) {
        let next = at + 1;
        let text = format!(
            "the certificate {at} is not signed by the certificate {next}; the server's own comes first, then the one that signed it"
        );
        findings.warn(&certificate, text);
    }
    let Some(first) = own.first() else { return };
    if let Err(rule) = &first.kind {
        findings.error(&certificate, rule.as_str());
    }
    match (&spec.private_key, &spec.sealed_private_key) {
        (Some(given), _) => match given.public_key_sha256() {
            Ok(hash) => findings.ensure(
                hash == first.public_key_sha256(),
                &key,
                "does not belong to the certificate (the first one, if there are several)",
            ),
            Err(rule) => findings.error(&key, rule),
        },
        (None, Some(sealed)) => findings.ensure(
            sealed.public_key_sha256 == first.public_key_sha256(),
            &certificate,
            "is not the one that the stored key belongs to; give its privateKey with it",
        ),
        (None, None) => {}
    }
}

fn revoked(spec: &TlsSecret, path: &Path, findings: &mut Findings) {
    let Some(lists) = &spec.ca_crl else { return };
    let Some(authorities) = &spec.ca_certificates else {
        findings.error(
            path,
            "needs caCertificates, because it says what those have revoked",
        );
        return;
    };
    match revocation::lists(lists, authorities) {
        Err(rule) => findings.error(path, rule),
        Ok(lists) => {
            for authority in lists.without {
                let text = format!(
                    "has no list of {authority:?}, so every peer of this authority is refused; add its list, which may be empty"
                );
                findings.warn(path, text);
            }
        }
    }
}

fn read(text: Option<&str>, path: &Path, findings: &mut Findings) -> Vec<Facts> {
    match text.map(certificate::certificates) {
        None => Vec::new(),
        Some(Ok(certificates)) => certificates,
        Some(Err(rule)) => {
            findings.error(path, rule);
            Vec::new()
        }
    }
}
