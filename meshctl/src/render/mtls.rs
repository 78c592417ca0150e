//! The table of `meshctl mtls`: a row per port of each workload, and below it why a mode is what it is.
//!
//! *Invariant:* no service is left out, even if nothing serves it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{items, moment, text};
use crate::style::{Cell, Style, Tone};

const HEADER: [&str; 9] = [
    "NAMESPACE",
    "SERVICE",
    "MTLS",
    "WORKLOAD",
    "PORT",
    "MODE",
    "POLICY",
    "ACKED",
    "UNTIL",
];

/// What `/v1/mtls` says of services.
pub(crate) fn table(services: &[Value], style: Style) -> String {
    let rows = services.iter().flat_map(rows).collect();
    let mut out = style.table(&HEADER, rows);
    let mut reasons = BTreeMap::<String, Vec<String>>::new();
    for service in services.iter().filter(|it| !it["reason"].is_null()) {
        let of = reasons.entry(text(&service["reason"])).or_default();
        of.push(text(&service["service"]));
    }
    for (reason, of) in reasons {
        out += &format!(
            "\n{}: {reason}\n",
            style.paint(Tone::Strong, &of.join(", "))
        );
    }
    out
}

fn rows(service: &Value) -> Vec<Vec<Cell>> {
    let start = || {
        vec![
            text(&service["namespace"]).into(),
            text(&service["service"]).into(),
            mode(&service["mtls_mode"]),
        ]
    };
    let faint = || Cell::toned(Tone::Faint, "-");
    let mut rows = Vec::new();
    for workload in items(&service["details"]) {
        let name = [&workload["workload"], &workload["address"]];
        let name = name.into_iter().find(|it| !it.is_null());
        for port in items(&workload["ports"]) {
            let mut row = start();
            row.push(name.map_or_else(faint, |name| text(name).into()));
            row.push(text(&port["port"]).into());
            row.push(mode(&port["mode"]));
            row.push(policy(port));
            row.push(match port["acked"] == true {
                true => Cell::toned(Tone::Good, "yes"),
                false => Cell::toned(Tone::Warn, "no"),
            });
            let until = moment(&text(&port["draining_until"]));
            row.push(if until.is_empty() {
                faint()
            } else {
                until.into()
            });
            rows.push(row);
        }
    }
    if rows.is_empty() {
        let mut row = start();
        row.resize_with(HEADER.len(), faint);
        rows.push(row);
    }
    rows
}

fn mode(mode: &Value) -> Cell {
    let mode = text(mode);
    let tone = match mode.as_str() {
        "STRICT" => Tone::Good,
        "DRAINING" | "PERMISSIVE" | "MIXED" => Tone::Warn,
        "DISABLE" | "UNKNOWN" => Tone::Bad,
        _ => Tone::Plain,
    };
    Cell::toned(tone, mode)
}

/// The policy that decides, what it decides, and how narrow it is.
fn policy(port: &Value) -> Cell {
    let decided = text(&port["policy_mode"]);
    let policy = &port["policy"];
    let cell = match (decided.is_empty(), policy.is_null()) {
        (true, _) => return Cell::toned(Tone::Faint, "-"),
        (false, true) => format!("{decided} by default"),
        (false, false) => format!(
            "{decided} by {}/{} ({})",
            text(&policy["namespace"]),
            text(&policy["name"]),
            text(&port["scope"])
        ),
    };
    cell.into()
}

#[cfg(test)]
mod tests;
