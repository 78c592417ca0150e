//! The table of `meshctl credentials list`.

use serde_json::Value;

use super::{items, moment, text};
use crate::style::{Cell, Style};

/// The credentials of a workload, oldest first; empty if it has none.
pub(crate) fn table(answer: &Value, style: Style) -> String {
    let row = |credential: &Value| -> Vec<Cell> {
        vec![
            text(&credential["id"]).into(),
            moment(&text(&credential["created"])).into(),
            text(&credential["identity"]).into(),
        ]
    };
    let rows: Vec<Vec<Cell>> = items(&answer["credentials"]).iter().map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    style.table(&["ID", "CREATED", "IDENTITY"], rows)
}
