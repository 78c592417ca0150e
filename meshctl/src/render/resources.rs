//! Resources as the server tabulates them (`meta.k8s.io/v1` `Table`).
//!
//! Input is a `Table`, output is rows of text; the columns are the server's, so that `kubectl` and `meshctl` agree.
//! *Invariant:* nothing here knows a kind.

use serde_json::Value;

use super::{items, text};
use crate::style::{Cell, Style, Tone};

/// How to lay out tables of resources.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    /// Show the columns of lower priority too.
    pub(crate) wide: bool,
    /// Start with a column for the namespace.
    pub(crate) namespace: bool,
    /// Put `kind.group/` before each name, because several kinds are shown.
    pub(crate) prefix: Option<String>,
    /// Leave out the header.
    pub(crate) headless: bool,
}

/// A table of resources as text; empty if there are none.
pub(crate) fn table(table: &Value, layout: &Layout, style: Style) -> String {
    let rows = items(&table["rows"])
        .iter()
        .map(|r| cells(table, r, layout))
        .collect();
    let set = style.table(&header(table, layout), rows);
    match set.split_once('\n') {
        Some((_, rest)) if layout.headless => rest.to_owned(),
        _ => set,
    }
}

/// The titles of the columns.
pub(crate) fn header(table: &Value, layout: &Layout) -> Vec<String> {
    let namespace = layout.namespace.then(|| "NAMESPACE".to_owned());
    namespace
        .into_iter()
        .chain(
            columns(table, layout.wide)
                .iter()
                .map(|(_, c)| text(&c["name"]).to_uppercase()),
        )
        .collect()
}

/// The cells of one row of a table.
pub(crate) fn cells(table: &Value, row: &Value, layout: &Layout) -> Vec<Cell> {
    let namespace = layout
        .namespace
        .then(|| text(&row["object"]["metadata"]["namespace"]).into());
    let columns = columns(table, layout.wide);
    namespace
        .into_iter()
        .chain(
            columns
                .iter()
                .map(|(i, column)| cell(&row["cells"][*i], column, layout)),
        )
        .collect()
}

/// The indices and definitions of the columns to show.
fn columns(table: &Value, wide: bool) -> Vec<(usize, &Value)> {
    let shown = |c: &Value| wide || c["priority"].as_i64().unwrap_or(0) == 0;
    items(&table["columnDefinitions"])
        .iter()
        .enumerate()
        .filter(|(_, c)| shown(c))
        .collect()
}

fn cell(value: &Value, column: &Value, layout: &Layout) -> Cell {
    let text = match value {
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(","),
        Value::Null => "<none>".into(),
        other => text(other),
    };
    match (column["format"].as_str(), &layout.prefix) {
        (Some("name"), Some(prefix)) => format!("{prefix}/{text}").into(),
        _ if text == "<none>" => Cell::toned(Tone::Faint, text),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests;
