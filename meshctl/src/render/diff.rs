//! Resources as unified diffs of their YAML.
//!
//! Input is a resource before and after, output a diff without what the server keeps for itself (versions, times, status).
//! *Invariant:* two resources that mean the same have no diff, whatever the order of their keys.

use serde_json::{Map, Value};
use similar::{ChangeTag, TextDiff};

use crate::style::{Style, Tone};

/// What the server fills in, in `metadata`.
const SERVERS: [&str; 6] = [
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
    "selfLink",
];

/// The unified diff from `before` to `after`; null is absence. Empty if nothing differs.
pub(crate) fn unified(title: &str, before: &Value, after: &Value, style: Style) -> String {
    let (old, new) = (declared(before), declared(after));
    if old == new {
        return String::new();
    }
    let diff = TextDiff::from_lines(old.as_str(), new.as_str());
    let heading = |sign: &str, value: &Value| {
        let name = if value.is_null() {
            "/dev/null".to_owned()
        } else {
            title.to_owned()
        };
        style.paint(Tone::Strong, &format!("{sign} {name}")) + "\n"
    };
    let mut text = heading("---", before) + &heading("+++", after);
    for hunk in diff.unified_diff().context_radius(3).iter_hunks() {
        text += &style.paint(Tone::Place, hunk.header().to_string().trim_end());
        text.push('\n');
        for change in hunk.iter_changes() {
            let (sign, tone) = match change.tag() {
                ChangeTag::Delete => ('-', Tone::Bad),
                ChangeTag::Insert => ('+', Tone::Good),
                ChangeTag::Equal => (' ', Tone::Plain),
            };
            text += &style.paint(
                tone,
                &format!("{sign}{}", change.value().trim_end_matches('\n')),
            );
            text.push('\n');
        }
    }
    text
}

/// What a user declared, as YAML with sorted keys; nothing for what is absent.
fn declared(resource: &Value) -> String {
    let mut resource = resource.clone();
    let Some(fields) = resource.as_object_mut() else {
        return String::new();
    };
    fields.shift_remove("status");
    if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|name, value| !SERVERS.contains(&name.as_str()) && !is_empty_map(value));
    }
    let head = ["apiVersion", "kind", "metadata", "spec"];
    let mut ordered = Map::new();
    for name in head {
        ordered.extend(
            fields
                .shift_remove(name)
                .map(|v| (name.to_owned(), sorted(v))),
        );
    }
    ordered.extend(
        std::mem::take(fields)
            .into_iter()
            .map(|(name, v)| (name, sorted(v))),
    );
    super::yaml(&Value::Object(ordered))
}

fn is_empty_map(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(Map::is_empty)
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<(String, Value)> =
                fields.into_iter().map(|(k, v)| (k, sorted(v))).collect();
            fields.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
