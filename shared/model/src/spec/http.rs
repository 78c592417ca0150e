//! The HTTP part of `VirtualService`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Destination, Duration, HeaderMatch, Labels, Percent, StringMatch};

/// One HTTP route: what it matches and what is done.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpRoute {
    /// A name, for people.
    pub name: Option<String>,
    /// Any of these must match; everything, if there are none.
    #[serde(rename = "match")]
    pub matches: Vec<HttpMatchRequest>,
    /// Where to send.
    pub route: Vec<HttpRouteDestination>,
    /// Answer with a redirect instead.
    pub redirect: Option<HttpRedirect>,
    /// Answer with this instead.
    pub direct_response: Option<HttpDirectResponse>,
    /// Another VirtualService says what is done.
    pub delegate: Option<Delegate>,
    /// Rewrite the path or the authority before sending.
    pub rewrite: Option<HttpRewrite>,
    /// How long a request may take; no limit by default.
    pub timeout: Option<Duration>,
    /// When and how to try again.
    pub retries: Option<HttpRetry>,
    /// Faults to inject.
    pub fault: Option<HttpFaultInjection>,
    /// Also send a copy here.
    pub mirror: Option<Destination>,
    /// How many of the requests are mirrored; all by default.
    pub mirror_percentage: Option<Percent>,
    /// Deprecated form of mirrorPercentage, in whole percent.
    #[serde(alias = "mirror_percent")]
    pub mirror_percent: Option<u32>,
    /// Also send copies here.
    pub mirrors: Vec<HttpMirrorPolicy>,
    /// Cross-origin requests.
    pub cors_policy: Option<CorsPolicy>,
    /// Changes to headers.
    pub headers: Option<Headers>,
}

/// What a request is matched by; all of it must match.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpMatchRequest {
    /// A name, for people.
    pub name: Option<String>,
    /// The path, without the query.
    pub uri: Option<StringMatch>,
    /// `http` or `https`.
    pub scheme: Option<StringMatch>,
    /// The method.
    pub method: Option<StringMatch>,
    /// The authority (`Host`).
    pub authority: Option<StringMatch>,
    /// Headers, by name in lower case.
    pub headers: BTreeMap<String, HeaderMatch>,
    /// Headers that must not match.
    pub without_headers: BTreeMap<String, HeaderMatch>,
    /// Query parameters.
    pub query_params: BTreeMap<String, HeaderMatch>,
    /// Whether `uri` ignores case (exact and prefix only).
    pub ignore_uri_case: bool,
    /// The port the request came to.
    pub port: Option<u16>,
    /// The Gateways this match is for.
    pub gateways: Vec<String>,
    /// Labels of the workload that sends.
    pub source_labels: Labels,
    /// The namespace of the workload that sends.
    pub source_namespace: Option<String>,
    /// The prefix of this route's statistics.
    pub stat_prefix: Option<String>,
}

/// A destination with its share.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpRouteDestination {
    /// Where to send.
    pub destination: Destination,
    /// Its share of the sum of all weights.
    #[serde(default)]
    pub weight: u32,
    /// Changes to headers, for this destination.
    pub headers: Option<Headers>,
}

/// A redirect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpRedirect {
    /// The new path; `%PREFIX()%` is a prefix rewrite.
    pub uri: Option<String>,
    /// The new authority.
    pub authority: Option<String>,
    /// The new port.
    pub port: Option<u16>,
    /// Where the new port comes from.
    pub derive_port: Option<RedirectPortSelection>,
    /// The new scheme.
    pub scheme: Option<String>,
    /// The status code; 301 by default.
    pub redirect_code: Option<u16>,
}

/// Where the port of a redirect comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RedirectPortSelection {
    /// 80 or 443, by the scheme.
    FromProtocolDefault,
    /// The port of the request.
    FromRequestPort,
}

/// A fixed answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpDirectResponse {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Option<HttpBody>,
}

/// The body of a fixed answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum HttpBody {
    /// As text.
    String(String),
    /// As bytes, in base64.
    Bytes(String),
}

