//! The bootstrap itself, as JSON.
//!
//! *Invariant:* where secrets come from is written exactly as compiled resources say it (`compile::sds_source`), for Envoy
//! shares a secret only between equal sources.

use std::net::IpAddr;

use model::{Credential, Object, TrustDomain};
use serde_json::{Value, json};

use super::Options;
use crate::http::status::{Result, Status};

/// The runtime layer of every proxy: what all RuntimeLayers that hold for it set together.
const RUNTIME: &str = "weft";

/// The static secret with the workload's credential.
const CREDENTIAL: &str = "weft-credential";

/// The cluster that leads to the issuers.
const ISSUER: &str = "weft-issuer";

/// The cluster that leads to the pushers.
const XDS: &str = "weft-xds";

const TYPE: &str = "type.googleapis.com/";
const TLS: &str = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
const HTTP: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// Where a service listens.
pub(super) struct Place {
    host: String,
    port: u16,
}

impl Place {
    /// Registered addresses.
    pub(super) fn all(addresses: &[String]) -> Result<Vec<Self>> {
        addresses.iter().map(|address| Self::of(address)).collect()
    }

    fn of(address: &str) -> Result<Self> {
        let parts = address.rsplit_once(':');
        let place = parts.and_then(|(host, port)| {
            Some(Self {
                host: host.trim_matches(['[', ']']).to_owned(),
                port: port.parse().ok()?,
            })
        });
        place.ok_or_else(|| {
            Status::internal(format!(
                "a service registered {address:?}, which is not host:port"
            ))
        })
    }
}

/// What a workload gets its identity by.
pub(super) struct Identified<'a> {
    pub(super) credential: &'a Credential,
    /// Whom to trust for the issuer.
    pub(super) bundle: &'a str,
    pub(super) issuers: &'a [Place],
    pub(super) trust_domain: &'a TrustDomain,
    pub(super) system_namespace: &'a str,
}

impl Identified<'_> {
    /// Demands that the other side is a service of the control plane.
    fn is(&self, service: &str) -> Value {
        let (domain, namespace) = (self.trust_domain.id(), self.system_namespace);
        let id = format!("{domain}/ns/{namespace}/sa/{service}");
        json!([{"san_type": "URI", "matcher": {"exact": id}}])
    }

    /// The secret that is in the bootstrap itself.
    fn secret(&self) -> Value {
        let bearer = format!("Bearer {}", self.credential.expose());
        json!({"name": CREDENTIAL, "generic_secret": {"secret": {"inline_string": bearer}}})
    }

    /// To the issuers: the credential with each request, and the roots of today.
    fn issuer_cluster(&self) -> Value {
        let mut cluster = cluster(ISSUER, self.issuers);
        cluster["typed_extension_protocol_options"][HTTP]["http_filters"] = json!([
            {
                "name": "envoy.filters.http.credential_injector",
                "typed_config": {
                    "@type": format!("{TYPE}envoy.extensions.filters.http.credential_injector.v3.CredentialInjector"),
                    "overwrite": true,
                    "credential": {
                        "name": "envoy.http.injected_credentials.generic",
                        "typed_config": {
                            "@type": format!("{TYPE}envoy.extensions.http.injected_credentials.generic.v3.Generic"),
                            "credential": {"name": CREDENTIAL},
                            "header": "authorization",
                        },
                    },
                },
            },
            {
                "name": "envoy.filters.http.upstream_codec",
                "typed_config": {
                    "@type": format!("{TYPE}envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"),
                },
            },
        ]);
        let validation = json!({
            "trusted_ca": {"inline_string": self.bundle},
            "match_typed_subject_alt_names": self.is("cert-issuer"),
        });
        cluster["transport_socket"] = tls("cert-issuer", json!({"validation_context": validation}));
        cluster
    }

    /// To the pushers: the certificate that the issuers give, and whom they say to trust.
    fn xds_cluster(&self, pushers: &[Place]) -> Value {
        let mut cluster = cluster(XDS, pushers);
        let secret = |name: &str| json!({"name": name, "sds_config": sds_source()});
        cluster["transport_socket"] = tls(
            "xds-pusher",
            json!({
                "tls_certificate_sds_secret_configs": [secret("default")],
                "combined_validation_context": {
                    "default_validation_context": {"match_typed_subject_alt_names": self.is("xds-pusher")},
                    "validation_context_sds_secret_config": secret("ROOTCA"),
                },
            }),
        );
        cluster
    }
}

