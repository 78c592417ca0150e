//! Everything about one resource, for reading.
//!
//! Input is the resource, what happened to it lately and its history; output is a page of text.
//! *Invariant:* every field of the spec and of the status is shown: what this module does not know is shown as YAML.

use serde_json::{Map, Value};

use super::{items, text, yaml};
use crate::style::{Cell, Style, Tone};

/// The page about one resource. `history` is a table, or empty.
pub(crate) fn page(object: &Value, events: &[Value], history: &str, style: Style) -> String {
    let metadata = &object["metadata"];
    let mut out = String::new();
    let mut field = |name: &str, value: String| {
        let value = if value.is_empty() {
            style.paint(Tone::Faint, "<none>")
        } else {
            value
        };
        out += &format!(
            "{}{value}\n",
            style.paint(Tone::Strong, &format!("{:<13}", format!("{name}:")))
        );
    };
    field("Name", text(&metadata["name"]));
    if !metadata["namespace"].is_null() {
        field("Namespace", text(&metadata["namespace"]));
    }
    field(
        "Kind",
        format!(
            "{} ({})",
            text(&object["kind"]),
            text(&object["apiVersion"])
        ),
    );
    field("Labels", pairs(&metadata["labels"]));
    field("Annotations", pairs(&metadata["annotations"]));
    field("Created", text(&metadata["creationTimestamp"]));
    field(
        "Revision",
        match text(&metadata["generation"]) {
            generation if generation.is_empty() => text(&metadata["resourceVersion"]),
            generation => format!(
                "{} (generation {generation})",
                text(&metadata["resourceVersion"])
            ),
        },
    );
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    for (name, value) in object
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(n, _)| !known.contains(&n.as_str()))
    {
        section(&mut out, name, &yaml(value), style);
    }
    if !object["spec"].is_null() {
        section(&mut out, "Spec", &yaml(&object["spec"]), style);
    }
    if let Some(status) = object["status"].as_object() {
        let (conditions, rest) = conditions(status, style);
        section(&mut out, "Conditions", &conditions, style);
        if !rest.is_empty() {
            section(&mut out, "Status", &yaml(&Value::Object(rest)), style);
        }
    }
    section(&mut out, "Events", &happenings(events, style), style);
    section(&mut out, "History", history, style);
    out
}

/// An indented block under a heading; nothing, if it is empty.
fn section(out: &mut String, name: &str, body: &str, style: Style) {
    if body.is_empty() {
        return;
    }
    *out += &format!("\n{}\n", style.paint(Tone::Strong, &format!("{name}:")));
    for line in body.lines() {
        *out += format!("  {line}").trim_end();
        out.push('\n');
    }
}

/// `app=reviews`, one per line under one another.
fn pairs(map: &Value) -> String {
    let pairs = map
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", text(v)));
    pairs.collect::<Vec<_>>().join(&format!("\n{:13}", ""))
}

/// The conditions as a table, and the rest of the status.
fn conditions(status: &Map<String, Value>, style: Style) -> (String, Map<String, Value>) {
    let mut rest = status.clone();
    let conditions = rest.shift_remove("conditions").unwrap_or_default();
    let row = |c: &Value| {
        let state = text(&c["status"]);
        let tone = match state.as_str() {
            "True" => Tone::Good,
            "False" => Tone::Bad,
            _ => Tone::Warn,
        };
        let told = [&c["reason"], &c["message"]].map(|v| Cell::from(text(v)));
        [text(&c["type"]).into(), Cell::toned(tone, state)]
            .into_iter()
            .chain(told)
            .collect()
    };
    (
        style.table(
            &["TYPE", "STATUS", "REASON", "MESSAGE"],
            items(&conditions).iter().map(row).collect(),
        ),
        rest,
    )
}

fn happenings(events: &[Value], style: Style) -> String {
    let row = |e: &Value| {
        let tone = if e["type"] == "Warning" {
            Tone::Warn
        } else {
            Tone::Plain
        };
        let told = [&e["lastTimestamp"], &e["reason"], &e["message"]].map(|v| Cell::from(text(v)));
        std::iter::once(Cell::toned(tone, text(&e["type"])))
            .chain(told)
            .collect()
    };
    style.table(
        &["TYPE", "LAST SEEN", "REASON", "MESSAGE"],
        events.iter().map(row).collect(),
    )
}

#[cfg(test)]
mod tests;
