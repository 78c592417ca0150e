//! How far each proxy is: one row per proxy with a column per type of resource, or one proxy in detail.
//!
//! Input is what `/v1/proxies` answers, output is tables, and below them Envoy's own words for each refusal.
//! *Invariant:* a refusal is never only a word in a table; its reason is shown in full.

use serde::Deserialize;

use super::moment;
use crate::style::{Cell, Style, Tone};

/// One connected proxy.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Proxy {
    pub(crate) id: String,
    envoy_version: String,
    variant: String,
    connected_at: String,
    peer: String,
    acked_revision: i64,
    types: Vec<TypeStatus>,
    workload_known: bool,
    pusher: String,
}

/// One type of resource on one proxy.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct TypeStatus {
    r#type: String,
    state: String,
    sent_revision: i64,
    acked_revision: i64,
    error: String,
    resources: u32,
    refused: Vec<String>,
}

/// The types in the order Envoy takes them.
const TYPES: [&str; 8] = ["CDS", "EDS", "LDS", "RDS", "SRDS", "SDS", "RTDS", "ECDS"];

/// All proxies.
pub(crate) fn table(proxies: &[Proxy], wide: bool, style: Style) -> String {
    let used = |name: &str| {
        proxies
            .iter()
            .any(|p| p.types.iter().any(|s| s.r#type == name))
    };
    let types: Vec<&str> = TYPES.into_iter().filter(|t| used(t)).collect();
    let mut header = vec!["PROXY", "ENVOY"];
    header.extend(&types);
    header.push("PUSHER");
    if wide {
        header.extend(["VARIANT", "PEER", "CONNECTED", "ACKED"]);
    }
    let row = |proxy: &Proxy| {
        let mut row: Vec<Cell> = vec![proxy.id.clone().into(), proxy.envoy_version.clone().into()];
        for name in &types {
            let status = proxy.types.iter().find(|s| s.r#type == *name);
            row.push(status.map_or_else(|| Cell::toned(Tone::Faint, "-"), |s| state(&s.state)));
        }
        row.push(proxy.pusher.clone().into());
        if wide {
            let connected = moment(&proxy.connected_at);
            let acked = proxy.acked_revision.to_string();
            row.extend(
                [proxy.variant.clone(), proxy.peer.clone(), connected, acked].map(Cell::from),
            );
        }
        row
    };
    let mut out = style.table(&header, proxies.iter().map(row).collect());
    for proxy in proxies {
        out += &remarks(proxy, style);
    }
    out
}

/// One proxy.
pub(crate) fn detail(proxy: &Proxy, style: Style) -> String {
    let mut out = String::new();
    let mut field = |name: &str, value: &str| {
        let name = style.paint(Tone::Strong, &format!("{:<11}", format!("{name}:")));
        out += &format!("{name}{value}\n");
    };
    field("Proxy", &proxy.id);
    field(
        "Envoy",
        &format!("{} ({})", proxy.envoy_version, proxy.variant),
    );
    field("Peer", &proxy.peer);
    field("Connected", &moment(&proxy.connected_at));
    field("Pusher", &proxy.pusher);
    field("Acked", &proxy.acked_revision.to_string());
    let row = |s: &TypeStatus| {
        let numbers = [i64::from(s.resources), s.sent_revision, s.acked_revision]
            .map(|n| n.to_string().into());
        [s.r#type.clone().into(), state(&s.state)]
            .into_iter()
            .chain(numbers)
            .collect()
    };
    let header = ["TYPE", "STATE", "RESOURCES", "SENT", "ACKED"];
    let table = style.table(&header, proxy.types.iter().map(row).collect());
    if !table.is_empty() {
        out += &format!("\n{table}");
    }
    out + &remarks(proxy, style)
}

fn state(state: &str) -> Cell {
    let tone = match state {
        "SYNCED" => Tone::Good,
        "NACK" => Tone::Bad,
        "STALE" => Tone::Warn,
        _ => Tone::Faint,
    };
    Cell::toned(tone, state)
}

/// What a table cannot hold.
fn remarks(proxy: &Proxy, style: Style) -> String {
    let mut out = String::new();
    for status in proxy.types.iter().filter(|s| s.state == "NACK") {
        let at_fault = if status.refused.is_empty() {
            String::new()
        } else {
            format!(": {}", status.refused.join(", "))
        };
        let heading = format!(
            "{} refused {} of revision {}{at_fault}",
            proxy.id, status.r#type, status.sent_revision
        );
        out += &format!("\n{}\n", style.paint(Tone::Bad, &heading));
        out.extend(status.error.lines().map(|line| format!("  {line}\n")));
        out += &format!("  It keeps revision {} of it.\n", status.acked_revision);
    }
    if !proxy.workload_known {
        let (namespace, workload) = workload(&proxy.id);
        let heading = format!("{} has no WorkloadEntry", proxy.id);
        out += &format!("\n{}\n", style.paint(Tone::Warn, &heading));
        out += &format!(
            "  It gets what any client of namespace {namespace} gets. Apply a WorkloadEntry {namespace}/{workload}.\n"
        );
    }
    out
}

/// Namespace and workload of a node id.
fn workload(id: &str) -> (&str, &str) {
    let mut parts = id.splitn(3, '~').skip(1);
    (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    )
}

/// Why an argument means no proxy.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// No proxy is connected that could be meant.
    #[error("no connected proxy is called {wanted:?}{}", match nearest { Some(n) => format!("; did you mean {n:?}?"), None => "; meshctl proxy-status lists them".into() })]
    Unknown {
        wanted: String,
        nearest: Option<String>,
    },
    /// Several are.
    #[error("{wanted:?} could be any of {}; give the whole id", candidates.join(", "))]
    Ambiguous {
        wanted: String,
        candidates: Vec<String>,
    },
}

/// The proxy that `wanted` means: a node id, `workload.namespace`, `namespace/workload`, or a workload of `namespace` or,
/// if there is none, of any namespace.
///
/// # Errors
/// If none does, or several do.
pub(crate) fn find<'a>(
    proxies: &'a [Proxy],
    wanted: &str,
    namespace: &str,
) -> Result<&'a Proxy, Error> {
    let place = |p: &Proxy| {
        let (ns, name) = workload(&p.id);
        (ns.to_owned(), name.to_owned())
    };
    let tests: [&dyn Fn(&Proxy) -> bool; 4] = [
        &|p| p.id == wanted,
        &|p| place(p) == (namespace.to_owned(), wanted.to_owned()),
        &|p| {
            format!("{}.{}", place(p).1, place(p).0) == wanted
                || format!("{}/{}", place(p).0, place(p).1) == wanted
        },
        &|p| place(p).1 == wanted,
    ];
    for test in tests {
        let mut found: Vec<&Proxy> = proxies.iter().filter(|p| test(p)).collect();
        // A proxy that is moving from one pusher to another is listed by both.
        found.dedup_by_key(|p| p.id.clone());
        match found.as_slice() {
            [] => {}
            [proxy] => return Ok(proxy),
            several => {
                let candidates = several.iter().map(|p| p.id.clone()).collect();
                return Err(Error::Ambiguous {
                    wanted: wanted.to_owned(),
                    candidates,
                });
            }
        }
    }
    let names = proxies.iter().flat_map(|p| [p.id.clone(), place(p).1]);
    Err(Error::Unknown {
        wanted: wanted.to_owned(),
        nearest: crate::target::nearest(wanted, names),
    })
}

#[cfg(test)]
mod tests;
