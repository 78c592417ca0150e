//! Whose a certificate is.

use jiff::Timestamp;
use model::SpiffeId;
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A certificate is no workload's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LeafError(String);

/// The identity in a certificate and when it ends, by the rules that [the
/// standard](https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md#52-leaf-validation) has a leaf checked:
/// exactly one URI name, no authority to sign. Whether its chain leads to a root is for the TLS library.
///
/// # Errors
/// The rule that it breaks.
pub fn leaf(certificate: &CertificateDer<'_>) -> Result<(SpiffeId, Timestamp), LeafError> {
    let broken = |what: &str| LeafError(what.to_owned());
    let (rest, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| broken("it is no certificate"))?;
    if !rest.is_empty() {
        return Err(broken("there is something after it"));
    }
    if parsed.is_ca() {
        return Err(broken("it is a certificate authority's"));
    }
    let usage = parsed
        .key_usage()
        .map_err(|_| broken("its key usage cannot be read"))?
        .ok_or_else(|| broken("it has no key usage"))?
        .value;
    if !usage.digital_signature() || usage.key_cert_sign() || usage.crl_sign() {
        return Err(broken("its key usage is not that of a workload"));
    }
    let names = parsed
        .subject_alternative_name()
        .map_err(|_| broken("its names cannot be read"))?
        .ok_or_else(|| broken("it has no subject alternative name"))?;
    let mut uris = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
    let id = match (uris.next(), uris.next()) {
        (Some(uri), None) => uri
            .parse()
            .map_err(|error: model::SpiffeIdError| broken(&error.to_string()))?,
        (None, _) => return Err(broken("it has no URI name")),
        (Some(_), Some(_)) => return Err(broken("it has more than one URI name")),
    };
    let end = Timestamp::from_second(parsed.validity().not_after.timestamp())
        .map_err(|_| broken("its end is no time"))?;
    Ok((id, end))
}
