//! Files and bodies to documents: several YAML documents, JSON values one after the other, and `kind: List`.
//!
//! *Invariant:* memory and time stay in proportion to the text: aliases, depth and sizes have budgets.

use serde::Deserialize;
use serde_json::Value;

/// Text that is not documents, and where it goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{syntax}: {reason}")]
pub struct DocumentError {
    /// `YAML` or `JSON`.
    pub syntax: &'static str,
    /// What is wrong, with line and column.
    pub reason: String,
}

/// The documents in a text, YAML or JSON, in order. Empty documents are left out; the items of a `List` take its place.
///
/// # Errors
/// If the text cannot be read, or holds something else than objects.
pub fn documents(text: &str) -> Result<Vec<Value>, DocumentError> {
    // YAML may begin with a brace as well; what separates its documents is never in JSON.
    let json = text.trim_start().starts_with('{') && !text.contains("\n---");
    let syntax = if json { "JSON" } else { "YAML" };
    let error = |reason: String| DocumentError { syntax, reason };
    let values: Vec<Value> = if json {
        let values: Result<_, _> = serde_json::Deserializer::from_str(text)
            .into_iter()
            .collect();
        values.map_err(|e: serde_json::Error| error(e.to_string()))?
    } else {
        // Reading YAML in one go would stop at a NUL as if it were the end.
        if let Some(at) = text.find('\0') {
            return Err(error(format!(
                "a NUL character at offset {at}; YAML is text"
            )));
        }
        serde_saphyr::from_multiple(text).map_err(|e| error(e.to_string()))?
    };
    let mut documents = Vec::new();
    for value in values {
        match value {
            Value::Null => {}
            Value::Object(mut map) if is_list(&map) => {
                let items = map.remove("items").unwrap_or_default();
                let items = Vec::<serde_json::Map<String, Value>>::deserialize(items)
                    .map_err(|e| error(format!("items of a List: {e}")))?;
                documents.extend(items.into_iter().map(Value::Object));
            }
            Value::Object(map) => documents.push(Value::Object(map)),
            other => {
                let text: String = other.to_string().chars().take(40).collect();
                return Err(error(format!(
                    "a document must be an object with apiVersion and kind, not {text}"
                )));
            }
        }
    }
    Ok(documents)
}

fn is_list(map: &serde_json::Map<String, Value>) -> bool {
    map.contains_key("items")
        && map
            .get("kind")
            .and_then(Value::as_str)
            .is_some_and(|kind| kind.ends_with("List"))
}

#[cfg(test)]
mod tests;
