//! The table of `meshctl ca`.

use serde_json::Value;

use super::{items, moment, text};
use crate::style::{Cell, Style};

/// Roots, the issuing certificate and keys of tokens, and how far they have come; bundles of federated trust domains.
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
    rows.extend(items(&answer["federated"]).iter().map(|domain| {
        vec![
            "federated bundle".into(),
            text(&domain["trustDomain"]).into(),
            text(&domain["bundle"]).into(),
            time(&domain["fetched"]),
            "".into(),
        ]
    }));
    style.table(&["WHAT", "NAME", "STAGE", "SINCE", "EXPIRES"], rows)
}
