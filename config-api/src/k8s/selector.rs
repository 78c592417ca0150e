//! Label and field selectors.
//!
//! *Invariant:* a selector that cannot be understood is an error; it never selects everything by accident.

use std::collections::BTreeMap;

use model::Object;

use crate::http::query::{Params, invalid};
use crate::http::status::Result;

/// What a list or a watch is narrowed to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(Field, bool, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Name,
    Namespace,
}

impl Selector {
    /// From `labelSelector` and `fieldSelector`.
    pub(crate) fn of(params: &Params) -> Result<Self> {
        let labels = match params.get("labelSelector") {
            Some(text) => parse_labels(text).ok_or_else(|| {
                invalid(
                    "labelSelector",
                    text,
                    "is not a selector such as app=web,tier in (a,b),!canary",
                )
            })?,
            None => Vec::new(),
        };
        let fields = match params.get("fieldSelector") {
            Some(text) => parse_fields(text).ok_or_else(|| {
                invalid(
                    "fieldSelector",
                    text,
                    "may name metadata.name and metadata.namespace, with = or !=",
                )
            })?,
            None => Vec::new(),
        };
        Ok(Self { labels, fields })
    }

    /// Whether it selects everything.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether it selects this object.
    pub(crate) fn matches(&self, object: &Object) -> bool {
        let meta = &object.metadata;
        self.labels.iter().all(|r| r.holds(&meta.labels))
            && self.fields.iter().all(|(field, equal, value)| {
                let actual = match field {
                    Field::Name => &meta.name,
                    Field::Namespace => &meta.namespace,
                };
                (actual == value) == *equal
            })
    }
}

impl Requirement {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|v| values.contains(v)),
            Self::NotIn(key, values) => labels.get(key).is_none_or(|v| !values.contains(v)),
            Self::Exists(key) => labels.contains_key(key),
            Self::Absent(key) => !labels.contains_key(key),
        }
    }
}

fn parse_fields(text: &str) -> Option<Vec<(Field, bool, String)>> {
    text.split(',')
        .filter(|t| !t.is_empty())
        .map(|term| {
            let (field, equal, value) = if let Some((f, v)) = term.split_once("!=") {
                (f, false, v)
            } else if let Some((f, v)) = term.split_once("==") {
                (f, true, v)
            } else {
                let (f, v) = term.split_once('=')?;
                (f, true, v)
            };
            let field = match field.trim() {
                "metadata.name" => Field::Name,
                "metadata.namespace" => Field::Namespace,
                _ => return None,
            };
            Some((field, equal, value.trim().to_owned()))
        })
        .collect()
}

fn parse_labels(text: &str) -> Option<Vec<Requirement>> {
    split_outside_parentheses(text)?
        .into_iter()
        .map(parse_requirement)
        .collect()
}

fn split_outside_parentheses(text: &str) -> Option<Vec<&str>> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_u32, 0);
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1)?,
            ',' if depth == 0 => {
                parts.push(text.get(start..i)?);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(start..)?);
    (depth == 0).then_some(parts)
}

fn parse_requirement(term: &str) -> Option<Requirement> {
    let term = term.trim();
    if let Some(key) = term.strip_prefix('!') {
        return Some(Requirement::Absent(label_key(key)?));
    }
    if let Some((key, value)) = term.split_once("!=") {
        return Some(Requirement::NotIn(
            label_key(key)?,
            vec![label_value(value)?],
        ));
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return Some(Requirement::In(label_key(key)?, vec![label_value(value)?]));
    }
    let Some((head, list)) = term.split_once('(') else {
        return Some(Requirement::Exists(label_key(term)?));
    };
    let values = list
        .strip_suffix(')')?
        .split(',')
        .map(label_value)
        .collect::<Option<Vec<_>>>()?;
    let mut words = head.split_whitespace();
    let (key, operator) = (label_key(words.next()?)?, words.next()?);
    match (operator, words.next()) {
        ("in", None) => Some(Requirement::In(key, values)),
        ("notin", None) => Some(Requirement::NotIn(key, values)),
        _ => None,
    }
}

fn label_key(text: &str) -> Option<String> {
    let key = text.trim();
    let ok = !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    ok.then(|| key.to_owned())
}

fn label_value(text: &str) -> Option<String> {
    let value = text.trim();
    value
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        .then(|| value.to_owned())
}

#[cfg(test)]
mod tests;
