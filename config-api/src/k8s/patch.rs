//! Merge patches (RFC 7386) and JSON patches (RFC 6902).
//!
//! *Invariant:* a patch is applied to a copy; one that fails half-way has changed nothing.

use http::StatusCode;
use model::Key;
use serde_json::{Value, json};

use crate::http::body::{self, Media};
use crate::http::status::{Cause, Result, Status};

/// A parsed patch.
#[derive(Clone, Debug)]
pub(crate) enum Patch {
    Merge(Value),
    Json(json_patch::Patch),
}

/// The most operations of one JSON patch, as in Kubernetes.
const MOST_OPERATIONS: usize = 10_000;

impl Patch {
    /// Reads a patch of this media type.
    pub(crate) fn parse(media: Media, body: &[u8]) -> Result<Self> {
        match media {
            Media::MergePatch => match body::value(Media::Json, body)? {
                patch @ Value::Object(_) => Ok(Self::Merge(patch)),
                other => Err(Status::bad_request(format!(
                    "the merge patch must be an object, not {}",
                    name(&other)
                ))),
            },
            Media::JsonPatch => {
                let mut value = body::value(Media::Json, body)?;
                let wrong = model::shape(&operations(), &mut value, "patch");
                if !wrong.is_empty() {
                    return Err(Status::malformed(wrong));
                }
                let patch: json_patch::Patch = serde_json::from_value(value).map_err(|_| {
                    Status::bad_request(
                        "patch: every path and from must begin with a slash, and move and copy need from",
                    )
                })?;
                if patch.0.len() > MOST_OPERATIONS {
                    return Err(Status::too_large(format!(
                        "the JSON patch has {} operations, the limit is {MOST_OPERATIONS}",
                        patch.0.len()
                    )));
                }
                Ok(Self::Json(patch))
            }
            Media::ApplyPatch => Err(Status::unsupported_media_type(
                "server-side apply is not supported yet: use client-side apply (kubectl apply without --server-side), \
                 or application/merge-patch+json, or POST /v1/apply",
            )),
            Media::StrategicPatch => Err(Status::unsupported_media_type(
                "application/strategic-merge-patch+json is not supported for this resource, as for every custom resource: \
                 use application/merge-patch+json or application/json-patch+json (kubectl patch --type=merge)",
            )),
            Media::Json | Media::Yaml => Err(Status::unsupported_media_type(
                "content-type: PATCH takes application/merge-patch+json or application/json-patch+json",
            )),
        }
    }

    /// The patched copy.
    pub(crate) fn apply(&self, key: &Key, mut target: Value) -> Result<Value> {
        match self {
            Self::Merge(patch) => json_patch::merge(&mut target, patch),
            Self::Json(patch) => json_patch::patch(&mut target, patch).map_err(|e| {
                let cause = Cause {
                    reason: "FieldValueInvalid",
                    message: format!("operation {} cannot be applied: {e}", e.operation),
                    field: e.path.to_string(),
                };
                let message = format!(
                    "the JSON patch of {key}: {}: {}",
                    cause.field, cause.message
                );
                Status::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
                    .about(key.kind, &key.name)
                    .because(vec![cause])
            })?,
        }
        Ok(target)
    }
}

/// The schema of a JSON patch (RFC 6902).
fn operations() -> Value {
    let text = json!({"type": "string"});
    let names = ["add", "remove", "replace", "move", "copy", "test"];
    json!({"type": "array", "items": {
        "type": "object", "required": ["op", "path"],
        "properties": {"op": {"type": "string", "enum": names}, "path": text, "from": text, "value": {}},
    }})
}

fn name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
