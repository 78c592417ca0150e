//! Listeners: one row per filter chain, with what it matches and where it leads.

use serde_json::Value;

use super::{Resource, clusters};
use crate::render::{items, text};
use crate::style::Cell;

pub(super) fn rows(resource: &Resource) -> Vec<Vec<Cell>> {
    let socket = &resource.body["address"]["socketAddress"];
    let chains = items(&resource.body["filterChains"])
        .iter()
        .map(|c| (conditions(&c["filterChainMatch"]), c));
    let fallback = &resource.body["defaultFilterChain"];
    let fallback = (!fallback.is_null()).then(|| ("otherwise".to_owned(), fallback));
    let row = |(conditions, chain): (String, &Value)| {
        let port = socket["portValue"].as_u64().unwrap_or(0).to_string();
        vec![
            resource.name.clone().into(),
            text(&socket["address"]).into(),
            port.into(),
            conditions.into(),
            destination(chain).into(),
        ]
    };
    chains.chain(fallback).map(row).collect()
}

/// What a filter chain asks of a connection.
fn conditions(wanted: &Value) -> String {
    let list = |field: &str| {
        items(&wanted[field])
            .iter()
            .map(text)
            .collect::<Vec<_>>()
            .join(",")
    };
    let ranges = |field: &str| {
        let range = |r: &Value| {
            format!(
                "{}/{}",
                text(&r["addressPrefix"]),
                r["prefixLen"].as_u64().unwrap_or(0)
            )
        };
        items(&wanted[field])
            .iter()
            .map(range)
            .collect::<Vec<_>>()
            .join(",")
    };
    let conditions = [
        ("port", text(&wanted["destinationPort"])),
        ("to", ranges("prefixRanges")),
        ("from", ranges("sourcePrefixRanges")),
        ("SNI", list("serverNames")),
        ("transport", text(&wanted["transportProtocol"])),
        ("ALPN", list("applicationProtocols")),
    ];
    let conditions = conditions
        .into_iter()
        .filter(|(_, v)| !v.is_empty())
        .map(|(k, v)| format!("{k} {v}"));
    let conditions = conditions.collect::<Vec<_>>().join("; ");
    if conditions.is_empty() {
        "ALL".to_owned()
    } else {
        conditions
    }
}

/// Where the last network filter, which is the one that ends a chain, leads.
fn destination(chain: &Value) -> String {
    let Some(filter) = items(&chain["filters"]).last() else {
        return "-".to_owned();
    };
    let config = &filter["typedConfig"];
    if let Some(name) = config["rds"]["routeConfigName"].as_str() {
        return format!("route config {name}");
    }
    if let Some(name) = config["scopedRoutes"]["name"].as_str() {
        return format!("scoped routes {name}");
    }
    if !config["routeConfig"].is_null() {
        return format!(
            "inline route config {}",
            text(&config["routeConfig"]["name"])
        )
        .trim_end()
        .to_owned();
    }
    clusters(config).map_or_else(
        || text(&filter["name"]),
        |clusters| format!("cluster {clusters}"),
    )
}
