//! What bootstraps write as JSON is what is compiled.
#![allow(clippy::unwrap_used)]

use serde_json::json;
use xds::{Resource, ResourceType};

use super::*;

#[test]
fn the_source_of_secrets_is_that_of_the_bootstrap() {
    // The fragment of a bootstrap that real Envoys share secrets by.
    let written = json!({
        "resource_api_version": "V3", "initial_fetch_timeout": "5s",
        "api_config_source": {
            "api_type": "DELTA_GRPC", "transport_api_version": "V3",
            "grpc_services": [{
                "envoy_grpc": {
                    "cluster_name": "weft-issuer",
                    "retry_policy": {"retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"}},
                },
                "timeout": "0s",
            }],
        },
    });
    let cluster = json!({"name": "c", "eds_cluster_config": {"eds_config": written}});
    let read = Resource::from_json(ResourceType::Cluster, &cluster).unwrap();
    let made = Resource::new(&pb::Cluster {
        name: "c".into(),
        eds_cluster_config: Some(pb::cluster::EdsClusterConfig {
            eds_config: Some(sds_source(ISSUER_CLUSTER)),
            ..Default::default()
        }),
        ..Default::default()
    });
    assert_eq!(made.body(), read.body());
}
