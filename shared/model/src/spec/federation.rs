//! `MeshConfig.federatedTrustDomains`: other trust domains whose workloads this mesh knows. Weft's own; the words are those
//! of SPIRE's ClusterFederatedTrustDomain and of the SPIFFE Federation standard.

use schemars::JsonSchema;
use serde::Deserialize;

/// A trust domain, and where its bundle comes from. Its bundle is never merged with another: a certificate of it is verified by
/// its own authorities alone, and these vouch for no other trust domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FederatedTrustDomain {
    /// Its name, such as `partner.example`.
    pub trust_domain: String,
    /// Where its bundle is fetched from, again and again; without it, `trustDomainBundle` stays as it is.
    #[serde(rename = "bundleEndpointURL")]
    pub bundle_endpoint_url: Option<String>,
    /// How that endpoint is known to be the right one.
    pub bundle_endpoint_profile: Option<BundleEndpointProfile>,
    /// Its SPIFFE bundle (a JWK set), until a newer one is fetched. A change of it replaces what was fetched.
    pub trust_domain_bundle: Option<String>,
}

/// How an endpoint is known to be the right one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BundleEndpointProfile {
    /// The profile.
    #[serde(rename = "type")]
    pub kind: BundleEndpointKind,
    /// The SPIFFE ID of the endpoint (`https_spiffe` only): of this trust domain, or of another one that is federated.
    #[serde(rename = "endpointSPIFFEID")]
    pub endpoint_spiffe_id: Option<String>,
}

/// A profile of the SPIFFE Federation standard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BundleEndpointKind {
    /// Neither was said, which is an error.
    #[default]
    #[serde(skip)]
    Unset,
    /// By its DNS name and the public authorities that the issuer's host trusts.
    HttpsWeb,
    /// By its SPIFFE ID, verified by the bundle of that trust domain.
    HttpsSpiffe,
}
