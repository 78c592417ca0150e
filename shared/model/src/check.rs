//! From an object to a typed resource that keeps every rule, or to all the rules that it breaks.
//!
//! *Invariant:* what passes here is valid by itself; whether what it refers to exists is not looked at.

use std::fmt;

use serde_json::Value;

use crate::validate::{Findings, validate};
use crate::{DecodeError, Kind, Object, Resource, unsupported};

/// A rule that a field breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The path of the field, such as `spec.http[2].route[0].weight`.
    pub field: String,
    /// Its value as JSON, shortened; empty if the field is absent.
    pub value: String,
    /// The rule, and the way out.
    pub rule: String,
    /// What sort of rule it is.
    pub reason: Reason,
}

/// The sorts of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The kind has no such field.
    Unknown,
    /// The value is wrong.
    Invalid,
    /// The field, or the kind, has no effect yet.
    Unsupported,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value.as_str() {
            "" => write!(f, "{}: {}", self.field, self.rule),
            value => write!(f, "{}: {value}: {}", self.field, self.rule),
        }
    }
}

/// What is done with fields that are unknown or have no effect yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Treat {
    /// Refuse the object.
    #[default]
    Refuse,
    /// Say so in a warning.
    Warn,
    /// Say nothing.
    Ignore,
}

/// How strictly objects are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Unknown fields; if they are not refused they are dropped.
    pub unknown: Treat,
    /// Known fields that have no effect yet; if they are not refused they are stored.
    pub unsupported: Treat,
}

/// A valid object.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The object to store: as given, less unknown fields.
    pub object: Object,
    /// The same, typed.
    pub resource: Resource,
    /// What people should know about it.
    pub warnings: Vec<String>,
}

/// How many errors of one object are reported at most.
const MOST: usize = 50;

/// Reads an object and checks every rule that needs nothing else than the object.
///
/// # Errors
/// Every rule that is broken, as far as it can be told; at most fifty.
pub fn check(mut object: Object, options: Options) -> Result<Checked, Vec<FieldError>> {
    if !object.kind.supported() {
        return Err(vec![not_built(object.kind)]);
    }
    let mut errors = Vec::new();
    let mut warnings = Vec::new();
    let given = object.spec.clone();
    let mut treat = |error: FieldError, treat: Treat, errors: &mut Vec<FieldError>| match treat {
        Treat::Refuse => errors.push(error),
        Treat::Warn => warnings.push(error.to_string()),
        Treat::Ignore => {}
    };
    let mut unknown = 0;
    let resource = loop {
        match object.decode() {
            Ok(resource) => break Some(resource),
            Err(error)
                if unknown < MOST
                    && is_unknown(&error)
                    && remove(&mut object.spec, &error.field) =>
            {
                unknown += 1;
                let rule = nearest(&error);
                treat(
                    FieldError {
                        field: error.field,
                        value: String::new(),
                        rule,
                        reason: Reason::Unknown,
                    },
                    options.unknown,
                    &mut errors,
                );
            }
            Err(DecodeError { field, reason }) => {
                let value = show(&given, &field);
                errors.push(FieldError {
                    field,
                    value,
                    rule: plain(reason),
                    reason: Reason::Invalid,
                });
                break None;
            }
        }
    };
    for field in unsupported::fields(object.kind, &object.spec) {
        let error = FieldError {
            value: show(&given, &field),
            field,
            rule: "is not supported yet: it would have no effect; remove it, or ask for a warning instead".into(),
            reason: Reason::Unsupported,
        };
        treat(error, options.unsupported, &mut errors);
    }
    let Some(resource) = resource else {
        return Err(errors);
    };
    let mut findings = Findings::default();
    validate(&resource.spec, &mut findings);
    errors.extend(findings.errors.into_iter().map(|(field, rule)| {
        let value = show(&given, &field);
        FieldError {
            field,
            value,
            rule,
            reason: Reason::Invalid,
        }
    }));
    warnings.extend(
        findings
            .warnings
            .into_iter()
            .map(|(field, text)| format!("{field}: {text}")),
    );
    errors.truncate(MOST);
    if errors.is_empty() {
        Ok(Checked {
            object,
            resource,
            warnings,
        })
    } else {
        Err(errors)
    }
}

fn not_built(kind: Kind) -> FieldError {
    let built: Vec<_> = Kind::ALL
        .into_iter()
        .filter(|kind| kind.supported())
        .map(Kind::name)
        .collect();
    FieldError {
        field: "kind".into(),
        value: format!("{:?}", kind.name()),
        rule: format!(
            "is not supported yet; these kinds are: {}",
            built.join(", ")
        ),
        reason: Reason::Unsupported,
    }
}

/// Serde's message without names of Rust's types.
fn plain(reason: String) -> String {
    let most = match reason.rsplit_once(", expected ") {
        Some((what, "u16")) if what.starts_with("invalid value") => u32::from(u16::MAX),
        Some((what, "u32")) if what.starts_with("invalid value") => u32::MAX,
        _ => return reason,
    };
    format!("must be a whole number from 0 to {most}")
}

fn is_unknown(error: &DecodeError) -> bool {
    error.reason.starts_with("unknown field `")
}

/// Serde's message with the known name that is nearest to what was written.
fn nearest(error: &DecodeError) -> String {
    let mut names = error.reason.split('`').skip(1).step_by(2);
    let written = names.next().unwrap_or_default();
    let near = names.map(|name| (distance(written, name), name)).min();
    match near {
        Some((distance, name)) if distance <= 1 + name.len() / 3 => {
            format!("unknown field; did you mean {name}?")
        }
        _ => format!(
            "unknown field; {}",
            error
                .reason
                .split_once(", ")
                .map_or("there is none here", |(_, known)| known)
        ),
    }
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

/// The steps of a path like `spec.http[0].headers.x-a`, after `spec`.
fn steps(field: &str) -> impl Iterator<Item = &str> {
    field
        .split(['.', '['])
        .map(|step| step.trim_end_matches(']'))
        .skip(1)
}

/// The value at a path.
fn find<'v>(spec: &'v mut Value, steps: &[&str]) -> Option<&'v mut Value> {
    let Some((first, rest)) = steps.split_first() else {
        return Some(spec);
    };
    match spec {
        // A name may contain dots itself: take the longest that is there.
        Value::Object(map) => {
            let taken = (1..=steps.len())
                .rev()
                .find(|taken| map.contains_key(&steps[..*taken].join(".")))?;
            find(map.get_mut(&steps[..taken].join("."))?, &steps[taken..])
        }
        Value::Array(items) => find(items.get_mut(first.parse::<usize>().ok()?)?, rest),
        _ => None,
    }
}

/// Removes the field at a path; whether it was there.
fn remove(spec: &mut Value, field: &str) -> bool {
    let steps: Vec<_> = steps(field).collect();
    (0..steps.len())
        .rev()
        .any(|parent| match find(spec, &steps[..parent]) {
            Some(Value::Object(map)) => map.shift_remove(&steps[parent..].join(".")).is_some(),
            _ => false,
        })
}

/// The value at a path as JSON, shortened.
fn show(spec: &Value, field: &str) -> String {
    let steps: Vec<_> = steps(field).collect();
    let mut spec = spec.clone();
    let Some(value) = find(&mut spec, &steps).filter(|_| field.starts_with("spec")) else {
        return String::new();
    };
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod samples;
