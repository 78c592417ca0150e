//! The columns `kubectl get` prints.
//!
//! *Invariant:* a missing or odd field is an empty cell, never an error.

use jiff::Timestamp;
use model::Kind;
use serde_json::{Value, json};

/// One column.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    name: &'static str,
    source: Source,
    description: &'static str,
    /// 0 is always shown, 1 only with `-o wide`.
    priority: i32,
}

#[derive(Clone, Debug)]
enum Source {
    Name,
    Age,
    /// A JSON pointer into the resource.
    Pointer(&'static str),
}

impl Column {
    /// Its entry in `columnDefinitions`.
    pub(crate) fn definition(&self) -> Value {
        let format = if matches!(self.source, Source::Name) {
            "name"
        } else {
            ""
        };
        json!({
            "name": self.name, "type": "string", "format": format,
            "description": self.description, "priority": self.priority,
        })
    }

    /// Its cell for one resource.
    pub(crate) fn cell(&self, object: &Value, now: Timestamp) -> Value {
        match self.source {
            Source::Name => object["metadata"]["name"].clone(),
            Source::Age => age(&object["metadata"]["creationTimestamp"], now).into(),
            Source::Pointer(path) => object.pointer(path).map(text).unwrap_or_default().into(),
        }
    }
}

/// The columns of a kind: its name, what its definition asks for, its age.
pub(crate) fn of(kind: Kind) -> Vec<Column> {
    let pointer = |name, path, description| Column {
        name,
        source: Source::Pointer(path),
        description,
        priority: 0,
    };
    let wide = |name, path, description| Column {
        name,
        source: Source::Pointer(path),
        description,
        priority: 1,
    };
    let mut columns = vec![Column {
        name: "Name",
        source: Source::Name,
        description: "The name of the resource",
        priority: 0,
    }];
    columns.extend(match kind {
        Kind::VirtualService => vec![
            pointer(
                "Gateways",
                "/spec/gateways",
                "The gateways and sidecars that apply these routes",
            ),
            pointer(
                "Hosts",
                "/spec/hosts",
                "The destination hosts to which traffic is sent",
            ),
        ],
        Kind::DestinationRule => vec![pointer(
            "Host",
            "/spec/host",
            "The service this rule is about",
        )],
        Kind::ServiceEntry => vec![
            pointer("Hosts", "/spec/hosts", "The hosts of the service"),
            pointer(
                "Location",
                "/spec/location",
                "Whether the service is inside the mesh",
            ),
            pointer(
                "Resolution",
                "/spec/resolution",
                "How its endpoints are found",
            ),
        ],
        Kind::WorkloadEntry => vec![
            pointer("Address", "/spec/address", "Where the workload listens"),
            wide(
                "Account",
                "/spec/serviceAccount",
                "The service account it runs as",
            ),
        ],
        Kind::Gateway => vec![wide(
            "Selector",
            "/spec/selector",
            "The workloads that open these servers",
        )],
        Kind::AuthorizationPolicy => vec![pointer(
            "Action",
            "/spec/action",
            "What becomes of what it matches; ALLOW if nothing is said",
        )],
        Kind::PeerAuthentication => vec![pointer(
            "Mode",
            "/spec/mtls/mode",
            "The mode of ports that portLevelMtls does not name",
        )],
        Kind::TlsSecret => vec![pointer(
            "Key SHA-256",
            "/spec/sealedPrivateKey/publicKeySha256",
            "The SHA-256 of the certificate's public key, whose private key is kept",
        )],
        Kind::RuntimeLayer => vec![wide("Runtime", "/spec", "The values")],
        _ => Vec::new(),
    });
    columns.push(Column {
        name: "Age",
        source: Source::Age,
        description: "Time since the resource was created",
        priority: 0,
    });
    columns
}

/// The age of an object, for a cell.
pub(super) fn age_of(object: &Value) -> Value {
    age_since(&object["metadata"]["creationTimestamp"])
}

/// How long ago this was, for a cell.
pub(super) fn age_since(time: &Value) -> Value {
    age(time, Timestamp::now()).into()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// How long ago, as kubectl writes it.
fn age(created: &Value, now: Timestamp) -> String {
    let Some(created) = created.as_str().and_then(|t| t.parse::<Timestamp>().ok()) else {
        return "<unknown>".into();
    };
    let seconds = now.duration_since(created).as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    #[allow(
        clippy::match_overlapping_arm,
        reason = "each range starts where the one before it ends"
    )]
    match seconds {
        ..120 => format!("{seconds}s"),
        ..600 if seconds % 60 != 0 => format!("{minutes}m{}s", seconds % 60),
        ..10_800 => format!("{minutes}m"),
        ..28_800 if minutes % 60 != 0 => format!("{hours}h{}m", minutes % 60),
        ..172_800 => format!("{hours}h"),
        ..691_200 if hours % 24 != 0 => format!("{days}d{}h", hours % 24),
        ..63_072_000 => format!("{days}d"),
        _ => format!("{}y{}d", days / 365, days % 365),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ages_read_like_kubectls() {
        let now: Timestamp = "2026-01-10T00:00:00Z".parse().unwrap();
        for (created, expected) in [
            ("2026-01-09T23:59:57Z", "3s"),
            ("2026-01-09T23:57:30Z", "2m30s"),
            ("2026-01-09T23:30:00Z", "30m"),
            ("2026-01-09T20:30:00Z", "3h30m"),
            ("2026-01-09T02:00:00Z", "22h"),
            ("2026-01-05T12:00:00Z", "4d12h"),
            ("2025-12-01T00:00:00Z", "40d"),
            ("2026-01-11T00:00:00Z", "0s"),
            ("", "<unknown>"),
        ] {
            assert_eq!(age(&created.into(), now), expected, "{created}");
        }
    }
}
