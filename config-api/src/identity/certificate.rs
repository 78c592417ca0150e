//! The subject of a client certificate, once TLS has verified its chain.
//!
//! *Invariant:* nothing here verifies a signature; only certificates that rustls accepted come here.

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::tokens::Subject;

/// A client certificate that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    pub(crate) subject: Subject,
    /// Seconds since 1970: a connection may live longer than the certificate that opened it.
    pub(crate) not_after: i64,
}

impl Certificate {
    /// Who this certificate names: the one SPIFFE URI among its subject alternative names, or else `cert:` and its common
    /// name, with `cert:` and each organisation as groups.
    ///
    /// # Errors
    /// If it names nobody, or more than one.
    pub(crate) fn of(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) = X509Certificate::from_der(der)
            .map_err(|error| format!("it cannot be read: {error}"))?;
        Ok(Self {
            subject: subject(&certificate)?,
            not_after: certificate.validity().not_after.timestamp(),
        })
    }
}

fn subject(certificate: &X509Certificate<'_>) -> Result<Subject, String> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| format!("its subject alternative names cannot be read: {error}"))?;
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    if uris.iter().any(|uri| uri.starts_with("spiffe://")) {
        // X.509-SVID, section 2: exactly one URI.
        return match uris.as_slice() {
            [one] => Ok(Subject {
                name: (*one).to_owned(),
                groups: Vec::new(),
            }),
            many => Err(format!(
                "it has {} URIs; a SPIFFE certificate has exactly one",
                many.len()
            )),
        };
    }
    let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        value
            .as_str()
            .ok()
            .filter(|t| !t.is_empty())
            .map(|t| format!("cert:{t}"))
    };
    let common: Vec<String> = certificate
        .subject()
        .iter_common_name()
        .filter_map(text)
        .collect();
    let groups = certificate
        .subject()
        .iter_organization()
        .filter_map(text)
        .collect();
    match <[String; 1]>::try_from(common) {
        Ok([name]) => Ok(Subject { name, groups }),
        Err(names) => Err(format!(
            "it has no SPIFFE URI and {} common names; it must have one of either",
            names.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn of(uris: &[&str], common: &[&str], organisation: &[&str]) -> Result<Subject, String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in common {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        for name in organisation {
            params
                .distinguished_name
                .push(DnType::OrganizationName, *name);
        }
        for uri in uris {
            params
                .subject_alt_names
                .push(SanType::URI((*uri).try_into().unwrap()));
        }
        let key = KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        Certificate::of(made.der()).map(|c| c.subject)
    }

    #[test]
    fn a_certificate_names_one_subject() {
        let id = "spiffe://cluster.local/ns/shop/sa/web";
        assert_eq!(
            of(&[id], &["alice"], &["x"]).unwrap(),
            Subject {
                name: id.into(),
                groups: vec![]
            }
        );
        let alice = of(&["https://a"], &["alice"], &["shop"]).unwrap();
        assert_eq!(
            (alice.name.as_str(), alice.groups),
            ("cert:alice", vec!["cert:shop".to_owned()])
        );
        // A common name is never taken for a SPIFFE identity.
        assert_eq!(of(&[], &[id], &[]).unwrap().name, format!("cert:{id}"));
        assert!(of(&[id, "spiffe://cluster.local/other"], &["a"], &[]).is_err());
        assert!(of(&[id, "https://a"], &["a"], &[]).is_err());
        assert!(of(&[], &[], &["x"]).is_err());
    }
}
