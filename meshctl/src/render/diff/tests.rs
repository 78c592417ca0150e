use super::*;
use serde_json::json;

const PLAIN: Style = Style { colour: false };

fn reviews(weight: u32) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": "reviews", "namespace": "default", "uid": "u", "resourceVersion": "7", "generation": 2,
            "creationTimestamp": "2026-11-21T00:00:00Z", "labels": {}},
        "spec": {"hosts": ["reviews"], "http": [{"route": [
            {"destination": {"host": "reviews", "subset": "v1"}, "weight": weight},
            {"destination": {"host": "reviews", "subset": "v2"}, "weight": 100 - weight}]}]},
        "status": {"conditions": []},
    })
}

#[test]
fn a_change_shows_what_was_declared_and_nothing_of_the_servers() {
    insta::assert_snapshot!(unified(
        "VirtualService default/reviews",
        &reviews(90),
        &reviews(80),
        PLAIN
    ));
}

#[test]
fn creation_and_deletion_have_one_side() {
    let created = unified("x", &Value::Null, &reviews(90), PLAIN);
    assert!(
        created.starts_with("--- /dev/null\n+++ x\n@@ -0,0 +1,"),
        "{created}"
    );
    assert!(unified("x", &reviews(90), &Value::Null, PLAIN).starts_with("--- x\n+++ /dev/null\n"));
}

#[test]
fn the_order_of_keys_and_what_the_server_keeps_do_not_matter() {
    let mut other = json!({"spec": reviews(90)["spec"], "kind": "VirtualService", "apiVersion": "networking.istio.io/v1"});
    other["metadata"] = json!({"namespace": "default", "name": "reviews"});
    assert_eq!(unified("x", &reviews(90), &other, PLAIN), "");
    assert_eq!(unified("x", &Value::Null, &Value::Null, PLAIN), "");
}

#[test]
fn colours_mark_lines_and_end_with_them() {
    let text = unified("x", &reviews(90), &reviews(80), Style { colour: true });
    assert!(
        text.contains("\u{1b}[31m-      weight: 90\u{1b}[0m\n"),
        "{text:?}"
    );
    assert!(
        text.contains("\u{1b}[32m+      weight: 80\u{1b}[0m\n"),
        "{text:?}"
    );
    assert!(
        text.contains("\n       destination:") || text.contains("\n     - destination:"),
        "{text:?}"
    );
}
