//! What a kind or a field of it means, from the model's own schema.
//!
//! Input is the schema of a spec and a path such as `http.route.weight`, output is a page of text.
//! *Invariant:* nothing here asks a server: what is explained is what this version of Weft reads.

use model::Kind;
use serde_json::{Map, Value};

use super::{items, text};
use crate::style::{Cell, Style, Tone};
use crate::target::{self, Resource};

/// Why there is nothing to explain.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// The kind is not known.
    #[error(transparent)]
    Kind(#[from] target::Error),
    /// The kind has no fields yet.
    #[error("{0} is not supported yet")]
    Unsupported(Kind),
    /// There is no such field.
    #[error("{parent} has no field {field:?}{}", match nearest { Some(n) => format!("; did you mean {n:?}?"), None => String::new() })]
    NoField {
        parent: String,
        field: String,
        nearest: Option<String>,
    },
}

/// The page about `vs`, `vs.spec.http.route` or, for short, `vs.http.route`.
///
/// # Errors
/// If it names nothing.
pub(crate) fn page(wanted: &str, style: Style) -> Result<String, Error> {
    let (word, path) = wanted.split_once('.').unwrap_or((wanted, ""));
    let kind = match target::resource(word)? {
        Resource::Kind(kind) => kind,
        namespaces @ Resource::Namespace => namespaces.kind("explain")?,
    };
    let schema = model::schema(kind).ok_or(Error::Unsupported(kind))?;
    explain(kind, schema, path, style)
}

/// The page about a path in the schema of a kind.
fn explain(kind: Kind, schema: &Value, path: &str, style: Style) -> Result<String, Error> {
    let path = path
        .strip_prefix("spec")
        .filter(|p| p.is_empty() || p.starts_with('.'))
        .unwrap_or(path);
    let (mut node, mut place) = (schema, "spec".to_owned());
    let mut required = false;
    for step in path.split('.').filter(|s| !s.is_empty()) {
        let step = step.split('[').next().unwrap_or(step);
        let parent = element(node, &mut place);
        let fields = fields(parent);
        required = requires(parent, step);
        let entries = parent["additionalProperties"]
            .is_object()
            .then(|| &parent["additionalProperties"]);
        node = fields
            .get(step)
            .copied()
            .or(entries)
            .ok_or_else(|| Error::NoField {
                parent: format!("{}.{place}", kind.name()),
                field: step.to_owned(),
                nearest: target::nearest(step, fields.keys().map(|k| (*k).to_owned())),
            })?;
        place = format!("{place}.{step}");
    }
    let heading = style.paint(Tone::Strong, &format!("{place} <{}>", kind_of(node)));
    let required = if required { ", required" } else { "" };
    let mut out = format!(
        "{} ({})\n{heading}{required}\n\n",
        kind.name(),
        kind.api_version()
    );
    for line in told(node) {
        out += &format!("  {line}\n");
    }
    let parent = element(node, &mut place);
    let row = |(name, field): (&&str, &&Value)| {
        let name = Cell::toned(Tone::Strong, *name);
        let required = if requires(parent, name.text()) {
            "required"
        } else {
            ""
        };
        vec![
            name,
            kind_of(field).into(),
            required.into(),
            told(field).join(" ").into(),
        ]
    };
    let rows = fields(parent).iter().map(row).collect();
    let table = style.table(&["FIELD", "TYPE", "", "MEANING"], rows);
    Ok(if table.is_empty() {
        out
    } else {
        format!("{out}\n{table}")
    })
}

/// What a schema says in words, and the values it allows.
fn told(schema: &Value) -> Vec<String> {
    let said = [
        text(&schema["description"]),
        text(&schema["items"]["description"]),
    ];
    let mut told: Vec<String> = said
        .into_iter()
        .filter(|s| !s.is_empty())
        .map(|s| s.replace('\n', " "))
        .collect();
    told.dedup();
    let values = values(schema);
    if !values.is_empty() {
        told.push(format!("One of {}.", values.join(", ")));
    }
    if let default @ (Value::String(_) | Value::Number(_) | Value::Bool(_)) = &schema["default"] {
        told.push(format!("Default: {}.", text(default)));
    }
    told
}

/// The alternatives a schema is made of, itself among them.
fn alternatives(schema: &Value) -> Vec<&Value> {
    let parts = ["oneOf", "anyOf", "allOf"]
        .iter()
        .flat_map(|of| items(&schema[*of]))
        .flat_map(alternatives);
    std::iter::once(schema).chain(parts).collect()
}

fn values(schema: &Value) -> Vec<String> {
    let schema = if schema["items"].is_object() {
        &schema["items"]
    } else {
        schema
    };
    alternatives(schema)
        .into_iter()
        .flat_map(|s| items(&s["enum"]))
        .filter(|v| !v.is_null())
        .map(text)
        .collect()
}

fn fields(schema: &Value) -> std::collections::BTreeMap<&str, &Value> {
    let properties = alternatives(schema)
        .into_iter()
        .filter_map(|s| s["properties"].as_object());
    properties
        .flat_map(Map::iter)
        .map(|(name, field)| (name.as_str(), field))
        .collect()
}

fn requires(schema: &Value, field: &str) -> bool {
    items(&schema["required"]).iter().any(|name| name == field)
}

/// What a list holds; `[]` is added to the place for each list.
fn element<'a>(mut schema: &'a Value, place: &mut String) -> &'a Value {
    while schema["items"].is_object() {
        schema = &schema["items"];
        place.push_str("[]");
    }
    schema
}

/// `string`, `[]object`, `map of string`.
fn kind_of(schema: &Value) -> String {
    if schema["items"].is_object() {
        return format!("[]{}", kind_of(&schema["items"]));
    }
    if schema["additionalProperties"].is_object() {
        return format!("map of {}", kind_of(&schema["additionalProperties"]));
    }
    let of = |s: &Value| s["type"].as_str().map(str::to_owned);
    alternatives(schema)
        .into_iter()
        .find_map(of)
        .unwrap_or_else(|| "any".to_owned())
}

#[cfg(test)]
mod tests;