/// Another VirtualService, which has no hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Delegate {
    /// Its name.
    pub name: String,
    /// Its namespace; that of the root VirtualService by default.
    pub namespace: Option<String>,
}

/// Rewrites before sending.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpRewrite {
    /// Replaces the path, or the prefix that matched.
    pub uri: Option<String>,
    /// Replaces the authority.
    pub authority: Option<String>,
    /// Replaces by a regular expression.
    pub uri_regex_rewrite: Option<RegexRewrite>,
}

/// A rewrite of the path by a regular expression.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegexRewrite {
    /// The RE2 regular expression.
    #[serde(rename = "match")]
    pub pattern: String,
    /// The replacement; `\1` are capture groups.
    pub rewrite: String,
}

/// When and how to try again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpRetry {
    /// How often at most; 0 switches retries off.
    pub attempts: u32,
    /// How long each attempt may take.
    pub per_try_timeout: Option<Duration>,
    /// Envoy's retry conditions, or status codes, separated by commas.
    pub retry_on: Option<String>,
    /// Whether retries may leave the locality.
    pub retry_remote_localities: Option<bool>,
    /// Whether retries avoid the hosts that failed; true by default.
    pub retry_ignore_previous_hosts: Option<bool>,
    /// The first pause between attempts.
    pub backoff: Option<Duration>,
}

/// Faults to inject.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpFaultInjection {
    /// Delay requests.
    pub delay: Option<FaultDelay>,
    /// Abort requests.
    pub abort: Option<FaultAbort>,
}

/// A delay.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FaultDelay {
    /// How long.
    pub fixed_delay: Option<Duration>,
    /// Which share of the requests.
    pub percentage: Option<Percent>,
    /// Deprecated form of percentage, in whole percent.
    pub percent: Option<u32>,
    /// An exponential delay. Not supported yet.
    pub exponential_delay: Option<Duration>,
}

/// An abort.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FaultAbort {
    /// With this HTTP status.
    pub http_status: Option<u16>,
    /// With this gRPC status, such as `UNAVAILABLE`.
    pub grpc_status: Option<String>,
    /// With this HTTP/2 error. Not supported yet.
    pub http2_error: Option<String>,
    /// Which share of the requests.
    pub percentage: Option<Percent>,
}

/// A copy that is sent elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpMirrorPolicy {
    /// Where to.
    pub destination: Destination,
    /// How many of the requests; all by default.
    pub percentage: Option<Percent>,
}

/// Cross-origin requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CorsPolicy {
    /// Deprecated form of allowOrigins, exact.
    pub allow_origin: Vec<String>,
    /// The origins that are allowed.
    pub allow_origins: Vec<StringMatch>,
    /// The methods that are allowed.
    pub allow_methods: Vec<String>,
    /// The request headers that are allowed.
    pub allow_headers: Vec<String>,
    /// The response headers that scripts may read.
    pub expose_headers: Vec<String>,
    /// How long a preflight may be cached.
    pub max_age: Option<Duration>,
    /// Whether credentials are allowed.
    pub allow_credentials: Option<bool>,
    /// What happens to a preflight whose origin is not allowed.
    pub unmatched_preflights: Option<UnmatchedPreflights>,
}

/// What happens to a preflight whose origin is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UnmatchedPreflights {
    /// As FORWARD.
    Unspecified,
    /// It goes to the destination.
    Forward,
    /// It is answered without the CORS headers.
    Ignore,
}

/// Changes to headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Headers {
    /// Of the request.
    pub request: Option<HeaderOperations>,
    /// Of the response.
    pub response: Option<HeaderOperations>,
}

/// Changes to the headers of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HeaderOperations {
    /// Replace.
    pub set: BTreeMap<String, String>,
    /// Append.
    pub add: BTreeMap<String, String>,
    /// Remove.
    pub remove: Vec<String>,
}

/// The names of gRPC's status codes; the code of each is its place.
/// Source: <https://grpc.github.io/grpc/core/md_doc_statuscodes.html>.
pub const GRPC_STATUS: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
