//! A certificate authority of a mesh, and the certificates it and others could show.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use xds::{Resource, Snapshot, make};

pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, as PEM.
pub(super) struct Credential {
    pub(super) chain: String,
    pub(super) key: String,
}

/// A leaf of a SPIFFE ID.
fn leaf(id: &str) -> CertificateParams {
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "leaf");
    params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    ];
    params
}

pub(super) fn id(trust_domain: &str, account: &str) -> String {
    format!("spiffe://{trust_domain}/ns/default/sa/{account}")
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "root");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, params: &CertificateParams) -> Credential {
        let key = KeyPair::generate().unwrap();
        Credential {
            chain: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    pub(super) fn issue(&self, trust_domain: &str, account: &str) -> Credential {
        self.sign(&leaf(&id(trust_domain, account)))
    }

    pub(super) fn issue_to(&self, id: &str) -> Credential {
        self.sign(&leaf(id))
    }

    pub(super) fn expired(&self, trust_domain: &str, account: &str) -> Credential {
        let mut params = leaf(&id(trust_domain, account));
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 2);
        self.sign(&params)
    }

    /// What SDS has for an account.
    pub(super) fn secrets(&self, trust_domain: &str, account: &str) -> Snapshot {
        let own = self.issue(trust_domain, account);
        Snapshot::of(
            1,
            [
                Resource::new(&make::tls_secret(
                    compile::CERTIFICATE,
                    &own.chain,
                    &own.key,
                )),
                Resource::new(&make::ca_secret(compile::AUTHORITIES, &self.0.pem(), None)),
            ],
        )
    }
}

/// A certificate that signs itself.
pub(super) fn self_signed(trust_domain: &str, account: &str) -> Credential {
    let key = KeyPair::generate().unwrap();
    Credential {
        chain: leaf(&id(trust_domain, account))
            .self_signed(&key)
            .unwrap()
            .pem(),
        key: key.serialize_pem(),
    }
}
