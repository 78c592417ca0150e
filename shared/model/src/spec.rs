//! The typed specs: Istio's fields, read strictly. They are read only; what is stored and shown is the [`crate::Object`].
//!
//! *Invariant:* an unknown field never passes.

mod authorization_policy;
mod destination_rule;
mod extension_provider;
mod federation;
mod gateway;
mod grammar;
mod http;
mod mesh_config;
mod peer_authentication;
mod policy_target;
mod request_authentication;
mod runtime_layer;
mod service_entry;
mod sidecar;
mod tls_secret;
mod traffic_policy;
mod virtual_service;
mod workload;

use std::sync::Arc;

use serde::de::DeserializeOwned;

pub use authorization_policy::*;
pub use destination_rule::*;
pub use extension_provider::*;
pub use federation::*;
pub use gateway::*;
pub use grammar::*;
pub use http::*;
pub use mesh_config::*;
pub use peer_authentication::*;
pub use policy_target::*;
pub use request_authentication::*;
pub use runtime_layer::*;
pub use service_entry::*;
pub use sidecar::*;
pub use tls_secret::*;
pub use traffic_policy::*;
pub use virtual_service::*;
pub use workload::*;

use crate::{Key, Kind, Metadata, Object, schema, shape};

/// A resource with its spec typed.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Its metadata.
    pub metadata: Metadata,
    /// Its spec.
    pub spec: Spec,
}

/// The spec of a kind that can be read.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the variants are the kinds")]
pub enum Spec {
    ServiceEntry(Arc<ServiceEntry>),
    WorkloadEntry(Arc<WorkloadEntry>),
    WorkloadGroup(Arc<WorkloadGroup>),
    VirtualService(Arc<VirtualService>),
    DestinationRule(Arc<DestinationRule>),
    Gateway(Arc<Gateway>),
    Sidecar(Arc<Sidecar>),
    PeerAuthentication(Arc<PeerAuthentication>),
    AuthorizationPolicy(Arc<AuthorizationPolicy>),
    RequestAuthentication(Arc<RequestAuthentication>),
    MeshConfig(Arc<MeshConfig>),
    RuntimeLayer(Arc<RuntimeLayer>),
    TlsSecret(Arc<TlsSecret>),
}

impl Spec {
    /// The kind it belongs to.
    pub fn kind(&self) -> Kind {
        match self {
            Self::ServiceEntry(_) => Kind::ServiceEntry,
            Self::WorkloadEntry(_) => Kind::WorkloadEntry,
            Self::WorkloadGroup(_) => Kind::WorkloadGroup,
            Self::VirtualService(_) => Kind::VirtualService,
            Self::DestinationRule(_) => Kind::DestinationRule,
            Self::Gateway(_) => Kind::Gateway,
            Self::Sidecar(_) => Kind::Sidecar,
            Self::PeerAuthentication(_) => Kind::PeerAuthentication,
            Self::AuthorizationPolicy(_) => Kind::AuthorizationPolicy,
            Self::RequestAuthentication(_) => Kind::RequestAuthentication,
            Self::MeshConfig(_) => Kind::MeshConfig,
            Self::RuntimeLayer(_) => Kind::RuntimeLayer,
            Self::TlsSecret(_) => Kind::TlsSecret,
        }
    }
}

impl Resource {
    /// Its identity.
    pub fn key(&self) -> Key {
        Key::new(
            self.spec.kind(),
            self.metadata.namespace.as_str(),
            self.metadata.name.as_str(),
        )
    }
}

/// A spec that cannot be read: where, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct DecodeError {
    /// The path of the field, such as `spec.http[0].route[1].weight`.
    pub field: String,
    /// What is wrong.
    pub reason: String,
}

impl Object {
    /// Reads the spec. This checks names and types of fields, not the rules between them.
    ///
    /// # Errors
    /// The first field that cannot be read, or that the kind is not supported yet.
    pub fn decode(&self) -> Result<Resource, DecodeError> {
        let spec = match self.kind {
            Kind::ServiceEntry => Spec::ServiceEntry(self.read()?),
            Kind::WorkloadEntry => Spec::WorkloadEntry(self.read()?),
            Kind::WorkloadGroup => Spec::WorkloadGroup(self.read()?),
            Kind::VirtualService => Spec::VirtualService(self.read()?),
            Kind::DestinationRule => Spec::DestinationRule(self.read()?),
            Kind::Gateway => Spec::Gateway(self.read()?),
            Kind::Sidecar => Spec::Sidecar(self.read()?),
            Kind::PeerAuthentication => Spec::PeerAuthentication(self.read()?),
            Kind::AuthorizationPolicy => Spec::AuthorizationPolicy(self.read()?),
            Kind::RequestAuthentication => Spec::RequestAuthentication(self.read()?),
            Kind::MeshConfig => Spec::MeshConfig(self.read()?),
            Kind::RuntimeLayer => Spec::RuntimeLayer(self.read()?),
            Kind::TlsSecret => Spec::TlsSecret(self.read()?),
            kind => {
                return Err(DecodeError {
                    field: "kind".into(),
                    reason: format!("{kind} is not supported yet"),
                });
            }
        };
        Ok(Resource {
            metadata: self.metadata.clone(),
            spec,
        })
    }

    fn read<T: DeserializeOwned>(&self) -> Result<Arc<T>, DecodeError> {
        serde_path_to_error::deserialize(&self.spec)
            .map(Arc::new)
            .map_err(|error| self.explain(&error.path().to_string(), &error.inner().to_string()))
    }

    /// Why the spec cannot be read. What reads it stopped at this path; what it says is in words for people only where they are
    /// our own.
    fn explain(&self, path: &str, said: &str) -> DecodeError {
        const THEIRS: [&str; 5] = [
            "invalid ",
            "unknown ",
            "missing ",
            "duplicate ",
            "expected ",
        ];
        let mut spec = self.spec.clone();
        let found = schema(self.kind).map(|schema| shape(schema, &mut spec, "spec"));
        match found.into_iter().flatten().next() {
            Some(first) => DecodeError {
                field: first.field,
                reason: first.rule,
            },
            None => DecodeError {
                field: format!("spec.{path}"),
                reason: if THEIRS.iter().any(|theirs| said.starts_with(theirs)) {
                    "is not a value that this field takes".into()
                } else {
                    said.to_owned()
                },
            },
        }
    }
}
