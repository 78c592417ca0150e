//! What changed or would change: the lines after `apply` and `rollback`, and the table of `history`.
//!
//! Input is what `/v1/apply`, `/v1/rollback` and `/v1/history` answer, output is text.
//! *Invariant:* nothing here computes a change; the server did.

use serde_json::Value;

use super::{items, text};
use crate::style::{Cell, Style, Tone};

/// One line per resource, and the revision.
pub(crate) fn outcome(answer: &Value, dry_run: bool, style: Style) -> String {
    let dry = if dry_run { " (dry run)" } else { "" };
    let mut out = String::new();
    let mut changed = false;
    for result in items(&answer["results"]) {
        let done = text(&result["result"]);
        changed |= done != "unchanged";
        out += &format!(
            "{} {}{dry}\n",
            name(result),
            style.paint(tone(&done), &done)
        );
    }
    let revision = text(&answer["revision"]);
    out += &match (dry_run, changed) {
        (true, true) => "nothing was changed: this was a dry run\n".to_owned(),
        (_, false) => format!("nothing to change at revision {revision}\n"),
        (false, true) => format!("revision {revision}\n"),
    };
    out
}

/// Changes, newest first; what one transaction changed stands together.
pub(crate) fn history(answer: &Value, style: Style) -> String {
    let mut rows = Vec::new();
    for change in items(&answer["changes"]) {
        let edits = items(&change["edits"]).iter().map(|edit| {
            let done = match (edit["before"].is_null(), edit["after"].is_null()) {
                (true, _) => "created",
                (false, false) => "configured",
                (false, true) => "deleted",
            };
            (
                done,
                name(edit),
                text(&edit["after"]["metadata"]["generation"]),
            )
        });
        let turns = items(&change["liveness"]).iter().map(|turn| {
            let workload = format!(
                "WorkloadEntry {}/{}",
                text(&turn["namespace"]),
                text(&turn["name"])
            );
            (
                if turn["up"] == true { "up" } else { "down" },
                workload,
                String::new(),
            )
        });
        let deeds = items(&change["deeds"]).iter().map(|deed| {
            let done = match (deed["before"].is_null(), deed["after"].is_null()) {
                (true, _) => "created",
                (false, false) => "configured",
                (false, true) => "deleted",
            };
            let what = match text(&deed["namespace"]).as_str() {
                "" => format!("{} {}", text(&deed["kind"]), text(&deed["name"])),
                _ => name(deed),
            };
            (done, what, String::new())
        });
        let rest = turns.chain(deeds);
        for (index, (done, resource, generation)) in edits.chain(rest).enumerate() {
            let once = |field: &str| {
                if index == 0 {
                    text(&change[field])
                } else {
                    String::new()
                }
            };
            let time = super::moment(&once("time"));
            let mut row: Vec<Cell> = [once("revision"), time, once("who"), once("verb")]
                .map(Cell::from)
                .into();
            row.extend([
                Cell::toned(tone(done), done),
                resource.into(),
                generation.into(),
            ]);
            rows.push(row);
        }
    }
    style.table(
        &[
            "REVISION",
            "TIME",
            "WHO",
            "REQUEST",
            "CHANGE",
            "RESOURCE",
            "GENERATION",
        ],
        rows,
    )
}

fn tone(done: &str) -> Tone {
    match done {
        "created" | "up" => Tone::Good,
        "configured" => Tone::Warn,
        "deleted" | "down" => Tone::Bad,
        _ => Tone::Faint,
    }
}

/// `VirtualService default/reviews`.
fn name(of: &Value) -> String {
    format!(
        "{} {}/{}",
        text(&of["kind"]),
        text(&of["namespace"]),
        text(&of["name"])
    )
}

#[cfg(test)]
mod tests;
