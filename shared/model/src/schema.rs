//! The JSON schema of each kind's spec, for OpenAPI and `kubectl explain`.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::Kind;
use crate::spec::{
    DestinationRule, Gateway, MeshConfig, PeerAuthentication, RuntimeLayer, ServiceEntry, Sidecar,
    VirtualService, WorkloadEntry, WorkloadGroup,
};

/// The schema of the spec of a kind (OpenAPI 3.0 dialect), complete in itself: nothing in it refers elsewhere. `None` for a
/// kind that cannot be read yet.
pub fn schema(kind: Kind) -> Option<Value> {
    let generator = || {
        SchemaSettings::openapi3()
            .with(|settings| settings.inline_subschemas = true)
            .into_generator()
    };
    let schema = match kind {
        Kind::ServiceEntry => generator().into_root_schema_for::<ServiceEntry>(),
        Kind::WorkloadEntry => generator().into_root_schema_for::<WorkloadEntry>(),
        Kind::WorkloadGroup => generator().into_root_schema_for::<WorkloadGroup>(),
        Kind::VirtualService => generator().into_root_schema_for::<VirtualService>(),
        Kind::DestinationRule => generator().into_root_schema_for::<DestinationRule>(),
        Kind::Gateway => generator().into_root_schema_for::<Gateway>(),
        Kind::Sidecar => generator().into_root_schema_for::<Sidecar>(),
        Kind::PeerAuthentication => generator().into_root_schema_for::<PeerAuthentication>(),
        Kind::MeshConfig => generator().into_root_schema_for::<MeshConfig>(),
        Kind::RuntimeLayer => generator().into_root_schema_for::<RuntimeLayer>(),
        _ => return None,
    };
    Some(schema.to_value())
}
