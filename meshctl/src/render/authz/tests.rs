#![allow(clippy::unwrap_used)]
use super::*;
use serde_json::json;

fn answer() -> Value {
    let term = |attribute: &str, found: Value, holds: bool| json!({"attribute": attribute, "values": ["a", "b*"], "notValues": [], "found": found, "holds": holds});
    json!({"revision": "7", "workloads": [
        {
            "workload": "shop/cart-1", "port": 8080, "protocol": "HTTP", "verdict": "DENIED", "by": null, "asked": [], "audited": [],
            "mtls": {"mode": "STRICT", "policy": "shop/all"}, "notes": ["something"],
            "policies": [
                {"policy": "istio-system/none", "action": "DENY", "dryRun": false, "rules": []},
                {"policy": "shop/cart", "action": "ALLOW", "dryRun": false, "rules": [
                    {"rule": 0, "matches": false, "leftOut": false,
                     "sources": [[term("source.principal", Value::Null, false)], [term("source.ip", json!("10.0.0.1"), false)]],
                     "operations": [[term("request.path", json!("/a"), true)]]},
                    {"rule": 1, "matches": false, "leftOut": true, "sources": [], "operations": []},
                ]},
                {"policy": "shop/tried", "action": "DENY", "dryRun": true, "rules": [
                    {"rule": 0, "matches": true, "leftOut": false, "sources": [[]], "operations": [[]]},
                ]},
            ],
        },
        {
            "workload": "shop/cart-2", "port": 80, "protocol": "TCP", "verdict": "ALLOWED",
            "by": {"policy": "shop/cart", "rule": 2}, "asked": [{"provider": "opa", "by": {"policy": "shop/ask", "rule": 0}}],
            "audited": [{"policy": "shop/seen", "rule": 1}], "mtls": {"mode": "PERMISSIVE", "policy": null}, "notes": [], "policies": [],
        },
    ]})
}

#[test]
fn every_rule_has_a_row_with_its_reason() {
    insta::assert_snapshot!(verdicts(&answer(), Style { colour: false }));
}

#[test]
fn allowed_means_everywhere() {
    let mut answer = answer();
    assert!(!all_allowed(&answer));
    answer["workloads"].as_array_mut().unwrap().remove(0);
    assert!(all_allowed(&answer));
    assert!(!all_allowed(&json!({"workloads": []})));
}
