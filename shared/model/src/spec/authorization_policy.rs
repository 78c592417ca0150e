//! `AuthorizationPolicy`: which requests and connections a workload takes.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{PolicySelector, PolicyTargetReference};

/// Says which requests and connections reach the workloads it selects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuthorizationPolicy {
    /// The workloads; all of the namespace by default, of the mesh in the root namespace.
    pub selector: Option<PolicySelector>,
    /// A Gateway, Service or ServiceEntry to hold for. Not supported yet.
    pub target_ref: Option<PolicyTargetReference>,
    /// Gateways, Services or ServiceEntries to hold for. Not supported yet.
    pub target_refs: Vec<PolicyTargetReference>,
    /// What is matched; nothing if there is no rule, everything by an empty rule.
    pub rules: Vec<AuthorizationRule>,
    /// What becomes of what is matched.
    pub action: AuthorizationAction,
    /// Who decides, if the action is `CUSTOM`.
    pub provider: Option<AuthorizationProvider>,
}

/// What becomes of what a policy matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AuthorizationAction {
    /// It is allowed, and what no such policy matches is denied.
    #[default]
    Allow,
    /// It is denied.
    Deny,
    /// It is counted.
    Audit,
    /// A service decides, before all others.
    Custom,
}

/// Who decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuthorizationProvider {
    /// A name in MeshConfig's `extensionProviders`.
    pub name: String,
}

/// Matches if one of `from`, one of `to` and all of `when` match; what is absent matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuthorizationRule {
    /// Who calls: one of these.
    pub from: Option<Vec<RuleFrom>>,
    /// What is called: one of these.
    pub to: Option<Vec<RuleTo>>,
    /// Conditions: all of these.
    pub when: Option<Vec<Condition>>,
}

/// Who calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RuleFrom {
    /// The caller.
    pub source: Source,
}

/// What is called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RuleTo {
    /// The operation.
    pub operation: Operation,
}

/// A caller: every field that is not empty must match. Values may be exact, `prefix*`, `*suffix` or `*` (present).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Source {
    /// The peer's identity, `<trust domain>/ns/<namespace>/sa/<service account>`.
    pub principals: Vec<String>,
    /// None of these.
    pub not_principals: Vec<String>,
    /// The identity in the request's JWT, `<issuer>/<subject>`.
    pub request_principals: Vec<String>,
    /// None of these.
    pub not_request_principals: Vec<String>,
    /// The namespace of the peer's identity.
    pub namespaces: Vec<String>,
    /// None of these.
    pub not_namespaces: Vec<String>,
    /// The service account of the peer's identity, `<namespace>/<name>`, or `<name>` in the policy's namespace. Exact only.
    pub service_accounts: Vec<String>,
    /// None of these.
    pub not_service_accounts: Vec<String>,
    /// The address of the peer: an address or a prefix.
    pub ip_blocks: Vec<String>,
    /// None of these.
    pub not_ip_blocks: Vec<String>,
    /// The address of the client, as trusted proxies tell it: an address or a prefix.
    pub remote_ip_blocks: Vec<String>,
    /// None of these.
    pub not_remote_ip_blocks: Vec<String>,
}

/// An operation: every field that is not empty must match. Values may be exact, `prefix*`, `*suffix` or `*` (present).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Operation {
    /// The host of the request, in any case.
    pub hosts: Vec<String>,
    /// None of these.
    pub not_hosts: Vec<String>,
    /// The port of the workload that is called.
    pub ports: Vec<String>,
    /// None of these.
    pub not_ports: Vec<String>,
    /// The method of the request.
    pub methods: Vec<String>,
    /// None of these.
    pub not_methods: Vec<String>,
    /// The path of the request without its query; or a template, in which `{*}` is one segment and `{**}` any number.
    pub paths: Vec<String>,
    /// None of these.
    pub not_paths: Vec<String>,
}

/// A condition on an attribute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Condition {
    /// The attribute, such as `request.headers[x-a]` or `request.auth.claims[iss]`.
    pub key: String,
    /// One of these.
    pub values: Vec<String>,
    /// None of these.
    pub not_values: Vec<String>,
}
