//! Certificates: roots, issuing certificates, and the X.509-SVIDs they sign, by the rules of the X509-SVID standard.
//!
//! Keys, serial numbers and the time come in as values. *Invariant:* what a certificate says is decided here alone;
//! nothing of a request reaches it but the public key.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use model::{SpiffeId, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::key::{PrivateKey, PublicKey};
use crate::pem;

/// How far back a certificate's validity begins, for peers whose clocks are late.
pub const LEEWAY: SignedDuration = SignedDuration::from_secs(10);

/// Why a certificate cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum X509Error {
    /// The issuer's own validity is over.
    #[error("the issuing certificate expired at {0}; rotate it")]
    IssuerExpired(Timestamp),
    /// Of another trust domain.
    #[error("{id} is not of the trust domain {trust_domain}")]
    Foreign {
        /// The identity.
        id: SpiffeId,
        /// The issuer's trust domain.
        trust_domain: TrustDomain,
    },
    /// A workload's certificate names a workload, so its SPIFFE ID has a path.
    #[error("{0} has no path; only certificate authorities are named by a trust domain alone")]
    NoPath(SpiffeId),
    /// Not a name for a server.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    ServerName(String),
    /// The certificate cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Certificate(String),
    /// The certificate is for another key.
    #[error("the certificate is not for the private key beside it")]
    OtherKey,
    /// It could not be encoded or signed.
    #[error("the certificate could not be signed")]
    Sign(#[from] rcgen::Error),
}

/// A serial number: 128 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serial(pub [u8; 16]);

impl From<Serial> for SerialNumber {
    fn from(serial: Serial) -> Self {
        // Two bits are fixed, so that a serial number is positive and always of 16 bytes.
        let mut bytes = serial.0;
        bytes[0] = bytes[0] & 0x7f | 0x40;
        SerialNumber::from_slice(&bytes)
    }
}

/// A certificate that signs others, and its key.
#[derive(Debug)]
pub struct Signer {
    trust_domain: TrustDomain,
    certificate: CertificateDer<'static>,
    not_after: Timestamp,
    key: PrivateKey,
}

impl Signer {
    /// A self-signed root. `name` tells it from the domain's other roots.
    ///
    /// # Errors
    /// [`X509Error::Sign`].
    pub fn root(
        trust_domain: &TrustDomain,
        name: &str,
        key: PrivateKey,
        serial: Serial,
        now: Timestamp,
        not_after: Timestamp,
    ) -> Result<Self, X509Error> {
        // No limit of the path: a root certifies its successor as well.
        let params = authority(trust_domain, name, None, serial, now, not_after)?;
        let certificate = params.self_signed(&key)?;
        Self::restore(trust_domain, certificate.der().clone(), key)
    }

    /// An issuing certificate signed by this root, valid until `not_after` or as long as the root.
    ///
    /// # Errors
    /// [`X509Error::IssuerExpired`], [`X509Error::Sign`].
    pub fn issuing(
        &self,
        name: &str,
        key: PrivateKey,
        serial: Serial,
        now: Timestamp,
        not_after: Timestamp,
    ) -> Result<Self, X509Error> {
        let not_after = self.within(now, not_after)?;
        let params = authority(&self.trust_domain, name, Some(0), serial, now, not_after)?;
        let certificate = params.signed_by(&key, &self.issuer()?)?;
        Self::restore(&self.trust_domain, certificate.der().clone(), key)
    }

