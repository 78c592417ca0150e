//! An Envoy bootstrap for a workload: who it is, and where its pushers are.
//!
//! *Invariant:* a bootstrap holds no policy; everything but the way to the pushers comes over that way.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use model::{Key, Kind, Object};
use serde_json::{Value, json};

use crate::app::App;
use crate::http::negotiate::Accept;
use crate::http::query::{Params, invalid};
use crate::http::status::{Result, Status};
use crate::http::warning;
use crate::rendezvous;

/// Where a pusher listens when none has registered yet.
const USUAL_PUSHER: &str = "127.0.0.1:18000";

pub(super) async fn bootstrap(
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response> {
    let accept = Accept::of(&headers, &[])?;
    let key = Key::new(Kind::WorkloadEntry, namespace, name);
    let workload = app.store.get(&key).await?.ok_or_else(|| {
        Status::not_found(&key).within("a workload is a WorkloadEntry; apply it first")
    })?;
    let role = match params.get("type") {
        Some("sidecar") => "sidecar",
        Some("gateway") => "gateway",
        Some(other) => return Err(invalid("type", other, "must be sidecar or gateway")),
        None => role(&app, &workload).await,
    };
    let node = format!("{role}~{}~{}", key.namespace, key.name);
    let pushers = pushers(&app, &node);
    let options = Options::of(&params)?;
    let registered: &[String] = if pushers.is_empty() {
        &[USUAL_PUSHER.to_owned()]
    } else {
        &pushers
    };
    let body = config(&node, &workload, registered, &options)?;
    let mut response = accept.respond(StatusCode::OK, &body);
    if pushers.is_empty() {
        let text = format!(
            "no pusher is registered; the bootstrap names the usual address, {USUAL_PUSHER}"
        );
        warning::add(response.headers_mut(), [text.as_str()]);
    }
    Ok(response)
}

/// A gateway is a workload that a Gateway selects, or that is labelled as Istio labels its gateways.
async fn role(app: &App, workload: &Object) -> &'static str {
    let labels = &workload.metadata.labels;
    let selected = || async {
        app.fresh_view()
            .await
            .objects
            .values()
            .filter(|o| o.kind == Kind::Gateway)
            .any(|gateway| {
                let selector = gateway.spec["selector"]
                    .as_object()
                    .filter(|s| !s.is_empty());
                selector.is_some_and(|s| {
                    s.iter()
                        .all(|(k, v)| labels.get(k).map(String::as_str) == v.as_str())
                })
            })
    };
    let labelled = labels.get("istio").is_some_and(|l| l.ends_with("gateway"));
    if labelled || selected().await {
        "gateway"
    } else {
        "sidecar"
    }
}

/// The live pushers' addresses, the owner of this node first, the others in the order in which they would succeed it.
fn pushers(app: &App, node: &str) -> Vec<String> {
    let members = app.pushers.members();
    let instances: Vec<&str> = members.iter().map(|m| m.instance.as_str()).collect();
    rendezvous::order(node, &instances)
        .into_iter()
        .filter_map(|i| members.get(i)?.addresses.get("grpc").cloned())
        .collect()
}

struct Options {
    api_type: &'static str,
    admin_address: String,
    admin_port: u32,
}

impl Options {
    fn of(params: &Params) -> Result<Self> {
        let api_type = match params.get("variant") {
            None | Some("delta") => "DELTA_GRPC",
            Some("sotw") => "GRPC",
            Some(other) => return Err(invalid("variant", other, "must be delta or sotw")),
        };
        let admin_address = params.get("adminAddress").unwrap_or("127.0.0.1").to_owned();
        if admin_address.parse::<IpAddr>().is_err() {
            return Err(invalid(
                "adminAddress",
                &admin_address,
                "must be an IP address",
            ));
        }
        let admin_port = params.number("adminPort")?.unwrap_or(9901);
        if admin_port > 65535 {
            return Err(invalid(
                "adminPort",
                &admin_port.to_string(),
                "must be a port, 0 to 65535",
            ));
        }
        Ok(Self {
            api_type,
            admin_address,
            admin_port,
        })
    }
}

fn config(node: &str, workload: &Object, pushers: &[String], options: &Options) -> Result<Value> {
    let runtime = [
        json!({"name": RUNTIME, "rtds_layer": {"name": RUNTIME, "rtds_config": source("1s")}}),
        // What somebody sets by hand on the admin port wins.
        json!({"name": "admin", "admin_layer": {}}),
    ];
    let metadata = &workload.metadata;
    let service = metadata
        .labels
        .get("app")
        .map_or(metadata.name.as_str(), String::as_str);
    let mut node = json!({
        "id": node, "cluster": format!("{service}.{}", metadata.namespace),
        "metadata": {"NAMESPACE": metadata.namespace, "NAME": metadata.name, "LABELS": metadata.labels},
    });
    if let Some(locality) = workload.spec["locality"].as_str() {
        let mut parts = locality.split('/');
        for field in ["region", "zone", "sub_zone"] {
            if let Some(part) = parts.next().filter(|p| !p.is_empty()) {
                node["locality"][field] = part.into();
            }
        }
    }
    Ok(json!({
        "node": node,
        "admin": {"address": socket(&options.admin_address, options.admin_port)},
        "dynamic_resources": {
            "ads_config": {
                "api_type": options.api_type,
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{"envoy_grpc": {
                    "cluster_name": "weft-xds",
                    "retry_policy": {"retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"}},
                }}],
            },
            "cds_config": source("0s"),
            "lds_config": source("0s"),
        },
        "layered_runtime": {"layers": runtime},
        "static_resources": {"clusters": [xds_cluster(pushers)?]},
    }))
}

/// A configuration source: the ADS stream.
fn source(initial_fetch_timeout: &str) -> Value {
    json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": initial_fetch_timeout})
}

/// The runtime layer of every proxy: what all RuntimeLayers that hold for it set together.
const RUNTIME: &str = "weft";

fn xds_cluster(pushers: &[String]) -> Result<Value> {
    let mut named = false;
    let mut localities = Vec::new();
    for (priority, pusher) in pushers.iter().enumerate() {
        let (host, port) = pusher
            .rsplit_once(':')
            .and_then(|(h, p)| Some((h.trim_matches(['[', ']']), p.parse::<u16>().ok()?)))
            .ok_or_else(|| {
                Status::internal(format!(
                    "a pusher registered {pusher:?}, which is not host:port"
                ))
            })?;
        named |= host.parse::<IpAddr>().is_err();
        // One priority each: an Envoy goes to the next pusher only when the one before is away.
        localities.push(json!({
            "priority": priority,
            "lb_endpoints": [{"endpoint": {"address": socket(host, port.into())}}],
        }));
    }
    let http = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    Ok(json!({
        "name": "weft-xds",
        "type": if named { "STRICT_DNS" } else { "STATIC" },
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "weft-xds", "endpoints": localities},
        // A pusher that refuses connections is left for a while, so that the next priority gets its turn.
        "outlier_detection": {
            "consecutive_5xx": 3, "consecutive_gateway_failure": 3, "enforcing_consecutive_gateway_failure": 100,
            "interval": "1s", "base_ejection_time": "5s", "max_ejection_percent": 100,
        },
        "typed_extension_protocol_options": {http: {
            "@type": format!("type.googleapis.com/{http}"),
            "explicit_http_config": {"http2_protocol_options": {
                "connection_keepalive": {"interval": "5s", "timeout": "3s"},
            }},
        }},
    }))
}

fn socket(address: &str, port: u32) -> Value {
    json!({"socket_address": {"address": address, "port_value": port}})
}
