//! The model's schemas as OpenAPI 3.0 components.
//!
//! *Invariant:* every `$ref` in a document points at a component of that document.

use std::collections::BTreeMap;

use model::Kind;
use serde_json::{Value, json};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The component for metadata.
pub(super) fn object_meta() -> (String, Value) {
    let text = |description: &str| json!({"type": "string", "description": description});
    let strings = |description: &str| json!({"type": "object", "description": description, "additionalProperties": {"type": "string"}});
    let schema = json!({
        "type": "object",
        "description": "The name, namespace, labels and history of a resource.",
        "properties": {
            "name": text("Unique per kind and namespace."),
            "generateName": text("A prefix from which the name is made when none is given."),
            "namespace": text("The namespace."),
            "labels": strings("Labels, which selectors match."),
            "annotations": strings("Notes of tools and people."),
            "uid": text("Random at creation, stable afterwards."),
            "resourceVersion": text("The revision of the last write; in a write, the revision that it replaces."),
            "generation": {"type": "integer", "format": "int64", "description": "Rises when the spec changes."},
            "creationTimestamp": {"type": "string", "format": "date-time", "description": "When it was created."},
        },
    });
    (META.into(), schema)
}

/// Adds the components of a kind in a version; returns the name of the kind's own.
pub(super) fn add(kind: Kind, version: &str, schemas: &mut BTreeMap<String, Value>) -> String {
    let reversed: Vec<&str> = kind.group().rsplit('.').collect();
    let prefix = format!("{}.{version}", reversed.join("."));
    let name = format!("{prefix}.{}", kind.name());
    let mut spec = model::schema(kind)
        .expect("a supported kind has a schema")
        .clone();
    let description = spec.get("description").cloned().unwrap_or_default();
    if let Some(spec) = spec.as_object_mut() {
        spec.retain(|word, _| !matches!(word.as_str(), "$schema" | "title"));
    }
    schemas.insert(
        name.clone(),
        json!({
            "type": "object",
            "description": description,
            "properties": {
                "apiVersion": {"type": "string", "description": "The group and version."},
                "kind": {"type": "string", "description": "The kind."},
                "metadata": {"allOf": [{"$ref": format!("#/components/schemas/{META}")}], "description": "Metadata."},
                "spec": spec,
                "status": {
                    "type": "object",
                    "description": "What the mesh says of it; made when it is read, never stored.",
                    "x-kubernetes-preserve-unknown-fields": true,
                },
            },
            "x-kubernetes-group-version-kind": [{"group": kind.group(), "version": version, "kind": kind.name()}],
        }),
    );
    name
}