    /// Certifies the root that comes after this one: with it, who trusts this root accepts what that one signs, until the
    /// first of the two expires.
    ///
    /// # Errors
    /// [`X509Error::IssuerExpired`], [`X509Error::Sign`].
    pub fn cross(
        &self,
        name: &str,
        successor: &Self,
        serial: Serial,
        now: Timestamp,
    ) -> Result<CertificateDer<'static>, X509Error> {
        let not_after = self.within(now, successor.not_after)?;
        let params = authority(&self.trust_domain, name, None, serial, now, not_after)?;
        let certificate = params.signed_by(&successor.key, &self.issuer()?)?;
        Ok(certificate.der().clone())
    }

    /// A certificate and its key, as they were stored.
    ///
    /// # Errors
    /// [`X509Error::Certificate`], [`X509Error::OtherKey`].
    pub fn restore(
        trust_domain: &TrustDomain,
        certificate: CertificateDer<'static>,
        key: PrivateKey,
    ) -> Result<Self, X509Error> {
        let parsed = parse(&certificate)?;
        if parsed.public_key().raw != rcgen::PublicKeyData::subject_public_key_info(&key) {
            return Err(X509Error::OtherKey);
        }
        Ok(Self {
            trust_domain: trust_domain.clone(),
            not_after: not_after(&parsed)?,
            certificate,
            key,
        })
    }

    /// Certifies that a key belongs to an identity. Valid from [`LEEWAY`] before now for `ttl`, and never longer than the
    /// issuer. `server_names` are DNS names and addresses for clients that know a server by these; a workload has none.
    ///
    /// # Errors
    /// Every variant but [`X509Error::OtherKey`].
    pub fn svid(
        &self,
        id: &SpiffeId,
        key: &PublicKey,
        serial: Serial,
        now: Timestamp,
        ttl: SignedDuration,
        server_names: &[String],
    ) -> Result<X509Svid, X509Error> {
        if *id.trust_domain() != self.trust_domain {
            return Err(X509Error::Foreign {
                id: id.clone(),
                trust_domain: self.trust_domain.clone(),
            });
        }
        if id.path().is_empty() {
            return Err(X509Error::NoPath(id.clone()));
        }
        let not_after = self.within(now, now + ttl)?;
        let mut params = CertificateParams::default();
        // The SPIFFE ID is the only subject; the extension that carries it is critical then.
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![uri(id)?];
        for name in server_names {
            params.subject_alt_names.push(server_name(name)?);
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        validity(&mut params, serial, now, not_after)?;
        let certificate = params.signed_by(key, &self.issuer()?)?;
        Ok(X509Svid {
            id: id.clone(),
            chain: vec![certificate.der().clone(), self.certificate.clone()],
            not_after,
        })
    }

    /// The certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its key.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// When it expires.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    fn issuer(&self) -> Result<Issuer<'_, &PrivateKey>, X509Error> {
        Ok(Issuer::from_ca_cert_der(&self.certificate, &self.key)?)
    }

    /// The end of a validity, cut to the issuer's.
    fn within(&self, now: Timestamp, wanted: Timestamp) -> Result<Timestamp, X509Error> {
        if self.not_after <= now {
            return Err(X509Error::IssuerExpired(self.not_after));
        }
        Ok(wanted.min(self.not_after))
    }
}

/// A signed identity: the certificate and what leads from it towards a root, which is not part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct X509Svid {
    /// Whose it is.
    pub id: SpiffeId,
    /// The certificate first, then the issuing certificate.
    pub chain: Vec<CertificateDer<'static>>,
    /// When it expires.
    pub not_after: Timestamp,
}

impl X509Svid {
    /// The chain in PEM.
    pub fn pem(&self) -> String {
        certificates_pem(&self.chain)
    }
}

/// Certificates in PEM, one after the other.
pub fn certificates_pem<'a>(
    certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>,
) -> String {
    let each = certificates
        .into_iter()
        .map(|certificate| pem::encode("CERTIFICATE", certificate).to_string());
    each.collect()
}

/// The contents of a certificate authority's certificate.
fn authority(
    trust_domain: &TrustDomain,
    name: &str,
    below: Option<u8>,
    serial: Serial,
    now: Timestamp,
    not_after: Timestamp,
) -> Result<CertificateParams, X509Error> {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, trust_domain.as_str());
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    params.subject_alt_names = vec![uri(&trust_domain.id())?];
    params.is_ca = IsCa::Ca(match below {
        Some(below) => BasicConstraints::Constrained(below),
        None => BasicConstraints::Unconstrained,
    });
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    validity(&mut params, serial, now, not_after)?;
    Ok(params)
}

fn validity(
    params: &mut CertificateParams,
    serial: Serial,
    now: Timestamp,
    not_after: Timestamp,
) -> Result<(), X509Error> {
    let date = |at: Timestamp| {
        OffsetDateTime::from_unix_timestamp(at.as_second())
            .map_err(|error| X509Error::Certificate(error.to_string()))
    };
    params.serial_number = Some(serial.into());
    params.not_before = date(now - LEEWAY)?;
    params.not_after = date(not_after)?;
    Ok(())
}

fn uri(id: &SpiffeId) -> Result<SanType, X509Error> {
    Ok(SanType::URI(id.to_string().try_into()?))
}

fn server_name(name: &str) -> Result<SanType, X509Error> {
    let wrong = || X509Error::ServerName(name.to_owned());
    match name.parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => {
            rustls::pki_types::DnsName::try_from(name).map_err(|_| wrong())?;
            Ok(SanType::DnsName(name.try_into().map_err(|_| wrong())?))
        }
    }
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, X509Error> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|error| X509Error::Certificate(error.to_string()))?;
    Ok(parsed)
}

/// When a certificate expires.
pub(crate) fn expiry(certificate: &CertificateDer<'_>) -> Result<Timestamp, X509Error> {
    not_after(&parse(certificate)?)
}

fn not_after(certificate: &X509Certificate<'_>) -> Result<Timestamp, X509Error> {
    Timestamp::from_second(certificate.validity().not_after.timestamp())
        .map_err(|error| X509Error::Certificate(error.to_string()))
}
