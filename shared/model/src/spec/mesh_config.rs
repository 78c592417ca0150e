//! `MeshConfig` (`weft.mesh/v1`): what holds for the whole mesh. One is read: `default` in the root namespace.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Duration, HttpRetry, LocalityLoadBalancerSetting, OutboundTrafficPolicy, TcpKeepalive,
};

/// What holds for the whole mesh. The fields are those of Istio's MeshConfig.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
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
}
