//! `WorkloadEntry` and `WorkloadGroup`: one workload, and what workloads of a group have in common.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Labels, Port};

/// Describes one workload: where it is and what it carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WorkloadEntry {
    /// An IP address, a DNS name (with DNS resolution), or `unix:///absolute/path`.
    pub address: Option<String>,
    /// The workload's ports by the names of the service's ports.
    pub ports: BTreeMap<String, u16>,
    /// Labels of the workload.
    pub labels: Labels,
    /// The network it is in.
    pub network: Option<String>,
    /// Where it is: `region/zone/subzone`.
    pub locality: Option<String>,
    /// Its share of the load among the endpoints of its locality.
    pub weight: Option<u32>,
    /// The service account it runs as; `default` if empty. Selectors find it as the label `weft.mesh/service-account`.
    pub service_account: Option<String>,
}

impl WorkloadEntry {
    /// The service account it runs as; `default` if it names none.
    pub fn account(&self) -> &str {
        let account = self.service_account.as_deref().unwrap_or_default();
        if account.is_empty() {
            "default"
        } else {
            account
        }
    }

    /// Where it listens for a port of a service: as its own `ports` say, else the service's `targetPort`, else the number.
    pub fn port(&self, port: &Port) -> u16 {
        let own = self.ports.get(&port.name).copied();
        own.or(port.target_port).unwrap_or(port.number)
    }
}

#[cfg(test)]
mod tests;

/// Describes a group of workloads: a template, and how their health is probed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadGroup {
    /// Labels and annotations of the group's workloads.
    pub metadata: Option<WorkloadGroupMetadata>,
    /// What the group's workloads have in common.
    #[serde(default)]
    pub template: WorkloadEntry,
    /// How clients probe the health of the group's workloads.
    pub probe: Option<ReadinessProbe>,
}

/// Labels and annotations of a group's workloads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WorkloadGroupMetadata {
    /// Labels.
    pub labels: Labels,
    /// Annotations.
    pub annotations: Labels,
}

/// How health is probed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ReadinessProbe {
    /// Seconds before the first probe.
    pub initial_delay_seconds: Option<u32>,
    /// Seconds after which a probe has failed; 1 by default.
    pub timeout_seconds: Option<u32>,
    /// Seconds between probes; 10 by default.
    pub period_seconds: Option<u32>,
    /// Successes in a row that make a workload healthy; 1 by default.
    pub success_threshold: Option<u32>,
    /// Failures in a row that make a workload unhealthy; 3 by default.
    pub failure_threshold: Option<u32>,
    /// By an HTTP request.
    pub http_get: Option<HttpProbe>,
    /// By a TCP connection.
    pub tcp_socket: Option<TcpProbe>,
    /// By a command on the workload.
    pub exec: Option<ExecProbe>,
    /// By gRPC's health protocol.
    pub grpc: Option<GrpcProbe>,
}

/// A probe by an HTTP request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpProbe {
    /// The path; `/` by default.
    pub path: Option<String>,
    /// The port.
    pub port: u16,
    /// The `Host` header.
    pub host: Option<String>,
    /// HTTP or HTTPS.
    #[serde(default)]
    pub scheme: ProbeScheme,
    /// More headers.
    #[serde(default)]
    pub http_headers: Vec<HttpHeader>,
}

/// The scheme of an HTTP probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ProbeScheme {
    /// Plaintext.
    #[default]
    Http,
    /// Over TLS.
    Https,
}

/// A header of an HTTP probe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpHeader {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A probe by a TCP connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpProbe {
    /// The host; the workload's address by default.
    pub host: Option<String>,
    /// The port.
    pub port: u16,
}

/// A probe by a command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExecProbe {
    /// The command and its arguments.
    pub command: Vec<String>,
}

/// A probe by gRPC's health protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcProbe {
    /// The port.
    pub port: Option<u16>,
    /// The service to ask for.
    pub service: Option<String>,
}
