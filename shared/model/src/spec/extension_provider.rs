//! What MeshConfig says for security: who decides `CUSTOM` policies, how paths are normalised.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Duration;

/// A service that extends the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExtensionProvider {
    /// The name by which policies mean it.
    pub name: String,
    /// It decides requests, asked over HTTP.
    pub envoy_ext_authz_http: Option<ExtAuthzHttp>,
    /// It decides requests and connections, asked over gRPC.
    pub envoy_ext_authz_grpc: Option<ExtAuthzGrpc>,
}

impl ExtensionProvider {
    /// Where it is: service and port.
    pub fn service(&self) -> Option<(&str, u16)> {
        let http = self.envoy_ext_authz_http.as_ref();
        let grpc = self.envoy_ext_authz_grpc.as_ref();
        http.map(|it| (it.service.as_str(), it.port))
            .or(grpc.map(|it| (it.service.as_str(), it.port)))
    }
}

/// A service that decides requests: it gets the request's method, path and headers, and 200 allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExtAuthzHttp {
    /// Its host; `namespace/host` means the host as declared in that namespace.
    pub service: String,
    /// Its port.
    pub port: u16,
    /// How long it may take; 600 s by default.
    pub timeout: Option<Duration>,
    /// What is put before the path.
    pub path_prefix: Option<String>,
    /// Whether requests pass while it cannot be asked.
    pub fail_open: bool,
    /// What clients get while it cannot be asked; 403 by default.
    pub status_on_error: Option<String>,
    /// Headers of the request it gets beside Host, Method, Path and Authorization: exact, `prefix*` or `*suffix`.
    pub include_request_headers_in_check: Vec<String>,
    /// Headers it gets with constant values.
    pub include_additional_headers_in_check: std::collections::BTreeMap<String, String>,
    /// How much of the body it gets.
    pub include_request_body_in_check: Option<ExtAuthzBody>,
    /// Headers of its answer that the workload gets.
    pub headers_to_upstream_on_allow: Vec<String>,
    /// Headers of its answer that the client gets with a refusal; all if none are named.
    pub headers_to_downstream_on_deny: Vec<String>,
    /// Headers of its answer that the client gets with the workload's answer.
    pub headers_to_downstream_on_allow: Vec<String>,
}

/// A service that decides requests and connections: `envoy.service.auth.v3.Authorization`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExtAuthzGrpc {
    /// Its host; `namespace/host` means the host as declared in that namespace.
    pub service: String,
    /// Its port.
    pub port: u16,
    /// How long it may take; 600 s by default.
    pub timeout: Option<Duration>,
    /// Whether requests pass while it cannot be asked.
    pub fail_open: bool,
    /// What clients get while it cannot be asked; 403 by default.
    pub status_on_error: Option<String>,
    /// How much of the body it gets.
    pub include_request_body_in_check: Option<ExtAuthzBody>,
}

/// How much of a request's body is sent along.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExtAuthzBody {
    /// At most so many bytes; a longer body is refused with 413.
    pub max_request_bytes: u32,
    /// Whether of a longer body the beginning is sent instead.
    pub allow_partial_message: bool,
    /// Whether gRPC gets it as bytes rather than text.
    pub pack_as_bytes: bool,
}

/// How paths are normalised before policies are applied to them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PathNormalization {
    /// How much.
    pub normalization: NormalizationType,
}

/// How much of a path is normalised. Each of the named ones does what the one before it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum NormalizationType {
    /// As `MERGE_SLASHES`; and at gateways and where requests arrive at workloads, one with an encoded slash or backslash is
    /// redirected to its path without.
    #[default]
    Default,
    /// Nothing.
    None,
    /// Dot segments, backslashes, and characters that need no encoding.
    Base,
    /// Repeated slashes become one.
    MergeSlashes,
    /// Encoded slashes and backslashes are decoded.
    DecodeAndMergeSlashes,
}
