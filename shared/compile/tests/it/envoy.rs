//! Asks the installed Envoys whether they take a snapshot, as a static configuration (`--mode validate`).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use prost::{Message, Name};
use xds::pb::envoy::config::bootstrap::v3::{
    Admin, Bootstrap, LayeredRuntime, RuntimeLayer, bootstrap, runtime_layer,
};
use xds::pb::envoy::config::cluster::v3::{Cluster, cluster};
use xds::pb::envoy::config::core::v3::{Node, TransportSocket, transport_socket};
use xds::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use xds::pb::envoy::config::listener::v3::{FilterChain, Listener, filter};
use xds::pb::envoy::config::route::v3::RouteConfiguration;
use xds::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier,
};
use xds::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use xds::pb::envoy::extensions::transport_sockets::tls::v3::{
    CommonTlsContext, DownstreamTlsContext, UpstreamTlsContext,
};
use xds::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use xds::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
};
use xds::pb::google::protobuf::{Any, Struct, Value, value};
use xds::{ResourceType, Snapshot, make};

/// What Envoys have to say against a snapshot: errors and warnings.
pub(crate) fn complaints(snapshot: &Snapshot) -> Vec<String> {
    let file = tempfile(snapshot);
    let envoys = ["envoy-1.40.0", "envoy-1.36.4"].map(binary);
    let complaints = envoys.iter().filter_map(|envoy| {
        let output = Command::new(envoy)
            .args(["--mode", "validate", "-c"])
            .arg(&file)
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
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
            .then(|| format!("{}: {}", envoy.display(), bad.join("\n")))
    });
    let complaints = complaints.collect();
    std::fs::remove_file(file).unwrap();
    complaints
}

/// An installed Envoy.
pub(crate) fn binary(name: &str) -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools");
    let envoy = tools.join(name);
    assert!(envoy.exists(), "{name} is not installed: run `make tools`");
    envoy
}

fn tempfile(snapshot: &Snapshot) -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let file = std::env::temp_dir().join(format!("weft-golden-{}-{number}.pb", std::process::id()));
    std::fs::write(&file, bootstrap(snapshot, None).encode_to_vec()).unwrap();
    file
}

/// A snapshot as a static configuration; secrets are asked for at an address.
pub(crate) fn bootstrap(snapshot: &Snapshot, secrets: Option<SocketAddr>) -> Bootstrap {
    let clusters = snapshot
        .iter(ResourceType::Cluster)
        .map(|resource| with_endpoints(resource.decode().unwrap(), snapshot));
    let listeners = snapshot
        .iter(ResourceType::Listener)
        .map(|resource| with_routes(resource.decode().unwrap(), snapshot));
    Bootstrap {
        node: Some(Node {
            id: "golden".into(),
            cluster: "golden".into(),
            ..Default::default()
        }),
        admin: Some(Admin {
            address: Some(make::address("127.0.0.1", 0)),
            ..Default::default()
        }),
        layered_runtime: Some(runtime()),
        static_resources: Some(bootstrap::StaticResources {
            clusters: clusters.chain([issuer(secrets)]).collect(),
            listeners: listeners.collect(),
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

/// The same secrets from where the others come: an Envoy that only validates has no aggregated stream, and one that runs here
/// gets them all from one server.
fn with_secrets(socket: &mut Option<TransportSocket>) {
    let Some(transport_socket::ConfigType::TypedConfig(any)) = socket
        .as_mut()
        .and_then(|socket| socket.config_type.as_mut())
    else {
        return;
    };
    let bytes = any.value.as_slice();
    if any.type_url == DownstreamTlsContext::type_url() {
        let mut context = DownstreamTlsContext::decode(bytes).unwrap();
        context.common_tls_context.as_mut().map(from_issuer);
        any.value = context.encode_to_vec();
    } else if any.type_url == UpstreamTlsContext::type_url() {
        let mut context = UpstreamTlsContext::decode(bytes).unwrap();
        context.common_tls_context.as_mut().map(from_issuer);
        any.value = context.encode_to_vec();
    }
}

fn from_issuer(common: &mut CommonTlsContext) {
    let validation = match &mut common.validation_context_type {
        Some(ValidationContextType::CombinedValidationContext(combined)) => {
            combined.validation_context_sds_secret_config.as_mut()
        }
        _ => None,
    };
    for config in common
        .tls_certificate_sds_secret_configs
        .iter_mut()
        .chain(validation)
    {
        config.sds_config = Some(compile::sds_source(compile::ISSUER_CLUSTER));
    }
}

/// Where secrets come from, as every bootstrap has it.
fn issuer(address: Option<SocketAddr>) -> Cluster {
    let protocol = HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(
            ExplicitHttpConfig {
                protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(Default::default())),
            },
        )),
        ..Default::default()
    };
    let protocol = Any {
        type_url: HttpProtocolOptions::type_url(),
        value: protocol.encode_to_vec(),
    };
    let addresses: Vec<_> = address
        .iter()
        .map(|it| (it.ip().to_string(), it.port()))
        .collect();
    let addresses: Vec<_> = addresses.iter().map(|(ip, port)| (&**ip, *port)).collect();
    Cluster {
        typed_extension_protocol_options: [(HttpProtocolOptions::full_name(), protocol)].into(),
        ..make::static_cluster(compile::ISSUER_CLUSTER, &addresses)
    }
}

fn with_endpoints(mut cluster: Cluster, snapshot: &Snapshot) -> Cluster {
    with_secrets(&mut cluster.transport_socket);
    if let Some(eds) = cluster.eds_cluster_config.take() {
        let assignment = snapshot
            .get(ResourceType::Endpoint, &eds.service_name)
            .unwrap();
        let mut assignment: ClusterLoadAssignment = assignment.decode().unwrap();
        assignment.cluster_name.clone_from(&cluster.name);
        cluster.load_assignment = Some(assignment);
        cluster.cluster_discovery_type = Some(cluster::ClusterDiscoveryType::Type(0));
    }
    cluster
}

fn with_routes(mut listener: Listener, snapshot: &Snapshot) -> Listener {
    let mut inline = |chain: &mut FilterChain| {
        with_secrets(&mut chain.transport_socket);
        for config in chain
            .filters
            .iter_mut()
            .filter_map(|filter| filter.config_type.as_mut())
        {
            let filter::ConfigType::TypedConfig(any) = config else {
                continue;
            };
            if any.type_url != HttpConnectionManager::type_url() {
                continue;
            }
            let mut manager = HttpConnectionManager::decode(any.value.as_slice()).unwrap();
            if let Some(RouteSpecifier::Rds(rds)) = &manager.route_specifier {
                let routes = snapshot
                    .get(ResourceType::Route, &rds.route_config_name)
                    .unwrap();
                let routes: RouteConfiguration = routes.decode().unwrap();
                manager.route_specifier = Some(RouteSpecifier::RouteConfig(routes));
                any.value = manager.encode_to_vec();
            }
        }
    };
    listener
        .filter_chains
        .iter_mut()
        .chain(listener.default_filter_chain.as_mut())
        .for_each(&mut inline);
    listener
}
