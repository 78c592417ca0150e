#![allow(clippy::unwrap_used)]

mod both;
mod client;
mod delta;
mod gates;
mod isolation;
mod model;
mod progress;
mod sotw;

use serde_json::json;

use self::client::{Client, Seen};
use super::ResourceType::{Cluster, Endpoint, Listener, Route, Secret};
use super::*;

const BOTH: [Variant; 2] = [Variant::Sotw, Variant::Delta];

/// A cluster by EDS; `v` makes contents differ.
fn cluster(name: &str, v: u32) -> Resource {
    let eds = json!({"eds_config": {"ads": {}}});
    make(
        Cluster,
        &json!({"name": name, "type": "EDS", "alt_stat_name": format!("v{v}"), "eds_cluster_config": eds}),
    )
}

fn endpoints(name: &str, port: u32) -> Resource {
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let endpoint = json!({"endpoint": {"address": address}});
    make(
        Endpoint,
        &json!({"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}),
    )
}

fn route(name: &str, cluster: &str) -> Resource {
    let route = json!({"match": {"prefix": "/"}, "route": {"cluster": cluster}});
    make(
        Route,
        &json!({"name": name, "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]}),
    )
}

fn listener(name: &str, route: &str) -> Resource {
    let hcm = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let rds = json!({"route_config_name": route, "config_source": {"ads": {}}});
    let filter =
        json!({"name": "hcm", "typed_config": {"@type": hcm, "stat_prefix": "x", "rds": rds}});
    make(
        Listener,
        &json!({"name": name, "filter_chains": [{"filters": [filter]}]}),
    )
}

fn secret(name: &str, v: u32) -> Resource {
    let inline = json!({"inline_string": format!("v{v}")});
    make(
        Secret,
        &json!({"name": name, "generic_secret": {"secret": inline}}),
    )
}

fn make(ty: ResourceType, value: &serde_json::Value) -> Resource {
    Resource::from_json(ty, value).unwrap()
}

fn snapshot(revision: i64, resources: &[Resource]) -> Snapshot {
    Snapshot::of(revision, resources.iter().cloned())
}
