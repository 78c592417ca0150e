//! What `meshctl authz check` shows: the verdict at each workload, and each rule with what made it match or not.
//!
//! *Invariant:* every rule of every policy has a row, whatever the verdict.

use serde_json::Value;

use super::{items, text};
use crate::style::{Cell, Style, Tone};

/// Whether the call is allowed at every workload; an answer without any allows nothing.
pub(crate) fn all_allowed(answer: &Value) -> bool {
    let workloads = items(&answer["workloads"]);
    !workloads.is_empty() && workloads.iter().all(|it| it["verdict"] == "ALLOWED")
}

/// The verdicts, workload by workload.
pub(crate) fn verdicts(answer: &Value, style: Style) -> String {
    let workloads = items(&answer["workloads"]).iter();
    let parts: Vec<String> = workloads.map(|it| verdict(it, style)).collect();
    parts.join("\n")
}

fn verdict(workload: &Value, style: Style) -> String {
    let said = text(&workload["verdict"]);
    let tone = match said.as_str() {
        "ALLOWED" => Tone::Good,
        "DENIED" => Tone::Bad,
        _ => Tone::Warn,
    };
    let mut out = format!(
        "{} port {} ({}): {}{}\n",
        style.paint(Tone::Strong, &text(&workload["workload"])),
        workload["port"],
        text(&workload["protocol"]),
        style.paint(tone, &said),
        reason(workload),
    );
    let mtls = &workload["mtls"];
    let by = mtls["policy"].as_str().map(|it| format!(" by {it}"));
    out += &format!("mTLS: {}{}\n", text(&mtls["mode"]), by.unwrap_or_default());
    for asked in items(&workload["asked"]) {
        let provider = text(&asked["provider"]);
        out += &format!("Asked: {provider}, because of {}\n", rule(&asked["by"]));
    }
    for audited in items(&workload["audited"]) {
        out += &format!("Counted by {}\n", rule(audited));
    }
    for note in items(&workload["notes"]) {
        out += &format!("Note: {}\n", text(note));
    }
    let header = ["POLICY", "ACTION", "RULE", "MATCHES", "WHY"];
    let policies = items(&workload["policies"]).iter();
    out + &style.table(&header, policies.flat_map(rows).collect())
}

fn rule(id: &Value) -> String {
    format!("{} rule {}", text(&id["policy"]), id["rule"])
}

fn reason(workload: &Value) -> String {
    if !workload["by"].is_null() {
        return format!(" by {}", rule(&workload["by"]));
    }
    let decides = |it: &&Value| it["action"] == "ALLOW" && it["dryRun"] != true;
    let some = items(&workload["policies"]).iter().find(decides).is_some();
    match (workload["verdict"] == "DENIED", some) {
        (true, true) => ", because no ALLOW rule matches".into(),
        (false, false) => ", because there is no ALLOW policy".into(),
        _ => String::new(),
    }
}

/// The rows of a policy: one for each rule, or one that says that it has none.
fn rows(policy: &Value) -> Vec<Vec<Cell>> {
    let dry_run = if policy["dryRun"] == true {
        " (dry run)"
    } else {
        ""
    };
    let action = format!("{}{dry_run}", text(&policy["action"]));
    let row = |rule: String, matches: Cell, why: String| -> Vec<Cell> {
        vec![
            text(&policy["policy"]).into(),
            action.clone().into(),
            rule.into(),
            matches,
            why.into(),
        ]
    };
    let rules = items(&policy["rules"]);
    if rules.is_empty() {
        let no = Cell::toned(Tone::Faint, "no");
        return vec![row("-".into(), no, "it has no rule".into())];
    }
    let rules = rules.iter().map(|rule| {
        let matches = rule["matches"] == true;
        let cell = if matches {
            Cell::toned(Tone::Strong, "yes")
        } else {
            Cell::toned(Tone::Faint, "no")
        };
        row(rule["rule"].to_string(), cell, why(rule, matches))
    });
    rules.collect()
}

/// What made a rule match: the terms of the alternatives that hold; or not: the terms that do not, of every alternative.
fn why(rule: &Value, matches: bool) -> String {
    if rule["leftOut"] == true {
        return "it asks for what connections do not have".into();
    }
    let mut parts = Vec::new();
    for alternatives in [&rule["sources"], &rule["operations"]] {
        let alternatives = items(alternatives);
        let holds = |terms: &Value| items(terms).iter().all(|it| it["holds"] == true);
        let held = alternatives.iter().find(|it| holds(it));
        match held {
            Some(terms) if matches => parts.extend(items(terms).iter().map(term)),
            // This part of the rule is not what kept it from matching.
            Some(_) => {}
            None => {
                let missing = alternatives.iter().map(|terms| {
                    let terms = items(terms).iter().filter(|it| it["holds"] != true);
                    terms.map(term).collect::<Vec<_>>().join(", ")
                });
                parts.push(missing.collect::<Vec<_>>().join(", or "));
            }
        }
    }
    parts.retain(|it| !it.is_empty());
    if parts.is_empty() {
        return "it matches everything".into();
    }
    parts.join("; ")
}

/// `request.path "/x" is one of "/a*"`.
fn term(term: &Value) -> String {
    let found = term["found"].as_str();
    let found = found.map_or_else(|| "absent".into(), |it| format!("{it:?}"));
    let list = |field: &str| {
        let values = items(&term[field]).iter();
        let values: Vec<String> = values.map(|it| format!("{:?}", text(it))).collect();
        values.join(" ")
    };
    let (values, others) = (list("values"), list("notValues"));
    let holds = term["holds"] == true;
    let said = match (values.is_empty(), others.is_empty(), holds) {
        (false, true, true) => format!("is one of {values}"),
        (false, true, false) => format!("is none of {values}"),
        (true, false, true) => format!("is none of {others}"),
        (true, false, false) => format!("is one of {others}"),
        (_, _, true) => format!("is one of {values}, none of {others}"),
        (_, _, false) => format!("is not one of {values}, none of {others}"),
    };
    format!("{} {found} {said}", text(&term["attribute"]))
}

#[cfg(test)]
mod tests;
