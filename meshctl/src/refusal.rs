//! What the server says of documents, told by file and line.
//!
//! Input is the server's `Status` or warnings and the documents they are about; output leads to the line to mend.
//! *Invariant:* no cause is dropped: one that names no known document is told as it is.

use crate::client;
use crate::error::Error;
use crate::manifest::Document;

/// The error, with the place of each field that is at fault.
pub(crate) fn placed(error: Error, documents: &[Document]) -> Error {
    let Error::Client(client::Error::Refused(status)) = &error else {
        return error;
    };
    if status.details.causes.is_empty() {
        return error;
    }
    let mut lines = Vec::new();
    for cause in &status.details.causes {
        let line = match document(&cause.field, documents) {
            Some((document, field)) => {
                format!(
                    "{}: {}: {field}: {}",
                    document.place(field),
                    document.title(),
                    cause.message
                )
            }
            None => cause.to_string(),
        };
        lines.push(line);
    }
    let count = match lines.len() {
        1 => "an error".to_owned(),
        n => format!("{n} errors"),
    };
    Error::Refused(format!(
        "nothing was changed because of {count}\n  {}",
        lines.join("\n  ")
    ))
}

/// A warning such as `items[3] VirtualService shop/reviews: …`, with the place of the document in its stead.
pub(crate) fn placed_warning(warning: &str, documents: &[Document]) -> String {
    let split = warning
        .starts_with("items[")
        .then(|| warning.split_once(' '))
        .flatten();
    match split.and_then(|(item, rest)| Some((document(item, documents)?.0, rest))) {
        Some((document, rest)) => format!("{}: {rest}", document.place("")),
        None => warning.to_owned(),
    }
}

/// The document and the field in it that `items[3].spec.hosts` means; with one document, `spec.hosts` is enough.
fn document<'a, 'f>(field: &'f str, documents: &'a [Document]) -> Option<(&'a Document, &'f str)> {
    if let Some((_, rest)) = field
        .split_once('[')
        .filter(|(list, _)| ["items", "documents"].contains(list))
    {
        let (index, rest) = rest.split_once(']')?;
        return Some((
            documents.get(index.parse::<usize>().ok()?)?,
            rest.trim_start_matches('.'),
        ));
    }
    match documents {
        [document] => Some((document, field)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
