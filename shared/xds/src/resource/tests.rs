#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use envoy_types::pb::envoy::config::cluster::v3::{Cluster, cluster};
use envoy_types::pb::envoy::config::core::v3::{self as core, config_source};
use envoy_types::pb::envoy::config::rbac::v3::{Policy, Rbac as Rules};
use envoy_types::pb::envoy::config::route::v3::{
    Route, RouteAction, RouteConfiguration, VirtualHost, route, route_action,
};
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    Secret, TlsCertificate, secret,
};
use envoy_types::util::pack_any;
use serde_json::json;

use super::*;

fn extension(policies: u32) -> core::TypedExtensionConfig {
    let policies: HashMap<String, Policy> = (0..policies)
        .map(|i| (format!("policy-{i}"), Policy::default()))
        .collect();
    let rules = Rules {
        policies,
        ..Default::default()
    };
    let rbac = Rbac {
        rules: Some(rules),
        ..Default::default()
    };
    core::TypedExtensionConfig {
        name: "rbac".into(),
        typed_config: Some(pack_any(rbac)),
    }
}

#[test]
fn maps_are_encoded_in_order_also_inside_an_any() {
    let version = Resource::new(&extension(50)).version().clone();
    for _ in 0..20 {
        let again = Resource::new(&extension(50));
        assert_eq!(again.version(), &version);
        assert_eq!(
            again.decode::<core::TypedExtensionConfig>().unwrap().name,
            "rbac"
        );
    }
    assert_ne!(Resource::new(&extension(49)).version(), &version);
}

#[test]
fn both_wire_forms_are_what_prost_would_write() {
    use envoy_types::pb::envoy::service::discovery::v3::{
        DeltaDiscoveryResponse, DiscoveryResponse,
    };
    use prost::Message as _;
    for resource in [
        Resource::new(&Cluster {
            name: "a".into(),
            alt_stat_name: "x".repeat(300),
            ..Default::default()
        }),
        Resource::new(&Cluster::default()),
    ] {
        let sotw = DiscoveryResponse::decode(resource.sotw_wire()).unwrap();
        assert_eq!(sotw.resources, [resource.to_any()]);
        let delta = DeltaDiscoveryResponse::decode(resource.delta_wire()).unwrap();
        assert_eq!(
            delta.resources[0].resource.as_ref().unwrap(),
            &resource.to_any()
        );
        assert_eq!(delta.resources[0].name, &**resource.name());
        assert_eq!(delta.resources[0].version, &**resource.version());
    }
}

#[test]
fn eds_is_referred_to_only_if_it_comes_from_this_server() {
    let cluster = |source, service: &str| {
        Resource::new(&Cluster {
            name: "c".into(),
            eds_cluster_config: Some(cluster::EdsClusterConfig {
                eds_config: Some(core::ConfigSource {
                    config_source_specifier: source,
                    ..Default::default()
                }),
                service_name: service.into(),
            }),
            ..Default::default()
        })
    };
    let ads = Some(config_source::ConfigSourceSpecifier::Ads(
        core::AggregatedConfigSource {},
    ));
    let name = |r: &Resource| {
        r.refs()
            .iter()
            .map(|r| format!("{} {}", r.ty, r.name))
            .collect::<Vec<_>>()
    };
    assert_eq!(name(&cluster(ads.clone(), "")), ["EDS c"]);
    assert_eq!(name(&cluster(ads, "s")), ["EDS s"]);
    let file = Some(config_source::ConfigSourceSpecifier::PathConfigSource(
        Default::default(),
    ));
    assert!(cluster(file, "s").refs().is_empty());
}

