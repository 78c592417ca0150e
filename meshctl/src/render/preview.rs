//! What a change would do to the configuration of proxies: a heading for those alike, and a diff for each resource.
//!
//! Input is `xds` of what `/v1/diff` answers, output is text.
//! *Invariant:* nothing here computes a difference; the pushers did.

use serde_json::Value;

use super::{items, text};
use crate::style::{Style, Tone};

/// Classes of proxies and what would change for them.
pub(crate) fn classes(xds: &Value, style: Style) -> String {
    let mut out = String::new();
    for class in items(&xds["classes"]) {
        let ids: Vec<String> = items(&class["proxies"]["ids"]).iter().map(text).collect();
        let count = class["proxies"]["count"].as_u64().unwrap_or_default();
        let more = count.saturating_sub(ids.len() as u64);
        let rest = match more {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let heading = format!("\n{count} proxies: {}{rest}\n", ids.join(", "));
        out += &style.paint(Tone::Strong, &heading);
        for resource in items(&class["resources"]) {
            let change = text(&resource["change"]);
            let heading = format!(
                "{} {} {change}",
                text(&resource["type"]),
                text(&resource["name"])
            );
            out += &(style.paint(tone(&change), &heading) + "\n");
            for line in text(&resource["diff"]).lines() {
                out += &(style.paint(line_tone(line), line) + "\n");
            }
        }
        match text(&class["more"]).as_str() {
            "" | "0" => {}
            more => out += &format!("… and {more} more resources\n"),
        }
    }
    if out.is_empty() {
        out += "nothing would change for any connected proxy\n";
    }
    out
}

fn tone(change: &str) -> Tone {
    match change {
        "added" => Tone::Good,
        "removed" => Tone::Bad,
        _ => Tone::Warn,
    }
}

fn line_tone(line: &str) -> Tone {
    match line.chars().next() {
        Some('+') => Tone::Good,
        Some('-') => Tone::Bad,
        Some('@') => Tone::Place,
        _ => Tone::Plain,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn proxies_alike_stand_above_their_diffs() {
        let plain = Style { colour: false };
        let resource = json!({"type": "RDS", "name": "http.80", "change": "changed", "diff": "@@ -1 +1 @@\n-a\n+b\n"});
        let xds = json!({"classes": [{"proxies": {"count": 12, "ids": ["a", "b"]}, "resources": [resource], "more": 3}]});
        assert_eq!(
            classes(&xds, plain),
            "\n12 proxies: a, b and 10 more\nRDS http.80 changed\n@@ -1 +1 @@\n-a\n+b\n… and 3 more resources\n"
        );
        assert!(classes(&json!({"classes": []}), plain).starts_with("nothing"));
    }
}
