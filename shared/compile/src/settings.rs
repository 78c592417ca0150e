//! What MeshConfig sets for everything, with the defaults where it is silent.
//!
//! *Invariant:* every default that Istio documents for MeshConfig is written here and nowhere else.

use std::time::Duration;

use model::mesh::View;
use model::spec::HttpRetry;

use xds::pb::envoy::config::accesslog::v3::{AccessLog, access_log};
use xds::pb::envoy::extensions::access_loggers::file::v3::{
    FileAccessLog, file_access_log::AccessLogFormat,
};

use crate::translate::{cluster, pb, tcp};

/// How long Envoy tries to connect where nobody says.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Where distributions of Linux keep the certificates of public authorities.
const SYSTEM_CA: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What it sets for clusters.
pub(crate) fn cluster_defaults<'m>(view: &mut View<'m, '_>) -> cluster::Defaults<'m> {
    let config = view.mesh_config();
    cluster::Defaults {
        connect_timeout: config
            .and_then(|config| config.connect_timeout)
            .map_or(CONNECT_TIMEOUT, |it| it.0),
        tcp_keepalive: config.and_then(|config| config.tcp_keepalive.as_ref()),
        locality: config.and_then(|config| config.locality_lb_setting.as_ref()),
        system_ca: SYSTEM_CA,
    }
}

/// The retries of routes that do not say; Istio's own where the mesh does not either.
pub(crate) fn default_retry<'m>(view: &mut View<'m, '_>) -> Option<&'m HttpRetry> {
    view.mesh_config()?.default_http_retry_policy.as_ref()
}

/// What it sets for connections to what no policy speaks of.
pub(crate) fn connections(view: &mut View<'_, '_>) -> tcp::Connections {
    tcp::Connections {
        access_log: access_log(view),
        ..Default::default()
    }
}

/// Where requests, and connections of TCP, are logged: `accessLogFile`, in `accessLogFormat` or Envoy's own format.
pub(crate) fn access_log(view: &mut View<'_, '_>) -> Vec<AccessLog> {
    let Some(config) = view.mesh_config() else {
        return Vec::new();
    };
    let Some(path) = config
        .access_log_file
        .as_deref()
        .filter(|path| !path.is_empty())
    else {
        return Vec::new();
    };
    let format = config
        .access_log_format
        .as_deref()
        .filter(|format| !format.is_empty())
        .map(|format| {
            let text = pb::DataSource {
                specifier: Some(pb::data_source::Specifier::InlineString(format.into())),
                ..Default::default()
            };
            AccessLogFormat::LogFormat(pb::SubstitutionFormatString {
                format: Some(pb::substitution_format_string::Format::TextFormatSource(
                    text,
                )),
                ..Default::default()
            })
        });
    let file = FileAccessLog {
        path: path.into(),
        access_log_format: format,
    };
    vec![AccessLog {
        name: "envoy.access_loggers.file".into(),
        config_type: Some(access_log::ConfigType::TypedConfig(pb::any(&file))),
        ..Default::default()
    }]
}
