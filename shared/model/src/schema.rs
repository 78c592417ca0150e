//! The JSON schema of each kind's spec, for OpenAPI, for `kubectl explain`, and to tell what is wrong with a document.
//!
//! *Invariant:* every field is reachable by `properties`, `items` and `additionalProperties` alone, the way `kubectl explain`
//! reads.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::Kind;
use crate::spec::{
    AuthorizationPolicy, DestinationRule, Gateway, MeshConfig, PeerAuthentication,
    RequestAuthentication, RuntimeLayer, ServiceEntry, Sidecar, TlsSecret, VirtualService,
    WorkloadEntry, WorkloadGroup,
};

static SCHEMAS: LazyLock<BTreeMap<Kind, Value>> = LazyLock::new(|| {
    let kinds = Kind::ALL.into_iter();
    kinds
        .filter_map(|kind| Some((kind, generate(kind)?)))
        .collect()
});

/// The schema of the spec of a kind (OpenAPI 3.0 dialect), complete in itself: nothing in it refers elsewhere. `None` for a
/// kind that cannot be read yet.
pub fn schema(kind: Kind) -> Option<&'static Value> {
    SCHEMAS.get(&kind)
}

fn generate(kind: Kind) -> Option<Value> {
    Some(match kind {
        Kind::ServiceEntry => schema_of::<ServiceEntry>(),
        Kind::WorkloadEntry => schema_of::<WorkloadEntry>(),
        Kind::WorkloadGroup => schema_of::<WorkloadGroup>(),
        Kind::VirtualService => schema_of::<VirtualService>(),
        Kind::DestinationRule => schema_of::<DestinationRule>(),
        Kind::Gateway => schema_of::<Gateway>(),
        Kind::Sidecar => schema_of::<Sidecar>(),
        Kind::PeerAuthentication => schema_of::<PeerAuthentication>(),
        Kind::AuthorizationPolicy => schema_of::<AuthorizationPolicy>(),
        Kind::RequestAuthentication => schema_of::<RequestAuthentication>(),
        Kind::MeshConfig => schema_of::<MeshConfig>(),
        Kind::RuntimeLayer => schema_of::<RuntimeLayer>(),
        Kind::TlsSecret => schema_of::<TlsSecret>(),
        _ => return None,
    })
}

/// The schema of a type.
pub(crate) fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| settings.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let mut schema = schema.to_value();
    flatten(&mut schema);
    schema
}

/// Turns the alternatives of a generated schema into fields and lists of values.
fn flatten(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    if let Some(Value::Array(alternatives)) = map.remove("anyOf") {
        nullable(map, alternatives);
    }
    if let Some(Value::Array(alternatives)) = map.remove("oneOf") {
        if alternatives.iter().all(|it| it["type"] == "string") {
            values(map, &alternatives);
        } else {
            choices(map, alternatives);
        }
    }
    if map.get("default").is_some_and(Value::is_null) {
        map.remove("default");
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(flatten);
    }
    for word in ["items", "additionalProperties"] {
        if let Some(schema) = map.get_mut(word) {
            flatten(schema);
        }
    }
}

/// "This, or null" is this, nullable; what is said of the field prevails over what is said of its type.
fn nullable(map: &mut Map<String, Value>, alternatives: Vec<Value>) {
    let some = alternatives
        .into_iter()
        .find(|it| it["enum"] != json!([null]));
    if let Some(Value::Object(some)) = some {
        for (word, value) in some {
            map.entry(word).or_insert(value);
        }
    }
    map.insert("nullable".into(), true.into());
}

/// Alternatives that are one value each are a string with these values.
fn values(map: &mut Map<String, Value>, alternatives: &[Value]) {
    let mut description = map["description"].as_str().unwrap_or_default().to_owned();
    let mut values = Vec::new();
    for one in alternatives {
        for value in one["enum"].as_array().into_iter().flatten() {
            let (name, meaning) = (value.as_str(), one["description"].as_str());
            description += &format!(
                "\n{}: {}",
                name.unwrap_or_default(),
                meaning.unwrap_or_default()
            );
            values.push(value.clone());
        }
    }
    map.insert("type".into(), "string".into());
    map.insert("description".into(), description.into());
    map.insert("enum".into(), values.into());
}

/// Alternatives that are one field each are an object with these fields, exactly one of which is there.
fn choices(map: &mut Map<String, Value>, alternatives: Vec<Value>) {
    let mut properties = Map::new();
    let mut choices = Vec::new();
    for mut one in alternatives {
        let description = one["description"].take();
        choices.push(json!({"required": one["required"].take()}));
        if let Value::Object(fields) = one["properties"].take() {
            for (name, mut field) in fields {
                field["description"] = description.clone();
                properties.insert(name, field);
            }
        }
    }
    map.insert("type".into(), "object".into());
    map.insert("properties".into(), properties.into());
    map.insert("oneOf".into(), choices.into());
    map.insert("additionalProperties".into(), false.into());
}

#[cfg(test)]
mod tests;
