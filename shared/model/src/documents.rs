//! Files and bodies to documents: several YAML documents, JSON values one after the other, and `kind: List`.
//!
//! *Invariant:* memory and time stay in proportion to the text: aliases, depth and sizes have budgets.

use serde_json::Value;

use self::once::Once;
use crate::check::shorten;

mod once;

/// Text that is not documents, and where it goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{syntax}: {}{reason}", match at { Some((line, column)) => format!("line {line} column {column}: "), None => String::new() })]
pub struct DocumentError {
    /// `YAML` or `JSON`.
    pub syntax: &'static str,
    /// Line and column, from 1, where they are known.
    pub at: Option<(usize, usize)>,
    /// What is wrong.
    pub reason: String,
}

/// The documents in a text, YAML or JSON, in order. Empty documents are left out; the items of a `List` take its place.
///
/// # Errors
/// If the text cannot be read, or holds something else than objects.
pub fn documents(text: &str) -> Result<Vec<Value>, DocumentError> {
    // YAML may begin with a brace as well; what separates its documents is never in JSON.
    let json = text.trim_start().starts_with('{') && !text.contains("\n---");
    let values: Vec<Value> = if json {
        let values = serde_json::Deserializer::from_str(text).into_iter();
        let values: Result<Vec<Once>, _> = values.collect();
        let values = values.map_err(|e| json_error(&e))?;
        values.into_iter().map(|Once(value)| value).collect()
    } else {
        without_nul(text)?;
        serde_saphyr::from_multiple(text).map_err(|e| yaml_error(&e))?
    };
    let error = |reason: String| DocumentError {
        syntax: if json { "JSON" } else { "YAML" },
        at: None,
        reason,
    };
    let mut documents = Vec::new();
    for value in values {
        match value {
            Value::Null => {}
            Value::Object(mut map) if is_list(&map) => {
                let items = map.remove("items").unwrap_or_default();
                let Value::Array(items) = items else {
                    let text = shorten(&items);
                    return Err(error(format!(
                        "the items of a List must be a list, not {text}"
                    )));
                };
                for item in items {
                    documents.push(object(item).map_err(error)?);
                }
            }
            other => documents.push(object(other).map_err(error)?),
        }
    }
    Ok(documents)
}

/// One JSON value, such as a request's body.
///
/// # Errors
/// If the text cannot be read, holds more than one value, or has a field twice in one object.
pub fn json(text: &str) -> Result<Value, DocumentError> {
    let read = serde_json::from_str(text).map(|Once(value)| value);
    read.map_err(|e| json_error(&e))
}

/// One YAML document.
///
/// # Errors
/// If the text cannot be read, holds more than one document, or has a field twice in one object.
pub fn yaml(text: &str) -> Result<Value, DocumentError> {
    without_nul(text)?;
    serde_saphyr::from_str(text).map_err(|e| yaml_error(&e))
}

fn object(value: Value) -> Result<Value, String> {
    if value.is_object() {
        return Ok(value);
    }
    let text = shorten(&value);
    Err(format!(
        "a document must be an object with apiVersion and kind, not {text}"
    ))
}

/// Reading YAML in one go would stop at a NUL as if it were the end.
fn without_nul(text: &str) -> Result<(), DocumentError> {
    match text.lines().position(|line| line.contains('\0')) {
        None => Ok(()),
        Some(line) => Err(DocumentError {
            syntax: "YAML",
            at: Some((line + 1, 1)),
            reason: "there is a NUL character; YAML is text".into(),
        }),
    }
}

/// How the parsers' messages begin, and ours.
const WORDS: [(&str, &str); 9] = [
    ("EOF while parsing", "the text ends before the value does"),
    ("trailing characters", "there is more text after the value"),
    (
        "trailing comma",
        "there is a comma with nothing after it; remove it",
    ),
    (
        "expected value",
        "there is no value here; text needs quotes",
    ),
    (
        "key must be a string",
        "the name of a field must be in double quotes",
    ),
    ("recursion limit exceeded", "this is nested too deeply"),
    ("number out of range", "the number is too large"),
    (
        "control character",
        "there is a control character in text; write \\n, \\t or \\u and four digits",
    ),
    ("expected string scalar", "the name of a field must be text"),
];

/// What a parser says, without its place.
fn plain(error: &str) -> String {
    let what = error.split(" at line ").next().unwrap_or(error);
    if let Some(field) = what.strip_prefix("duplicate mapping key: ") {
        let field = field.split(',').next().unwrap_or(field);
        return twice(field);
    }
    let ours = WORDS.iter().find(|(theirs, _)| what.starts_with(theirs));
    ours.map_or(what, |(_, ours)| ours).to_owned()
}

fn twice(field: &str) -> String {
    format!("the field {field:?} stands twice in one object; keep one")
}

fn json_error(error: &serde_json::Error) -> DocumentError {
    DocumentError {
        syntax: "JSON",
        at: Some((error.line(), error.column())).filter(|(line, _)| *line > 0),
        reason: plain(&error.to_string()),
    }
}

fn yaml_error(error: &serde_saphyr::Error) -> DocumentError {
    let at = error.location().filter(|at| at.line() > 0);
    DocumentError {
        syntax: "YAML",
        at: at.and_then(|at| Some((at.line().try_into().ok()?, at.column().try_into().ok()?))),
        reason: plain(&error.without_snippet().to_string()),
    }
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
