//! What is wrong with the shape of a document, by its schema: fields that it does not have, values of another type, values out
//! of range, and fields that are missing.
//!
//! It finds all that is wrong at once, and what a reader would take although nobody meant it, such as a list for an object.
//!
//! *Invariant:* no word of a parser is shown, only fields, values, rules and ways out.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::check::{FieldError, Reason};
use crate::schema::schema_of;
use crate::spec::Duration;

/// Names under which fields are read too.
const ALIASES: [(&str, &str); 2] = [
    ("matchLabels", "labels"),
    ("mirror_percent", "mirrorPercent"),
];

/// Compares a value with its schema. Takes the fields out that the schema does not have, and tells everything that is wrong.
pub fn shape(schema: &Value, value: &mut Value, path: &str) -> Vec<FieldError> {
    let mut shape = Shape { errors: Vec::new() };
    shape.value(schema, value, path);
    shape.errors
}

/// Reads a value of a type that is no kind, such as what a request asks for.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read<T: JsonSchema + DeserializeOwned>(
    mut value: Value,
    path: &str,
) -> Result<T, Vec<FieldError>> {
    T::deserialize(&value).map_err(|_| {
        let mut errors = shape(&schema_of::<T>(), &mut value, path);
        if errors.is_empty() {
            let rule = "is not what is expected here; see /openapi/v3";
            errors.push(FieldError {
                field: path.to_owned(),
                value: crate::check::shorten(&value),
                rule: rule.into(),
                reason: Reason::Invalid,
            });
        }
        errors
    })
}

struct Shape {
    errors: Vec<FieldError>,
}

impl Shape {
    fn value(&mut self, schema: &Value, value: &mut Value, path: &str) {
        if value.is_null() && schema["nullable"] == true {
            return;
        }
        let wrong = match (schema["type"].as_str(), &mut *value) {
            (Some("object"), Value::Object(map)) => return self.object(schema, map, path),
            (Some("array"), Value::Array(list)) => {
                for (i, item) in list.iter_mut().enumerate() {
                    self.value(&schema["items"], item, &format!("{path}[{i}]"));
                }
                return;
            }
            (Some("string"), Value::String(text)) => string(schema, text),
            (Some("boolean"), Value::Bool(_)) | (Some("number"), Value::Number(_)) | (None, _) => {
                None
            }
            (Some("integer"), Value::Number(number)) => {
                let most = schema["maximum"].as_u64().unwrap_or(most(schema));
                let fine = number.as_u64().is_some_and(|number| number <= most);
                (!fine).then(|| demand(schema))
            }
            _ => Some(other_type(schema, value)),
        };
        if let Some(rule) = wrong {
            self.invalid(path, value, rule);
        }
    }

    fn object(&mut self, schema: &Value, map: &mut Map<String, Value>, path: &str) {
        let none = Map::new();
        let fields = schema["properties"].as_object().unwrap_or(&none);
        let rest = &schema["additionalProperties"];
        let mut unknown = Vec::new();
        for (name, value) in &mut *map {
            let at = format!("{path}.{name}");
            match fields.get(known_as(name, fields)) {
                Some(schema) => self.value(schema, value, &at),
                None if rest.is_object() => self.value(rest, value, &at),
                None if *rest == Value::Bool(false) => unknown.push(name.clone()),
                None => {}
            }
        }
        for name in unknown {
            map.shift_remove(&name);
            self.error(
                format!("{path}.{name}"),
                String::new(),
                not_here(&name, fields),
                Reason::Unknown,
            );
        }
        for (alias, name) in ALIASES {
            if map.contains_key(alias) && map.contains_key(name) && fields.contains_key(name) {
                let rule =
                    format!("is another name of {name}, which is there too; keep one of them");
                self.invalid(&format!("{path}.{alias}"), &map[alias], rule);
            }
        }
        for name in schema["required"].as_array().into_iter().flatten() {
            let name = name.as_str().unwrap_or_default();
            if !map.contains_key(name) {
                let rule = format!("is missing; it {}", demand(&fields[name]));
                self.error(
                    format!("{path}.{name}"),
                    String::new(),
                    rule,
                    Reason::Invalid,
                );
            }
        }
        if schema["oneOf"].is_array() {
            let given: Vec<_> = fields
                .keys()
                .filter(|name| map.contains_key(*name))
                .collect();
            if given.len() != 1 {
                let value = Value::Object(map.clone());
                self.invalid(path, &value, demand(schema));
            }
        }
    }

    fn invalid(&mut self, path: &str, value: &Value, rule: String) {
        let value = crate::check::shorten(value);
        self.error(path.to_owned(), value, rule, Reason::Invalid);
    }

