//! Route configurations: one row per route, in the order they are tried.

use serde_json::Value;

use super::{Resource, clusters};
use crate::render::{items, text};
use crate::style::Cell;

/// How many domains a row names before it counts the rest.
const DOMAINS: usize = 2;

pub(super) fn rows(resource: &Resource) -> Vec<Vec<Cell>> {
    let mut rows = Vec::new();
    for host in items(&resource.body["virtualHosts"]) {
        let domains: Vec<String> = items(&host["domains"]).iter().map(text).collect();
        let mut shown = domains
            .iter()
            .take(DOMAINS)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        if domains.len() > DOMAINS {
            shown += &format!(" + {} more", domains.len() - DOMAINS);
        }
        for route in items(&host["routes"]) {
            rows.push(vec![
                resource.name.clone().into(),
                text(&host["name"]).into(),
                shown.clone().into(),
                conditions(&route["match"]).into(),
                destination(route).into(),
            ]);
        }
    }
    rows
}

/// What a route asks of a request.
fn conditions(wanted: &Value) -> String {
    let path = match () {
        () if !wanted["path"].is_null() => text(&wanted["path"]),
        () if !wanted["pathSeparatedPrefix"].is_null() => {
            format!("{}[/*]", text(&wanted["pathSeparatedPrefix"]))
        }
        () if !wanted["safeRegex"].is_null() => format!("~{}", text(&wanted["safeRegex"]["regex"])),
        () => format!("{}*", text(&wanted["prefix"])),
    };
    let header = |h: &Value| condition(h, "stringMatch");
    let parameter = |p: &Value| format!("?{}", condition(p, "stringMatch"));
    let rest = items(&wanted["headers"]).iter().map(header);
    let rest = rest.chain(items(&wanted["queryParameters"]).iter().map(parameter));
    std::iter::once(path)
        .chain(rest)
        .collect::<Vec<_>>()
        .join(" ")
}

/// `end-user=jason`, `x-debug`, `!x-debug`, `agent~.*curl.*`.
fn condition(of: &Value, field: &str) -> String {
    let (name, wanted) = (text(&of["name"]), &of[field]);
    let not = if of["invertMatch"] == true { "!" } else { "" };
    let value = match () {
        () if !wanted["exact"].is_null() => format!("={}", text(&wanted["exact"])),
        () if !wanted["prefix"].is_null() => format!("={}*", text(&wanted["prefix"])),
        () if !wanted["suffix"].is_null() => format!("=*{}", text(&wanted["suffix"])),
        () if !wanted["contains"].is_null() => format!("=*{}*", text(&wanted["contains"])),
        () if !wanted["safeRegex"].is_null() => format!("~{}", text(&wanted["safeRegex"]["regex"])),
        () => String::new(),
    };
    format!("{not}{name}{value}")
}

fn destination(route: &Value) -> String {
    if let Some(destination) = clusters(&route["route"]) {
        return destination;
    }
    if let Some(redirect) = route["redirect"].as_object() {
        let part = |name: &str| redirect.get(name).map(text).unwrap_or_default();
        let scheme = if redirect.get("httpsRedirect").is_some_and(|v| v == true) {
            "https"
        } else {
            ""
        };
        let scheme = if scheme.is_empty() {
            part("schemeRedirect")
        } else {
            scheme.to_owned()
        };
        let scheme = if scheme.is_empty() {
            scheme
        } else {
            scheme + "://"
        };
        let path = part("pathRedirect") + &part("prefixRewrite");
        return format!("redirect {scheme}{}{path}", part("hostRedirect"))
            .trim_end()
            .to_owned();
    }
    match route["directResponse"]["status"].as_u64() {
        Some(status) => format!("answer {status}"),
        None => "-".to_owned(),
    }
}
