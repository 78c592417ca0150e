use super::*;
use serde_json::json;

const PLAIN: Style = Style { colour: false };

fn result(kind: &str, name: &str, result: &str) -> Value {
    json!({"kind": kind, "namespace": "default", "name": name, "result": result})
}

#[test]
fn an_outcome_has_a_line_per_resource_and_the_revision() {
    let answer = json!({"revision": "42", "results": [
        result("VirtualService", "reviews", "configured"),
        result("Gateway", "shop", "created"),
        result("Sidecar", "all", "unchanged")]});
    insta::assert_snapshot!(outcome(&answer, false, PLAIN) + "\n" + &outcome(&answer, true, PLAIN));
}

#[test]
fn nothing_to_change_is_said_so() {
    let answer = json!({"revision": "42", "results": [result("Sidecar", "all", "unchanged")]});
    assert_eq!(
        outcome(&answer, false, PLAIN),
        "Sidecar default/all unchanged\nnothing to change at revision 42\n"
    );
}

#[test]
fn the_resources_of_one_transaction_stand_together() {
    let edit = |name: &str, before: Value, after: Value| json!({"kind": "VirtualService", "namespace": "default", "name": name, "before": before, "after": after});
    let answer = json!({"changes": [
        {"revision": "42", "time": "2026-11-21T00:00:00.891764826Z", "who": "anonymous", "verb": "apply", "edits": [
            edit("reviews", json!({}), json!({"metadata": {"generation": 3}})), edit("ratings", Value::Null, json!({}))]},
        {"revision": "41", "time": "2026-11-20T01:00:00Z", "who": "config-api", "verb": "heartbeat", "edits": [],
            "liveness": [{"namespace": "default", "name": "reviews-v1", "up": false}]},
        {"revision": "40", "time": "2026-11-20T00:00:00Z", "who": "ci", "verb": "DELETE virtualservices/default/old", "edits": [
            edit("old", json!({}), Value::Null)]},
        {"revision": "39", "time": "2026-11-19T00:00:00Z", "who": "ann", "verb": "revoke credentials", "edits": [], "deeds": [
            {"kind": "Credential", "namespace": "shop", "name": "orders-v1/0123456789abcdef", "before": "12", "after": null}]},
        {"revision": "38", "time": "2026-11-19T00:00:00Z", "who": "ann", "verb": "POST /v1/ca", "edits": [], "deeds": [
            {"kind": "CertificateAuthority", "namespace": "", "name": "rotateRoot", "before": "7", "after": "38"}]},
    ]});
    insta::assert_snapshot!(history(&answer, PLAIN));
}
