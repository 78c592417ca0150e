//! The identities of the mesh, as compiled resources and bootstraps speak of them: where proxies get their certificate and
//! whom they trust.
//!
//! *Invariant:* every secret that a compiled resource names comes from the one configuration source made here, so that
//! clusters are the same for all accounts and an Envoy opens one stream per secret, whoever asks for it.

use std::time::Duration;

use model::TrustDomain;

use crate::translate::pb;

/// The secret with the proxy's own certificate.
pub const CERTIFICATE: &str = "default";
/// The secret with the authorities of the mesh.
pub const AUTHORITIES: &str = "ROOTCA";
/// The cluster of a bootstrap that leads to the issuer.
pub const ISSUER_CLUSTER: &str = "weft-issuer";

/// What a compiler has to know of the identities of the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identities {
    /// The trust domain of the mesh.
    pub trust_domain: TrustDomain,
    /// The cluster of every bootstrap that leads to the issuer: [`ISSUER_CLUSTER`] unless there is a reason.
    pub issuer_cluster: String,
    /// Other trust domains whose workloads are known: MeshConfig says which, so these are read with the mesh.
    pub(crate) federated: Vec<TrustDomain>,
}

impl Identities {
    /// The identities of a trust domain, from the usual cluster.
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            issuer_cluster: ISSUER_CLUSTER.into(),
            federated: Vec::new(),
        }
    }

    /// What the SPIFFE IDs of workloads that are known begin with.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = String> + '_ {
        let domains = [&self.trust_domain].into_iter().chain(&self.federated);
        domains.map(|domain| format!("{}/", domain.id()))
    }

    /// Whose namespaces and service accounts policies mean: this mesh's, where other trust domains are known too.
    pub(crate) fn home(&self) -> Option<TrustDomain> {
        (!self.federated.is_empty()).then(|| self.trust_domain.clone())
    }

    /// The SPIFFE ID of a service account.
    pub(crate) fn id(&self, namespace: &str, account: &str) -> String {
        format!("{}/ns/{namespace}/sa/{account}", self.trust_domain.id())
    }

    /// A secret by name.
    pub(crate) fn secret(&self, name: &str) -> pb::tls::SdsSecretConfig {
        pb::tls::SdsSecretConfig {
            name: name.into(),
            sds_config: Some(sds_source(&self.issuer_cluster)),
        }
    }
}

/// Where Envoys get secrets: the issuer, over streams of delta SDS through this cluster. Bootstraps and compiled resources
/// must say exactly the same, for Envoy shares a secret only between equal sources.
pub fn sds_source(issuer_cluster: &str) -> pb::ConfigSource {
    let second = |seconds| pb::duration(Duration::from_secs_f64(seconds));
    let retry = pb::core_retry_policy(second(0.1), second(1.0));
    let service = pb::GrpcService {
        target_specifier: Some(pb::grpc_service::TargetSpecifier::EnvoyGrpc(
            pb::grpc_service::EnvoyGrpc {
                cluster_name: issuer_cluster.into(),
                retry_policy: Some(retry),
                ..Default::default()
            },
        )),
        timeout: Some(pb::Duration::default()),
        ..Default::default()
    };
    pb::ConfigSource {
        resource_api_version: pb::ApiVersion::V3.into(),
        // A cluster that waits for a certificate holds up the acknowledgement of all clusters: not for ever.
        initial_fetch_timeout: Some(second(5.0)),
        config_source_specifier: Some(pb::config_source::ConfigSourceSpecifier::ApiConfigSource(
            pb::ApiConfigSource {
                api_type: pb::api_config_source::ApiType::DeltaGrpc.into(),
                transport_api_version: pb::ApiVersion::V3.into(),
                grpc_services: vec![service],
                ..Default::default()
            },
        )),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests;
