//! `MeshConfig` (`weft.mesh/v1`): what holds for the whole mesh. One is read: `default` in the root namespace.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Duration, ExtensionProvider, FederatedTrustDomain, HttpRetry, LocalityLoadBalancerSetting,
    OutboundTrafficPolicy, PathNormalization, TcpKeepalive,
};

/// A field of Istio's that has no effect yet. It is refused, or stored with a warning; nothing reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct NotYet(serde_json::Value);

impl JsonSchema for NotYet {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NotYet".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "Not supported yet.",
            "x-kubernetes-preserve-unknown-fields": true,
        })
    }
}

/// What holds for the whole mesh. The fields are those of Istio's MeshConfig.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[allow(missing_docs, reason = "what is not supported yet says so by its type")]
pub struct MeshConfig {
    /// What happens to connections to unknown destinations.
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
    /// How long opening a connection may take; 10 s by default.
    pub connect_timeout: Option<Duration>,
    /// Keepalive probes of the kernel.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// The retries of routes that do not say.
    pub default_http_retry_policy: Option<HttpRetry>,
    /// How load is balanced by locality.
    pub locality_lb_setting: Option<LocalityLoadBalancerSetting>,
    /// Where Envoys log the HTTP requests they serve, such as `/dev/stdout`; nowhere by default.
    pub access_log_file: Option<String>,
    /// The format of a line of that log; Envoy's own by default.
    pub access_log_format: Option<String>,
    /// `exportTo` of services that do not say.
    pub default_service_export_to: Vec<String>,
    /// `exportTo` of VirtualServices that do not say.
    pub default_virtual_service_export_to: Vec<String>,
    /// `exportTo` of DestinationRules that do not say.
    pub default_destination_rule_export_to: Vec<String>,
    pub proxy_listen_port: NotYet,
    pub proxy_inbound_listen_port: NotYet,
    pub proxy_http_port: NotYet,
    pub protocol_detection_timeout: NotYet,
    pub ingress_class: NotYet,
    pub ingress_service: NotYet,
    pub ingress_controller_mode: NotYet,
    pub ingress_selector: NotYet,
    pub enable_tracing: NotYet,
    pub access_log_encoding: NotYet,
    pub enable_envoy_access_log_service: NotYet,
    pub disable_envoy_listener_log: NotYet,
    pub default_config: NotYet,
    pub inbound_traffic_policy: NotYet,
    pub config_sources: NotYet,
    pub enable_auto_mtls: NotYet,
    pub trust_domain: NotYet,
    pub trust_domain_aliases: NotYet,
    pub ca_certificates: NotYet,
    pub root_namespace: NotYet,
    pub dns_refresh_rate: NotYet,
    pub h2_upgrade_policy: NotYet,
    pub inbound_cluster_stat_name: NotYet,
    pub outbound_cluster_stat_name: NotYet,
    pub certificates: NotYet,
    pub service_settings: NotYet,
    pub enable_prometheus_merge: NotYet,
    pub verify_certificate_at_client: NotYet,
    pub ca: NotYet,
    pub default_providers: NotYet,
    pub discovery_selectors: NotYet,
    #[serde(rename = "meshMTLS")]
    pub mesh_mtls: NotYet,
    pub tls_defaults: NotYet,
    pub compliance_policy: NotYet,
    pub service_scope_configs: NotYet,
    /// Services that extend the mesh, by name.
    pub extension_providers: Vec<ExtensionProvider>,
    /// How paths are normalised before policies are applied to them.
    pub path_normalization: Option<PathNormalization>,
    /// Whether a RequestAuthentication may have proxies fetch keys from anywhere, loopback and link-local addresses too.
    /// Weft's own.
    pub allow_local_jwks_uri: bool,
    /// Names that a RequestAuthentication may have proxies fetch keys from, wherever DNS leads them: hosts, or all under one
    /// (`*.example.com`). Weft's own.
    pub allowed_jwks_hosts: Vec<String>,
    /// Other trust domains whose workloads this mesh knows. Weft's own.
    pub federated_trust_domains: Vec<FederatedTrustDomain>,
    /// Whether bundles may be fetched from anywhere, loopback and link-local addresses too. Weft's own.
    pub allow_local_bundle_endpoints: bool,
    /// How changes are delivered that do not say: to a few proxies first. Weft's own.
    pub gradual_delivery: Option<GradualDelivery>,
}

/// To a few proxies first, and to all others when these run it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GradualDelivery {
    /// How many proxies get a change first; 1 by default.
    pub first: Option<u32>,
    /// Whether a change is taken back that one of them refuses, or does not run in time; otherwise it stops there.
    pub rollback: bool,
    /// How long they have to run it; 60 s by default.
    pub deadline: Option<Duration>,
}

impl MeshConfig {
    /// Whether keys may be fetched from a host without looking where it is.
    pub fn allows_keys_of(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let means = |allowed: &String| match allowed.to_ascii_lowercase().strip_prefix('*') {
            Some(domain) => host.ends_with(domain),
            None => host == *allowed.to_ascii_lowercase().trim_end_matches('.'),
        };
        // What is written as an address is allowed by none of the names.
        let named = !super::is_local(&host) && self.allowed_jwks_hosts.iter().any(means);
        self.allow_local_jwks_uri || named
    }
}
