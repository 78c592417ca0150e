use super::*;
use serde_json::json;

#[test]
fn a_page_shows_everything() {
    let object = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": "reviews", "namespace": "default", "uid": "u", "resourceVersion": "42", "generation": 3,
            "creationTimestamp": "2026-11-21T00:00:00Z", "labels": {"app": "reviews", "tier": "back"}},
        "spec": {"hosts": ["reviews"], "http": [{"timeout": "2s"}]},
        "status": {
            "conditions": [
                {"type": "Reconciled", "status": "True", "reason": "Applied", "message": "3 of 3 proxies run it"},
                {"type": "Analysed", "status": "False", "reason": "Warnings", "message": "subset v9 does not exist"}],
            "observedGeneration": 3},
    });
    let events = [
        json!({"type": "Warning", "reason": "Refused", "message": "no such filter", "lastTimestamp": "2026-11-21T00:01:00Z"}),
    ];
    insta::assert_snapshot!(page(
        &object,
        &events,
        "REVISION   BY\n42         anonymous\n",
        Style { colour: false }
    ));
}

#[test]
fn a_bare_resource_has_no_empty_sections() {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}, "spec": {}});
    insta::assert_snapshot!(page(&object, &[], "", Style { colour: false }));
}
