//! The table of `meshctl ca`.

use serde_json::Value;

use super::{items, moment, text};
use crate::style::{Cell, Style};

/// Roots, the issuing certificate and keys of tokens, and how far they have come.
pub(crate) fn status(answer: &Value, style: Style) -> String {
    let time = |value: &Value| Cell::from(moment(&text(value)));
    let row = |what: &str, of: &Value| -> Vec<Cell> {
        vec![
            what.to_owned().into(),
            text(&of["name"]).into(),
            text(&of["stage"]).into(),
            time(&of["since"]),
            time(&of["expires"]),
        ]
    };
    let mut rows: Vec<Vec<Cell>> = items(&answer["roots"])
        .iter()
        .map(|root| row("root", root))
        .collect();
    rows.push(row("issuing certificate", &answer["issuing"]));
    rows.extend(
        items(&answer["tokenKeys"])
            .iter()
            .map(|key| row("key of tokens", key)),
    );
    style.table(&["WHAT", "NAME", "STAGE", "SINCE", "EXPIRES"], rows)
}
