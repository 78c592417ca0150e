//! The configuration of one proxy as tables, in the columns that `istioctl proxy-config` made usual.
//!
//! Input is Envoy's resources as protobuf JSON; a resource that says less than a column asks for shows `-` there.
//! *Invariant:* nothing here judges a configuration or joins it with policy.

mod listeners;
mod routes;

use serde_json::Value;

use super::{items, text};
use crate::cli::Part;
use crate::style::{Cell, Style, Tone};

/// One resource of a proxy.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    /// `CDS`, `LDS` …
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) body: Value,
}

/// The rows of one resource.
type Rows = fn(&Resource) -> Vec<Vec<Cell>>;

/// The types of resource that make up a part; none means all.
pub(crate) fn types_of(part: Part) -> &'static [&'static str] {
    match part {
        Part::Clusters => &["CDS"],
        Part::Listeners => &["LDS"],
        Part::Routes => &["RDS"],
        // A cluster that needs no EDS carries its endpoints itself.
        Part::Endpoints => &["EDS", "CDS"],
        Part::Secrets => &["SDS"],
        Part::All => &[],
    }
}

/// What a part consists of, for people.
pub(crate) fn name_of(part: Part) -> &'static str {
    match part {
        Part::Clusters => "clusters",
        Part::Listeners => "listeners",
        Part::Routes => "routes",
        Part::Endpoints => "endpoints",
        Part::Secrets => "secrets",
        Part::All => "configuration",
    }
}

/// The table of a part; empty if there is nothing of it.
pub(crate) fn table(part: Part, resources: &[Resource], wide: bool, style: Style) -> String {
    let (mut header, rows): (Vec<&str>, Rows) = match part {
        Part::Clusters => (
            vec!["SERVICE", "PORT", "SUBSET", "DIRECTION", "TYPE"],
            cluster,
        ),
        Part::Listeners => (
            vec!["LISTENER", "ADDRESS", "PORT", "MATCH", "DESTINATION"],
            listeners::rows,
        ),
        Part::Routes => (
            vec![
                "ROUTE CONFIG",
                "VIRTUAL HOST",
                "DOMAINS",
                "MATCH",
                "DESTINATION",
            ],
            routes::rows,
        ),
        Part::Endpoints => (
            vec!["ENDPOINT", "HEALTH", "WEIGHT", "PRIORITY", "CLUSTER"],
            endpoints,
        ),
        Part::Secrets => (vec!["SECRET", "TYPE"], secret),
        Part::All => (vec!["TYPE", "NAME"], |r| {
            vec![vec![r.kind.clone().into(), r.name.clone().into()]]
        }),
    };
    let versioned = wide || part == Part::All;
    if versioned {
        header.push("VERSION");
    }
    let mut set = Vec::new();
    for resource in resources {
        for mut row in rows(resource) {
            if versioned {
                row.push(Cell::toned(Tone::Faint, &resource.version));
            }
            set.push(row);
        }
    }
    style.table(&header, set)
}

/// `outbound|80|v1|reviews.default.svc.cluster.local` as service, port, subset and direction.
fn cluster(resource: &Resource) -> Vec<Vec<Cell>> {
    let parts: Vec<&str> = resource.name.split('|').collect();
    let (direction, port, subset, host) = match parts.as_slice() {
        [direction, port, subset, host] => (*direction, *port, *subset, *host),
        _ => ("", "", "", resource.name.as_str()),
    };
    let kind = match (
        &resource.body["type"],
        resource.body["clusterType"]["name"].as_str(),
    ) {
        (Value::String(kind), _) => kind.clone(),
        (_, Some(custom)) => custom.to_owned(),
        // The enumeration's default is left out of protobuf JSON.
        (_, None) => "STATIC".to_owned(),
    };
    vec![
        [host, port, subset, direction]
            .into_iter()
            .map(or_dash)
            .chain([kind.into()])
            .collect(),
    ]
}

fn endpoints(resource: &Resource) -> Vec<Vec<Cell>> {
    let assignment = match &resource.body["loadAssignment"] {
        Value::Null => &resource.body,
        inline => inline,
    };
    let mut rows = Vec::new();
    for group in items(&assignment["endpoints"]) {
        for endpoint in items(&group["lbEndpoints"]) {
            let health = endpoint["healthStatus"].as_str().unwrap_or("UNKNOWN");
            let tone = match health {
                "HEALTHY" => Tone::Good,
                "UNKNOWN" => Tone::Plain,
                "DRAINING" | "DEGRADED" => Tone::Warn,
                _ => Tone::Bad,
            };
            rows.push(vec![
                address(&endpoint["endpoint"]["address"]).into(),
                Cell::toned(tone, health),
                or_dash(&text(&endpoint["loadBalancingWeight"])),
                group["priority"].as_u64().unwrap_or(0).to_string().into(),
                resource.name.clone().into(),
            ]);
        }
    }
    rows
}

fn secret(resource: &Resource) -> Vec<Vec<Cell>> {
    let kinds = [
        ("tlsCertificate", "certificate"),
        ("validationContext", "trust bundle"),
        ("sessionTicketKeys", "ticket keys"),
    ];
    let kind = kinds
        .iter()
        .find(|(field, _)| !resource.body[*field].is_null())
        .map_or("generic", |(_, kind)| kind);
    vec![vec![resource.name.clone().into(), kind.into()]]
}

/// `127.0.0.1:9080`, or a path of a Unix socket.
fn address(address: &Value) -> String {
    let socket = &address["socketAddress"];
    if socket.is_null() {
        return text(&address["pipe"]["path"]);
    }
    let (host, port) = (
        text(&socket["address"]),
        socket["portValue"].as_u64().unwrap_or(0),
    );
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

fn or_dash(text: &str) -> Cell {
    if text.is_empty() {
        Cell::toned(Tone::Faint, "-")
    } else {
        text.into()
    }
}

/// `a`, or `a 90%, b 10%`: where a route or a TCP proxy sends to.
fn clusters(action: &Value) -> Option<String> {
    if let Some(cluster) = action["cluster"].as_str() {
        return Some(cluster.to_owned());
    }
    if let Some(header) = action["clusterHeader"].as_str() {
        return Some(format!("the cluster in header {header}"));
    }
    let weighted = items(&action["weightedClusters"]["clusters"]);
    let weight = |c: &Value| c["weight"].as_u64().unwrap_or(0);
    let total: u64 = weighted.iter().map(weight).sum::<u64>().max(1);
    let share = |c: &Value| format!("{} {}%", text(&c["name"]), weight(c) * 100 / total);
    (!weighted.is_empty()).then(|| weighted.iter().map(share).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests;