    fn error(&mut self, field: String, value: String, rule: String, reason: Reason) {
        self.errors.push(FieldError {
            field,
            value,
            rule,
            reason,
        });
    }
}

fn known_as<'a>(name: &'a str, fields: &Map<String, Value>) -> &'a str {
    let alias = ALIASES
        .iter()
        .find(|(alias, known)| *alias == name && fields.contains_key(*known));
    alias.map_or(name, |(_, known)| known)
}

fn string(schema: &Value, text: &str) -> Option<String> {
    if schema["format"] == "duration" {
        return text.parse::<Duration>().err();
    }
    let values: Vec<_> = schema["enum"]
        .as_array()?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    if values.contains(&text) {
        return None;
    }
    let near = nearest(text, values.iter().copied());
    let hint = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
    Some(format!("{}{hint}", demand(schema)))
}

/// What a value of this schema must be.
fn demand(schema: &Value) -> String {
    let list = |values: &Value| {
        let values = values.as_array().into_iter().flatten();
        let texts: Vec<_> = values.filter_map(Value::as_str).collect();
        texts.join(", ")
    };
    match schema["type"].as_str() {
        Some("object") if schema["oneOf"].is_array() => {
            let names = schema["properties"].as_object().into_iter().flatten();
            let names: Vec<_> = names.map(|(name, _)| name.as_str()).collect();
            format!("must be an object with exactly one of {}; choose one", names.join(", "))
        }
        Some("object") => "must be an object, with fields of its own".into(),
        Some("array") => "must be a list".into(),
        Some("boolean") => "must be true or false".into(),
        Some("number") => "must be a number".into(),
        Some("integer") => {
            let most = schema["maximum"].as_u64().unwrap_or(most(schema));
            format!("must be a whole number from 0 to {most}")
        }
        _ if schema["format"] == "duration" => {
            "must be a duration: numbers with units, such as \"5s\", \"1.5s\", \"10ms\" or \"1h30m\""
                .into()
        }
        _ if schema["format"] == "uuid" => "must be a UUID: 32 hexadecimal digits with dashes".into(),
        _ if schema["enum"].is_array() => format!("must be one of {}", list(&schema["enum"])),
        _ => "must be text".into(),
    }
}

fn most(schema: &Value) -> u64 {
    match schema["format"].as_str() {
        Some("uint64") => u64::MAX,
        Some("int64") => i64::MAX.cast_unsigned(),
        _ => u64::from(u32::MAX),
    }
}

/// What was read, where it is of another type than demanded, and how to write what was meant.
fn other_type(schema: &Value, value: &Value) -> String {
    let demand = demand(schema);
    match (schema["type"].as_str(), value) {
        (_, Value::Null) => {
            format!("is empty (null) and {demand}; give it a value, or remove the field")
        }
        (Some("string"), Value::Number(_)) => {
            format!("is read as a number and {demand}; put it in quotes")
        }
        (Some("string"), Value::Bool(_)) => format!(
            "is read as true or false and {demand}; put it in quotes (YAML reads a bare y, yes, n, no, on or off like that)"
        ),
        (Some("boolean"), Value::String(text)) => match text.to_ascii_lowercase().as_str() {
            "y" | "yes" | "on" | "true" => format!("is read as text and {demand}; write true"),
            "n" | "no" | "off" | "false" => format!("is read as text and {demand}; write false"),
            _ => format!("is read as text and {demand}"),
        },
        (Some("integer" | "number"), Value::String(text)) if text.parse::<f64>().is_ok() => {
            format!("is read as text and {demand}; remove the quotes")
        }
        (Some("array"), value) if !value.is_array() => {
            format!("{demand}; put a dash before it (YAML) or brackets around it")
        }
        _ => demand,
    }
}

/// An unknown field, with the known one that is nearest.
fn not_here(name: &str, fields: &Map<String, Value>) -> String {
    let names = fields.keys().map(String::as_str);
    match nearest(name, names.clone()) {
        Some(near) => format!("unknown field; did you mean {near}?"),
        None if fields.is_empty() => "unknown field; there is none here".into(),
        None => format!(
            "unknown field; the fields here are {}",
            names.collect::<Vec<_>>().join(", ")
        ),
    }
}

/// The name that was probably meant.
fn nearest<'a>(written: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    near(written, names).into_iter().next()
}

/// The names that may have been meant, the most likely first.
pub fn near<'a>(written: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let names = names.map(|name| (distance(written, name), name));
    let near = names.filter(|(distance, name)| *distance <= 1 + name.len() / 3);
    let mut near: Vec<_> = near.collect();
    near.sort_unstable();
    near.into_iter().map(|(_, name)| name).collect()
}

/// The edits (insert, delete, replace a character) from one name to the other, without regard to case.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
