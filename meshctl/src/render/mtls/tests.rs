#![allow(clippy::unwrap_used)]
use super::*;
use serde_json::json;

#[test]
fn a_row_for_every_port_and_below_it_why() {
    let policy = json!({"kind": "PeerAuthentication", "namespace": "shop", "name": "default"});
    let services = [
        json!({
            "service": "orders", "namespace": "shop", "mtls_mode": "MIXED", "reason": "its workloads or their ports differ; see details",
            "workloads": ["orders-v1", "orders-v2"],
            "details": [
                {"workload": "orders-v1", "mode": "MIXED", "address": "10.0.0.1", "ports": [
                    {"port": 8080, "mode": "DRAINING", "draining_until": "2026-11-21T02:39:30.891764826Z", "policy_mode": "STRICT",
                     "scope": "namespace", "policy": policy, "acked": true},
                    {"port": 9090, "mode": "STRICT", "policy_mode": "STRICT", "scope": "port", "policy": policy, "acked": true},
                ]},
                {"workload": "orders-v2", "mode": "PERMISSIVE", "address": "10.0.0.2", "ports": [
                    {"port": 8080, "mode": "PERMISSIVE", "policy_mode": "STRICT", "scope": "namespace", "policy": policy, "acked": false},
                ]},
            ],
        }),
        json!({
            "service": "reviews", "namespace": "shop", "mtls_mode": "UNKNOWN", "reason": "nobody knows", "workloads": [],
            "details": [{"address": "10.0.0.9", "mode": "UNKNOWN", "ports": [{"port": 80, "mode": "UNKNOWN", "acked": false}]}],
        }),
        json!({
            "service": "carts", "namespace": "shop", "mtls_mode": "PERMISSIVE", "workloads": ["carts-1"],
            "details": [{"workload": "carts-1", "mode": "PERMISSIVE", "ports": [
                {"port": 80, "mode": "PERMISSIVE", "policy_mode": "PERMISSIVE", "scope": "default", "policy": null, "acked": true},
            ]}],
        }),
        json!({"service": "nobody", "namespace": "shop", "mtls_mode": "UNKNOWN", "reason": "nobody knows", "workloads": [], "details": []}),
    ];
    insta::assert_snapshot!(table(&services, Style { colour: false }));
}