#[test]
fn routes_and_listeners_refer_to_clusters_routes_secrets_and_extensions() {
    let names = |ty, value| {
        let resource = Resource::from_json(ty, &value).unwrap();
        resource
            .refs()
            .iter()
            .map(|r| format!("{} {}", r.ty, r.name))
            .collect::<Vec<_>>()
    };
    let route = json!({"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
        {"match": {"prefix": "/a"}, "route": {"cluster": "one", "request_mirror_policies": [{"cluster": "mirror"}]}},
        {"match": {"prefix": "/b"}, "route": {"weighted_clusters": {"clusters": [
            {"name": "two", "weight": 1}, {"name": "one", "weight": 1}]}}},
        {"match": {"prefix": "/c"}, "direct_response": {"status": 404}}]}]});
    assert_eq!(
        names(ResourceType::Route, route.clone()),
        ["CDS mirror", "CDS one", "CDS two"]
    );
    let ads = json!({"ads": {}});
    let hcm = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let tls = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
    let listener = json!({"name": "l", "filter_chains": [
        {"transport_socket": {"name": "tls", "typed_config": {"@type": tls, "common_tls_context": {
            "tls_certificate_sds_secret_configs": [{"name": "cert", "sds_config": ads}]}}},
         "filters": [{"name": "hcm", "typed_config": {"@type": hcm, "rds": {"route_config_name": "r", "config_source": ads},
            "http_filters": [{"name": "e", "config_discovery": {"config_source": ads, "type_urls": ["x"]}}]}}]},
        {"filters": [{"name": "tcp", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "weighted_clusters": {"clusters": [{"name": "db", "weight": 1}]}}}]},
        {"filters": [{"name": "hcm", "typed_config": {"@type": hcm, "route_config": route}}]}]});
    let found = names(ResourceType::Listener, listener);
    assert_eq!(
        found,
        [
            "CDS db",
            "CDS mirror",
            "CDS one",
            "CDS two",
            "RDS r",
            "SDS cert",
            "ECDS e"
        ]
    );
}

#[test]
fn json_and_debug_show_no_key_material() {
    let key = core::DataSource {
        specifier: Some(core::data_source::Specifier::InlineString("THE-KEY".into())),
        ..Default::default()
    };
    let certificate = TlsCertificate {
        private_key: Some(key),
        ..Default::default()
    };
    let secret = Resource::new(&Secret {
        name: "s".into(),
        r#type: Some(secret::Type::TlsCertificate(certificate)),
    });
    let shown = format!("{} {secret:?}", secret.to_json());
    assert!(
        shown.contains("[redacted]") && !shown.contains("THE-KEY"),
        "{shown}"
    );
    let wrapped = core::TypedExtensionConfig {
        name: "x".into(),
        typed_config: Some(Any {
            type_url: "type.googleapis.com/not.Known".into(),
            value: b"THE-KEY".to_vec(),
        }),
    };
    let shown = Resource::new(&wrapped).to_json().to_string();
    assert!(
        shown.contains("not.Known") && !shown.contains("THE-KEY"),
        "{shown}"
    );
}

#[test]
fn json_that_is_no_such_message_is_refused_by_field() {
    let error = Resource::from_json(ResourceType::Cluster, &json!({"name": "c", "no_such": 1}))
        .unwrap_err();
    assert!(error.to_string().contains("no_such"), "{error}");
    assert!(matches!(
        Resource::from_json(ResourceType::Cluster, &json!({})),
        Err(ResourceError::NoName(_))
    ));
    let any = Any {
        type_url: ResourceType::Cluster.type_url().into(),
        value: vec![0x0a, 0xff],
    };
    assert!(matches!(
        Resource::from_any(&any),
        Err(ResourceError::Decode { .. })
    ));
}

#[test]
fn joining_is_encoding_the_merged_message() {
    let route = |name: &str, hosts: &[&str]| {
        let cluster = |name: &str| RouteAction {
            cluster_specifier: Some(route_action::ClusterSpecifier::Cluster(name.into())),
            ..Default::default()
        };
        let host = |name: &&str| VirtualHost {
            name: (*name).into(),
            routes: vec![Route {
                action: Some(route::Action::Route(cluster(name))),
                ..Default::default()
            }],
            ..Default::default()
        };
        let virtual_hosts = hosts.iter().map(host).collect();
        let name = name.into();
        Resource::new(&RouteConfiguration {
            name,
            virtual_hosts,
            ..Default::default()
        })
    };
    let joined = Resource::joined(&[route("r", &[]), route("", &["a"]), route("", &["c", "b"])]);
    let whole = route("r", &["a", "c", "b"]);
    assert_eq!(joined, whole);
    assert_eq!(joined.body(), whole.body());
    assert_eq!(joined.refs(), whole.refs());
}
