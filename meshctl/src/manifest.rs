//! Manifests: YAML or JSON text in, documents out that remember the file and the line they came from.
//!
//! The server judges what a document says; this module only needs it to be YAML, and to find a field's line again.
//! *Invariant:* nothing here reads a file or asks the server.

mod locate;

use model::Kind;
use serde_json::Value;

use crate::input::Text;

/// One document of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Document {
    /// The file, as it was named.
    pub(crate) file: String,
    /// Its place in the file, from 1.
    pub(crate) number: usize,
    /// How many lines of the file precede it.
    offset: usize,
    /// The text, to find fields in.
    text: String,
    /// For an item of a `List`: its path in the document.
    prefix: String,
    /// What it says.
    pub(crate) value: Value,
}

/// A text that is no manifest.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// Not YAML.
    #[error("{place}: {message}")]
    Syntax { place: String, message: String },
    /// A document that is not a mapping.
    #[error(
        "{file}: document {number} is {found}, not a resource; a resource has apiVersion, kind, metadata and spec"
    )]
    NotAResource {
        file: String,
        number: usize,
        found: &'static str,
    },
    /// No document at all.
    #[error("there is nothing in {0}")]
    Nothing(String),
    /// A document without what every resource has.
    #[error("{place}: {field} is missing")]
    Lacks { place: String, field: &'static str },
    /// A kind that Weft does not have.
    #[error("{place}: there is no kind {kind:?} in {api_version:?}")]
    UnknownKind {
        place: String,
        kind: String,
        api_version: String,
    },
    /// `-n` contradicts a document.
    #[error(
        "{place} has the namespace {found:?}, and --namespace says {wanted:?}; leave one of them away"
    )]
    Namespace {
        place: String,
        found: String,
        wanted: String,
    },
}

/// The documents of all texts, in order; the items of a `List` one by one; empty documents are skipped.
///
/// # Errors
/// If a text is not YAML, a document not a mapping, or nothing is there.
pub(crate) fn documents(texts: &[Text]) -> Result<Vec<Document>, Error> {
    let mut documents = Vec::new();
    for text in texts {
        for (index, (offset, chunk)) in split(&text.text).into_iter().enumerate() {
            let parsed = parse(&text.name, offset, chunk)?;
            let document = |prefix: String, value| Document {
                file: text.name.clone(),
                number: index + 1,
                offset,
                text: chunk.to_owned(),
                prefix,
                value,
            };
            match parsed {
                Value::Null => {}
                Value::Object(mut list)
                    if list
                        .get("kind")
                        .and_then(Value::as_str)
                        .is_some_and(|k| k.ends_with("List")) =>
                {
                    if let Some(Value::Array(items)) = list.remove("items") {
                        let items = items.into_iter().enumerate();
                        documents.extend(
                            items.map(|(i, value)| document(format!("items[{i}]."), value)),
                        );
                    }
                }
                value @ Value::Object(_) => documents.push(document(String::new(), value)),
                other => {
                    let found = match other {
                        Value::Array(_) => "a list",
                        _ => "a single value",
                    };
                    return Err(Error::NotAResource {
                        file: text.name.clone(),
                        number: index + 1,
                        found,
                    });
                }
            }
        }
    }
    if documents.is_empty() {
        let names: Vec<&str> = texts.iter().map(|t| t.name.as_str()).collect();
        return Err(Error::Nothing(names.join(", ")));
    }
    Ok(documents)
}

impl Document {
    /// Fills in the namespace where the document has none.
    ///
    /// # Errors
    /// If `explicit` (the namespace was given on the command line) and the document says another.
    pub(crate) fn set_namespace(&mut self, namespace: &str, explicit: bool) -> Result<(), Error> {
        match self.namespace() {
            Some(found) if explicit && found != namespace => Err(Error::Namespace {
                place: self.place("metadata.namespace"),
                found: found.to_owned(),
                wanted: namespace.to_owned(),
            }),
            Some(_) => Ok(()),
            None => {
                if let Some(metadata) = self
                    .value
                    .get_mut("metadata")
                    .and_then(Value::as_object_mut)
                {
                    metadata.insert("namespace".into(), namespace.into());
                }
                Ok(())
            }
        }
    }

    /// `metadata.namespace`, if it is there.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.value["metadata"]["namespace"].as_str()
    }

    /// `metadata.name`, if it is there.
    pub(crate) fn name(&self) -> Option<&str> {
        self.value["metadata"]["name"].as_str()
    }

    /// The kind the document declares.
    ///
    /// # Errors
    /// If there is none, or none of that name.
    pub(crate) fn kind(&self) -> Result<Kind, Error> {
        let field = |name: &'static str| self.value[name].as_str().ok_or_else(|| self.lacks(name));
        let (api_version, kind) = (field("apiVersion")?, field("kind")?);
        let found = api_version
            .split_once('/')
            .and_then(|(group, version)| Kind::from_gvk(group, version, kind));
        found.ok_or_else(|| Error::UnknownKind {
            place: self.place("kind"),
            kind: kind.to_owned(),
            api_version: api_version.to_owned(),
        })
    }

    /// The error for a field that is not there.
    pub(crate) fn lacks(&self, field: &'static str) -> Error {
        Error::Lacks {
            place: self.place(field),
            field,
        }
    }

    /// `VirtualService shop/reviews`, as far as the document says.
    pub(crate) fn title(&self) -> String {
        let kind = self.value["kind"].as_str().unwrap_or("resource");
        match (self.namespace(), self.name()) {
            (Some(namespace), Some(name)) => format!("{kind} {namespace}/{name}"),
            (None, Some(name)) => format!("{kind} {name}"),
            (_, None) => kind.to_owned(),
        }
    }

    /// Where a field is: `shop.yaml:14`. The nearest field above it that is written down, if it is not; the document's
    /// first line, if there is none.
    pub(crate) fn place(&self, field: &str) -> String {
        let first = || self.text.lines().take_while(|l| is_filling(l)).count() + 1;
        let line =
            locate::line(&self.text, &format!("{}{field}", self.prefix)).unwrap_or_else(first);
        format!("{}:{}", self.file, self.offset + line)
    }
}

/// Whether a line says nothing: blank, a comment, or the mark between documents.
fn is_filling(line: &str) -> bool {
    let line = line.strip_prefix("---").unwrap_or(line).trim_start();
    line.is_empty() || line.starts_with('#')
}

/// Splits at lines that start with `---`, which YAML allows nowhere else; each part with the number of lines before it.
fn split(text: &str) -> Vec<(usize, &str)> {
    let marker = |line: &str| {
        line.strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
    };
    let mut parts = Vec::new();
    let (mut start, mut start_line, mut at) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if marker(line) && at > start {
            parts.push((start_line, &text[start..at]));
            (start, start_line) = (at, number);
        }
        at += line.len();
    }
    parts.push((start_line, &text[start..]));
    parts.retain(|(_, part)| !part.lines().all(is_filling));
    parts
}

fn parse(file: &str, offset: usize, text: &str) -> Result<Value, Error> {
    model::yaml(text).map_err(|error| {
        let place = match error.at {
            Some((line, column)) => format!("{file}:{}:{column}", offset + line),
            None => format!("{file}:{}", offset + 1),
        };
        let message = error.reason;
        Error::Syntax { place, message }
    })
}

#[cfg(test)]
mod tests;
