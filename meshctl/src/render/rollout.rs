//! How far a revision is: a line while it is waited for, and what came of it.
//!
//! Input is what `/v1/rollouts/{revision}` answers, output is text.
//! *Invariant:* whoever is not reached is named, as far as the server names them.

use serde_json::Value;

use super::{items, text};
use crate::style::{Cell, Style, Tone};

/// How many proxies of a kind are named.
const NAMED: usize = 10;

/// How far it is, on a line.
pub(crate) fn progress(answer: &Value) -> String {
    let count = |of: &str| text(&answer[of]["count"]);
    format!(
        "revision {}: {} of {} proxies run it, {} acknowledged, {} behind, {} refused …",
        text(&answer["revision"]),
        count("settled"),
        text(&answer["total"]),
        count("acked"),
        count("behind"),
        count("refused"),
    )
}

/// Who runs it, and who does not and why.
pub(crate) fn outcome(answer: &Value, style: Style) -> String {
    let total = text(&answer["total"]);
    let revision = text(&answer["revision"]);
    if answer["reached"] == true {
        let line = format!("revision {revision} has reached all {total} proxies");
        return style.paint(Tone::Good, &line) + "\n";
    }
    let gradual = &answer["gradual"];
    let mut out = String::new();
    if !gradual.is_null() {
        let phase = text(&gradual["phase"]);
        let line = format!(
            "revision {revision} is delivered gradually: {}",
            phase_word(&phase)
        );
        out += &(style.paint(tone(&phase), &line) + "\n");
        let reason = text(&gradual["reason"]);
        if !reason.is_empty() {
            out += &format!("  because {reason}\n");
        }
        let first: Vec<String> = items(&gradual["proxies"]).iter().map(text).collect();
        if !first.is_empty() {
            out += &format!("  first to get it: {}\n", first.join(", "));
        }
        if phase == "RolledBack" {
            return out;
        }
    }
    let settled = text(&answer["settled"]["count"]);
    let line = format!("revision {revision} has reached {settled} of {total} proxies");
    out += &(style.paint(Tone::Bad, &line) + "\n");
    for proxy in items(&answer["refused"]["proxies"]).iter().take(NAMED) {
        out += &format!("  refused by {}\n", text(&proxy["id"]));
        for resource in items(&proxy["resources"]) {
            out += &format!(
                "    {} {:?}: {}\n",
                text(&resource["type"]),
                text(&resource["resource"]),
                text(&resource["error"])
            );
        }
    }
    let waiting = [
        ("behind", "not acknowledged by"),
        ("acked", "acknowledged, not warm yet or for moments, by"),
    ];
    let settled: Vec<String> = names(&answer["settled"]);
    for (of, what) in waiting {
        let mut names = names(&answer[of]);
        names.retain(|name| !settled.contains(name));
        let more = names.len().saturating_sub(NAMED);
        names.truncate(NAMED);
        if !names.is_empty() {
            let rest = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            out += &format!("  {what} {}{rest}\n", names.join(", "));
        }
    }
    for pusher in items(&answer["lagging"]) {
        out += &format!(
            "  the pusher {} is at revision {} only\n",
            text(&pusher["instance"]),
            text(&pusher["revision"])
        );
    }
    if let Some(unserved @ 1..) = answer["unserved"].as_u64() {
        out +=
            &format!("  {unserved} streams wait to be served: whose they are is not known yet\n");
    }
    for pusher in items(&answer["silent"]) {
        out += &format!(
            "  the pusher {} did not answer: {}\n",
            text(&pusher["instance"]),
            text(&pusher["reason"])
        );
    }
    if answer["pushers"] == 0 {
        out += "  no xds-pusher is registered: nobody can say who runs it\n";
    }
    out
}

/// Changes that are delivered gradually, and those that were.
pub(crate) fn list(answer: &Value, style: Style) -> String {
    let rows = items(&answer["rollouts"]).iter().map(|rollout| {
        let phase = text(&rollout["phase"]);
        let resources = items(&rollout["resources"]).iter().map(|it| {
            let (kind, namespace, name) =
                (text(&it["kind"]), text(&it["namespace"]), text(&it["name"]));
            format!("{kind} {namespace}/{name}")
        });
        let first: Vec<String> = items(&rollout["proxies"]).iter().map(text).collect();
        vec![
            text(&rollout["revision"]).into(),
            Cell::toned(tone(&phase), phase_word(&phase)),
            super::moment(&text(&rollout["since"])).into(),
            text(&rollout["who"]).into(),
            resources.collect::<Vec<_>>().join(", ").into(),
            first.join(", ").into(),
            text(&rollout["reason"]).into(),
        ]
    });
    let heads = [
        "REVISION",
        "PHASE",
        "SINCE",
        "WHO",
        "RESOURCES",
        "FIRST",
        "REASON",
    ];
    style.table(&heads, rows.collect())
}

fn phase_word(phase: &str) -> &'static str {
    match phase {
        "Choosing" => "who gets it first is being chosen",
        "First" => "the first proxies have it",
        "Stopped" => "stopped",
        "Done" => "everybody gets it",
        "RolledBack" => "rolled back",
        _ => "?",
    }
}

fn tone(phase: &str) -> Tone {
    match phase {
        "Done" => Tone::Good,
        "Stopped" | "RolledBack" => Tone::Bad,
        _ => Tone::Warn,
    }
}

fn names(set: &Value) -> Vec<String> {
    items(&set["proxies"]).iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_is_not_reached_is_named() {
        let plain = Style { colour: false };
        let answer = json!({
            "revision": "7", "reached": false, "total": 4, "state": "refused", "pushers": 2,
            "acked": {"count": 2, "proxies": ["a", "b"]}, "warmed": {"count": 1, "proxies": ["a"]},
            "settled": {"count": 1, "proxies": ["a"]}, "behind": {"count": 1, "proxies": ["c"]},
            "refused": {"count": 1, "proxies": [{"id": "d", "resources": [{"type": "LDS", "resource": "l", "error": "no"}]}]},
            "lagging": [{"instance": "p", "revision": "6"}], "silent": [{"instance": "q", "reason": "away"}],
            "unserved": 3,
        });
        let text = outcome(&answer, plain);
        let wanted = [
            "reached 1 of 4",
            "refused by d\n    LDS \"l\": no\n",
            "not acknowledged by c\n",
            "by b\n",
            "the pusher p is at revision 6 only",
            "q did not answer: away",
            "3 streams wait to be served",
        ];
        for wanted in wanted {
            assert!(text.contains(wanted), "no {wanted:?} in\n{text}");
        }
        let reached = json!({"revision": "7", "reached": true, "total": 4});
        assert_eq!(
            outcome(&reached, plain),
            "revision 7 has reached all 4 proxies\n"
        );
    }
}
