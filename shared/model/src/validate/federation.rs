//! Rules of `MeshConfig.federatedTrustDomains`.

use super::{Findings, Path};
use crate::spec::{
    BundleEndpointKind, BundleEndpointProfile, FederatedTrustDomain, MeshConfig, is_local,
    jwks_host_and_port,
};
use crate::{SpiffeId, TrustBundle, TrustDomain};

pub(super) fn validate(spec: &MeshConfig, path: &Path, findings: &mut Findings) {
    let domains = || path.each("federatedTrustDomains", &spec.federated_trust_domains);
    let named = domains().map(|(path, it)| (path.at("trustDomain"), it.trust_domain.as_str()));
    findings.unique(named, "the trust domain");
    for (path, domain) in domains() {
        of(domain, spec, &path, findings);
    }
}

fn of(domain: &FederatedTrustDomain, spec: &MeshConfig, path: &Path, findings: &mut Findings) {
    let name = domain.trust_domain.parse::<TrustDomain>();
    if let Err(error) = name {
        findings.error(&path.at("trustDomain"), error.to_string());
    }
    let bundle = path.at("trustDomainBundle");
    if let Some(text) = &domain.trust_domain_bundle
        && let Err(why) = TrustBundle::parse(text.as_bytes())
    {
        findings.error(&bundle, why);
    }
    let (at_url, at_profile) = (
        path.at("bundleEndpointURL"),
        path.at("bundleEndpointProfile"),
    );
    match (&domain.bundle_endpoint_url, &domain.bundle_endpoint_profile) {
        (None, None) if domain.trust_domain_bundle.is_none() => findings.error(
            &at_url,
            "is missing: a trust domain is known by its bundle, from a bundleEndpointURL or a trustDomainBundle",
        ),
        (None, None) => {}
        (None, Some(_)) => findings.error(&at_url, "is missing: the profile says how an endpoint is known"),
        (Some(_), None) => findings.error(
            &at_profile,
            "is missing: how the endpoint is known must be said, {type: https_web} or {type: https_spiffe, endpointSPIFFEID: …}",
        ),
        (Some(url), Some(profile)) => {
            endpoint(url, spec.allow_local_bundle_endpoints, &at_url, findings);
            self::profile(profile, domain, spec, path, findings);
        }
    }
}

fn endpoint(url: &str, local: bool, path: &Path, findings: &mut Findings) {
    match jwks_host_and_port(url) {
        Some((host, _, true)) => findings.ensure(
            local || !is_local(host),
            path,
            "is of this machine or of its link; set allowLocalBundleEndpoints if that is meant",
        ),
        _ => findings.error(
            path,
            "must be an https URL without a user, such as https://issuer.partner.example:18010/bundle",
        ),
    }
}

fn profile(
    profile: &BundleEndpointProfile,
    domain: &FederatedTrustDomain,
    spec: &MeshConfig,
    path: &Path,
    findings: &mut Findings,
) {
    let at = path.at("bundleEndpointProfile");
    let at_id = at.at("endpointSPIFFEID");
    match (profile.kind, &profile.endpoint_spiffe_id) {
        (BundleEndpointKind::Unset, _) => {
            findings.error(&at.at("type"), "is missing; it is https_web or https_spiffe");
        }
        (BundleEndpointKind::HttpsWeb, None) => {}
        (BundleEndpointKind::HttpsWeb, Some(_)) => findings.error(
            &at_id,
            "means nothing to https_web, which knows an endpoint by its DNS name; use https_spiffe, or leave it out",
        ),
        (BundleEndpointKind::HttpsSpiffe, None) => findings.error(
            &at_id,
            "is missing: https_spiffe knows an endpoint by its SPIFFE ID",
        ),
        (BundleEndpointKind::HttpsSpiffe, Some(id)) => match id.parse::<SpiffeId>() {
            Err(error) => findings.error(&at_id, error.to_string()),
            Ok(id) => {
                let of = id.trust_domain().as_str();
                let mut all = spec.federated_trust_domains.iter();
                if of == domain.trust_domain {
                    // Whoever answers first is not simply believed.
                    findings.ensure(
                        domain.trust_domain_bundle.is_some(),
                        &path.at("trustDomainBundle"),
                        "is missing: the endpoint is of this trust domain, so its first answer is verified by a bundle that you got another way",
                    );
                } else {
                    findings.ensure(
                        all.any(|other| other.trust_domain == of),
                        &at_id,
                        format!("is of {of}, which must be one of federatedTrustDomains, too: it is verified by that one's bundle"),
                    );
                }
            }
        },
    }
}
