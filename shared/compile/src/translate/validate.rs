//! Asks real Envoys whether they would accept what was translated (`--mode validate`), in tests only.
//!
//! The binaries are those that the harness installs under `.tools/`.
//!
//! *Invariant:* a warning in Envoy's log is a failure.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use prost::Message;
use xds::pb::envoy::config::bootstrap::v3::{
    Admin, Bootstrap, LayeredRuntime, RuntimeLayer, bootstrap, runtime_layer,
};
use xds::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use xds::pb::envoy::extensions::filters::http::router::v3::Router;
use xds::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, http_connection_manager, http_filter,
};
use xds::pb::google::protobuf::{Struct, Value, value};

use super::pb;

/// What a proxy would be told: static, so that validation sees all of it.
#[derive(Default)]
pub(crate) struct Config {
    pub(crate) clusters: Vec<pb::Cluster>,
    pub(crate) virtual_hosts: Vec<pb::VirtualHost>,
    pub(crate) tcp_proxies: Vec<pb::tcp_proxy::TcpProxy>,
    /// Listeners as they are.
    pub(crate) listeners: Vec<Listener>,
}

/// Fails unless every installed Envoy takes it without a warning.
pub(crate) fn assert_valid(name: &str, config: Config) {
    let file = std::env::temp_dir().join(format!("weft-{name}-{}.pb", std::process::id()));
    std::fs::write(&file, bootstrap(config).encode_to_vec()).unwrap();
    let envoys = envoys();
    assert!(
        envoys.len() >= 2,
        "no two Envoys under .tools/: run `make tools` first"
    );
    let complaints: Vec<String> = envoys
        .iter()
        .filter_map(|envoy| complaint(envoy, &file))
        .collect();
    std::fs::remove_file(file).unwrap();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// What an Envoy has to say against a configuration.
fn complaint(envoy: &Path, file: &Path) -> Option<String> {
    let output = Command::new(envoy)
        .args(["--mode", "validate", "-c"])
        .arg(file)
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    // An entry may have several lines.
    let mut told = true;
    let bad: Vec<&str> = log
        .lines()
        .filter(|line| {
            if line.starts_with('[') {
                told = !line.contains("[info]");
            }
            told
        })
        .collect();
    (!output.status.success() || !bad.is_empty())
        .then(|| format!("{}: {}\n{}", envoy.display(), output.status, bad.join("\n")))
}

/// The Envoys that are installed.
pub(crate) fn envoys() -> Vec<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools");
    let entries = std::fs::read_dir(tools)
        .into_iter()
        .flatten()
        .flatten()
        .map(|it| it.path());
    let is_envoy = |path: &PathBuf| {
        path.is_file()
            && path
                .file_name()
                .is_some_and(|it| it.to_string_lossy().starts_with("envoy-"))
    };
    entries.filter(is_envoy).collect()
}

/// The static bootstrap of a configuration; every listener takes a free port.
pub(crate) fn bootstrap(config: Config) -> Bootstrap {
    let hcm = (!config.virtual_hosts.is_empty()).then(|| hcm(config.virtual_hosts));
    let tcp = config
        .tcp_proxies
        .iter()
        .map(|it| ("envoy.filters.network.tcp_proxy", pb::any(it)));
    let filters = hcm.into_iter().chain(tcp);
    Bootstrap {
        node: Some(pb::Node {
            id: "n".into(),
            cluster: "c".into(),
            ..Default::default()
        }),
        admin: Some(Admin {
            address: Some(super::endpoint::address(&super::endpoint::Address::new(
                "127.0.0.1",
                0,
            ))),
            ..Default::default()
        }),
        dynamic_resources: Some(bootstrap::DynamicResources {
            ads_config: Some(pb::ApiConfigSource {
                api_type: pb::api_config_source::ApiType::DeltaGrpc.into(),
                transport_api_version: pb::ApiVersion::V3.into(),
                grpc_services: vec![pb::GrpcService {
                    target_specifier: Some(pb::grpc_service::TargetSpecifier::EnvoyGrpc(
                        pb::grpc_service::EnvoyGrpc {
                            cluster_name: "xds".into(),
                            ..Default::default()
                        },
                    )),
                    ..Default::default()
                }],
                ..Default::default()
            }),
            ..Default::default()
        }),
        layered_runtime: Some(runtime()),
        static_resources: Some(bootstrap::StaticResources {
            listeners: filters
                .enumerate()
                .map(|(at, filter)| listener(at, filter))
                .chain(config.listeners)
                .collect(),
            clusters: config.clusters.into_iter().chain([xds_cluster()]).collect(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The static layer of runtime values that every bootstrap has.
fn runtime() -> LayeredRuntime {
    let size = f64::from(model::REGEX_PROGRAM_SIZE);
    let value = Value {
        kind: Some(value::Kind::NumberValue(size)),
    };
    let layer = Struct {
        fields: [(model::REGEX_RUNTIME_KEY.to_owned(), value)].into(),
    };
    LayeredRuntime {
        layers: vec![RuntimeLayer {
            name: "static".into(),
            layer_specifier: Some(runtime_layer::LayerSpecifier::StaticLayer(layer)),
        }],
    }
}

fn xds_cluster() -> pb::Cluster {
    pb::Cluster {
        name: "xds".into(),
        cluster_discovery_type: Some(pb::cluster::ClusterDiscoveryType::Type(0)),
        ..Default::default()
    }
}

fn hcm(virtual_hosts: Vec<pb::VirtualHost>) -> (&'static str, pb::Any) {
    use http_connection_manager::RouteSpecifier::RouteConfig;
    let filter = |name: &str, config: pb::Any| HttpFilter {
        name: name.into(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    };
    let config = HttpConnectionManager {
        stat_prefix: "test".into(),
        route_specifier: Some(RouteConfig(pb::RouteConfiguration {
            name: "test".into(),
            virtual_hosts,
            validate_clusters: Some(pb::BoolValue { value: false }),
            ..Default::default()
        })),
        http_filters: vec![
            filter(
                "envoy.filters.http.fault",
                pb::any(&pb::fault::HttpFault::default()),
            ),
            filter("envoy.filters.http.cors", pb::any(&pb::cors::Cors {})),
            filter("envoy.filters.http.router", pb::any(&Router::default())),
        ],
        ..Default::default()
    };
    (
        "envoy.filters.network.http_connection_manager",
        pb::any(&config),
    )
}

fn listener(at: usize, (name, config): (&str, pb::Any)) -> Listener {
    Listener {
        name: format!("listener-{at}"),
        address: Some(super::endpoint::address(&super::endpoint::Address::new(
            "127.0.0.1",
            0,
        ))),
        filter_chains: vec![FilterChain {
            filters: vec![Filter {
                name: name.into(),
                config_type: Some(filter::ConfigType::TypedConfig(config)),
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}
