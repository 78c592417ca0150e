//! Lists of what authorities have revoked, as people write them beside the certificates of the authorities.
//!
//! *Invariant:* a list that is taken was signed by one of these authorities, so nobody is refused by a stranger's.

use jiff::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::pem;

/// What is said of revocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lists {
    /// Whose each list is, and until when it is valid.
    each: Vec<(String, Option<Timestamp>)>,
    /// The authorities that have none.
    pub(crate) without: Vec<String>,
}

impl Lists {
    /// What people should know about them at a time.
    pub(crate) fn remarks(&self, now: Timestamp) -> Vec<String> {
        let expired = self.each.iter().filter_map(|(issuer, until)| {
            let until = until.filter(|until| now > *until)?;
            Some(format!(
                "the list of {issuer:?} expired at {until}, so every peer of this authority is refused; give its next one"
            ))
        });
        expired.collect()
    }
}

/// The lists of a text, and whose of these authorities they are.
///
/// # Errors
/// What is wrong, and the way out.
pub(crate) fn lists(text: &str, authorities: &str) -> Result<Lists, String> {
    let authorities = pem::blocks(authorities)?;
    let authorities = authorities.iter().map(|block| {
        let parsed = X509Certificate::from_der(&block.der);
        parsed
            .map(|(_, it)| it)
            .map_err(|_| "needs caCertificates that can be read".to_owned())
    });
    let authorities: Vec<_> = authorities.collect::<Result<_, _>>()?;
    let mut found = Lists::default();
    let mut listed = vec![false; authorities.len()];
    for (at, block) in (1..).zip(&pem::blocks(text)?) {
        if block.label != "X509 CRL" {
            return Err(format!(
                "may hold X509 CRL blocks only, not {:?}; remove it",
                block.label
            ));
        }
        let Ok(([], list)) = CertificateRevocationList::from_der(&block.der) else {
            return Err(format!("the block {at} is no X.509 revocation list"));
        };
        let issuer = list.issuer().to_string();
        let by = |it: &X509Certificate<'_>| {
            it.subject().as_raw() == list.issuer().as_raw()
                && list.verify_signature(it.public_key()).is_ok()
        };
        let Some(signer) = authorities.iter().position(by) else {
            return Err(format!(
                "the list {at}, of {issuer:?}, is signed by none of caCertificates; add the authority that signed it, or remove it"
            ));
        };
        let usage = authorities[signer].key_usage().ok().flatten();
        if usage.is_some_and(|usage| !usage.value.crl_sign()) {
            return Err(format!(
                "the list {at} is signed by {issuer:?}, whose key usage has no cRLSign, so no proxy takes it; renew the authority with it"
            ));
        }
        listed[signer] = true;
        let until = list
            .next_update()
            .map(|it| Timestamp::from_second(it.timestamp()));
        let until = until.transpose();
        found.each.push((
            issuer,
            until.map_err(|_| format!("the list {at} has a time out of range"))?,
        ));
    }
    let without = authorities.iter().zip(listed).filter(|(_, listed)| !listed);
    found.without = without.map(|(it, _)| it.subject().to_string()).collect();
    Ok(found)
}
