//! How those who trust an older root find the way to the present one: each new root is certified by the one before it.
//!
//! Only the issuer's own server certificate travels with these certificates, for the sake of proxies whose bootstraps pin
//! the roots of the day they were made. *Invariant:* nothing here makes anybody trust a root longer: who trusts the new
//! root trusts nothing of the old one by it.

use jiff::Timestamp;
use ring::rand::SecureRandom;
use rustls::pki_types::CertificateDer;

use super::{Authority, AuthorityError, Root, serial};
use crate::x509::{Signer, X509Error};

/// How many rotations a client may have missed. webpki follows at most six certificates, of which the issuing one is one.
pub(super) const LONGEST: usize = 4;

/// A root, certified by the one before it.
#[derive(Clone, Debug)]
pub struct Cross {
    /// The name of the root that signed it.
    pub by: String,
    certificate: CertificateDer<'static>,
    not_after: Timestamp,
}

impl Cross {
    /// Certifies `successor`, whose name is `name`, by `root`.
    pub(super) fn sign(
        root: &Root,
        (name, successor): (&str, &Signer),
        now: Timestamp,
        random: &dyn SecureRandom,
    ) -> Result<Self, AuthorityError> {
        let certificate = (root.signer).cross(name, successor, serial(random)?, now)?;
        Ok(Self::restore(root.name.clone(), certificate)?)
    }

    /// As it was stored.
    pub(super) fn restore(
        by: String,
        certificate: CertificateDer<'static>,
    ) -> Result<Self, X509Error> {
        let not_after = crate::x509::expiry(&certificate)?;
        Ok(Self {
            by,
            certificate,
            not_after,
        })
    }

    /// The certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }
}

impl Authority {
    /// What leads from the active root to older ones, the newest first, as far as it is valid.
    pub fn lineage(&self, now: Timestamp) -> impl Iterator<Item = &CertificateDer<'static>> {
        let valid = move |cross: &&Cross| cross.not_after > now;
        let lineage = self.active_root().lineage.iter();
        lineage.take_while(valid).map(Cross::certificate)
    }

    /// The lineage of a root that comes after the active one.
    pub(super) fn succession(
        &self,
        successor: (&str, &Signer),
        now: Timestamp,
        random: &dyn SecureRandom,
    ) -> Result<Vec<Cross>, AuthorityError> {
        let active = self.active_root();
        let cross = Cross::sign(active, successor, now, random)?;
        let older = active.lineage.iter().cloned();
        Ok(std::iter::once(cross).chain(older).take(LONGEST).collect())
    }

    /// Whether a root of this name certified one of the present ones.
    pub(super) fn descends_from(&self, name: &str) -> bool {
        let mut lineages = self.roots.iter().flat_map(|root| &root.lineage);
        lineages.any(|cross| cross.by == name)
    }

    /// Drops what a root certified, and what only that led to.
    pub(super) fn disown(&mut self, name: &str) {
        for root in &mut self.roots {
            if let Some(at) = root.lineage.iter().position(|cross| cross.by == name) {
                root.lineage.truncate(at);
            }
        }
    }
}