/// The bootstrap of a workload that proves who it is.
pub(super) fn identified(
    node: &str,
    workload: &Object,
    pushers: &[Place],
    options: &Options,
    identified: &Identified<'_>,
) -> Value {
    let mut bootstrap = common(node, workload, options);
    bootstrap["static_resources"] = json!({
        "secrets": [identified.secret()],
        "clusters": [identified.xds_cluster(pushers), identified.issuer_cluster()],
    });
    bootstrap
}

/// The bootstrap for pushers without TLS.
pub(super) fn plaintext(
    node: &str,
    workload: &Object,
    pushers: &[Place],
    options: &Options,
) -> Value {
    let mut bootstrap = common(node, workload, options);
    bootstrap["static_resources"] = json!({"clusters": [cluster(XDS, pushers)]});
    bootstrap
}

/// Who the proxy is, and that it is told everything over one stream.
fn common(node: &str, workload: &Object, options: &Options) -> Value {
    let runtime = [
        json!({"name": "static", "static_layer": {model::REGEX_RUNTIME_KEY: model::REGEX_PROGRAM_SIZE}}),
        json!({"name": RUNTIME, "rtds_layer": {"name": RUNTIME, "rtds_config": ads("1s")}}),
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
    json!({
        "node": node,
        "admin": {"address": socket(&options.admin_address, options.admin_port)},
        "dynamic_resources": {
            "ads_config": {
                "api_type": options.api_type,
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{"envoy_grpc": envoy_grpc(XDS)}],
            },
            "cds_config": ads("0s"),
            "lds_config": ads("0s"),
        },
        "layered_runtime": {"layers": runtime},
    })
}

/// A configuration source: the ADS stream.
fn ads(initial_fetch_timeout: &str) -> Value {
    json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": initial_fetch_timeout})
}

/// Where secrets come from.
fn sds_source() -> Value {
    json!({
        "resource_api_version": "V3",
        "initial_fetch_timeout": "5s",
        "api_config_source": {
            "api_type": "DELTA_GRPC",
            "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": envoy_grpc(ISSUER), "timeout": "0s"}],
        },
    })
}

/// Streams through a cluster, which are tried again soon.
fn envoy_grpc(cluster: &str) -> Value {
    json!({
        "cluster_name": cluster,
        "retry_policy": {"retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"}},
    })
}

/// HTTP/2 to services in the order in which they are to be tried.
fn cluster(name: &str, places: &[Place]) -> Value {
    let named = |place: &Place| place.host.parse::<IpAddr>().is_err();
    // One priority each: an Envoy goes to the next only when the one before is away.
    let locality = |(priority, place): (usize, &Place)| {
        json!({
            "priority": priority,
            "lb_endpoints": [{"endpoint": {"address": socket(&place.host, place.port.into())}}],
        })
    };
    let localities: Vec<Value> = places.iter().enumerate().map(locality).collect();
    json!({
        "name": name,
        "type": if places.iter().any(named) { "STRICT_DNS" } else { "STATIC" },
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": localities},
        // One that refuses, or is lost, is left for longer than it takes to find out that all but the last are. When all are away, all
        // are tried.
        "outlier_detection": {
            "consecutive_5xx": 1, "consecutive_gateway_failure": 1, "enforcing_consecutive_gateway_failure": 100,
            "interval": "1s", "base_ejection_time": "30s", "max_ejection_time": "60s", "max_ejection_percent": 100,
        },
        "typed_extension_protocol_options": {HTTP: {
            "@type": format!("{TYPE}{HTTP}"),
            "explicit_http_config": {"http2_protocol_options": {
                // One that is stopped closes nothing.
                "connection_keepalive": {"interval": "2s", "timeout": "2s"},
            }},
        }},
    })
}

/// TLS for HTTP/2 to a server of this name.
fn tls(sni: &str, mut common: Value) -> Value {
    common["alpn_protocols"] = json!(["h2"]);
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": format!("{TYPE}{TLS}"),
            "sni": sni,
            "common_tls_context": common,
        },
    })
}

fn socket(address: &str, port: u32) -> Value {
    json!({"socket_address": {"address": address, "port_value": port}})
}
