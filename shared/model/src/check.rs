//! From an object to a typed resource that keeps every rule, or to all the rules that it breaks.
//!
//! *Invariant:* what passes here is valid by itself; whether what it refers to exists is not looked at.

use std::fmt;

use serde_json::Value;

use crate::validate::{Findings, validate};
use crate::{DecodeError, Kind, Object, Resource, schema, shape, unsupported};

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
    if let Some(schema) = schema(object.kind) {
        for error in shape(schema, &mut object.spec, "spec") {
            match error.reason {
                Reason::Unknown => treat(error, options.unknown, &mut errors),
                _ => errors.push(error),
            }
        }
    }
    let unread = errors.iter().any(|error| error.reason != Reason::Unknown);
    for field in unsupported::fields(object.kind, &object.spec) {
        let error = FieldError {
            value: show(&given, &field),
            field,
            rule: "is not supported yet: it would have no effect; remove it, or ask for a warning instead".into(),
            reason: Reason::Unsupported,
        };
        treat(error, options.unsupported, &mut errors);
    }
    if unread {
        return Err(told(object.kind, errors));
    }
    let resource = match object.decode() {
        Ok(resource) => resource,
        Err(DecodeError { field, reason }) => {
            let error = FieldError {
                value: show(&given, &field),
                field,
                rule: reason,
                reason: Reason::Invalid,
            };
            return Err(told(object.kind, vec![error]));
        }
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
    if errors.is_empty() {
        Ok(Checked {
            object,
            resource,
            warnings,
        })
    } else {
        Err(told(object.kind, errors))
    }
}

impl Resource {
    /// The first rule within its spec that it breaks: one that was stored past the API, or before there was that rule.
    pub fn broken_rule(&self) -> Option<DecodeError> {
        let mut findings = Findings::default();
        validate(&self.spec, &mut findings);
        let (field, reason) = findings.errors.into_iter().next()?;
        Some(DecodeError { field, reason })
    }
}

/// As many errors as are reported; without values where they may be secret.
fn told(kind: Kind, mut errors: Vec<FieldError>) -> Vec<FieldError> {
    errors.truncate(MOST);
    if kind.is_secret() {
        errors.iter_mut().for_each(|error| error.value.clear());
    }
    errors
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

/// The steps of a path like `spec.http[0].headers.x-a`, after `spec`.
fn steps(field: &str) -> impl Iterator<Item = &str> {
    field
        .split(['.', '['])
        .map(|step| step.trim_end_matches(']'))
        .skip(1)
}

/// The value at a path.
fn find<'v>(spec: &'v Value, steps: &[&str]) -> Option<&'v Value> {
    let Some((first, rest)) = steps.split_first() else {
        return Some(spec);
    };
    match spec {
        // A name may contain dots itself: take the longest that is there.
        Value::Object(map) => {
            let taken = (1..=steps.len())
                .rev()
                .find(|taken| map.contains_key(&steps[..*taken].join(".")))?;
            find(map.get(&steps[..taken].join("."))?, &steps[taken..])
        }
        Value::Array(items) => find(items.get(first.parse::<usize>().ok()?)?, rest),
        _ => None,
    }
}

/// The value at a path as JSON, shortened.
fn show(spec: &Value, field: &str) -> String {
    let steps: Vec<_> = steps(field).collect();
    let Some(value) = find(spec, &steps).filter(|_| field.starts_with("spec")) else {
        return String::new();
    };
    shorten(value)
}

/// A value as JSON, shortened.
pub(crate) fn shorten(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) mod samples;
