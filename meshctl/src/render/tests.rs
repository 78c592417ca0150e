#![allow(clippy::unwrap_used)]
use super::*;
use serde_json::json;

#[test]
fn yaml_keeps_the_order_and_reads_back_equal() {
    let value = json!({
        "kind": "VirtualService",
        "spec": {"hosts": ["reviews"], "http": [
            {"timeout": "2s", "match": [{"uri": {"prefix": "/"}}], "route": [{"weight": 90, "labels": {}}, {"weight": 10}]}],
            "empty": [], "yes": "yes", "number": "1", "null": null, "long": "word ".repeat(40), "lines": "a\nb\n",
            "colon": "a: b", "hash": "#x", "star": "*", "unicode": "ü", "exp": "1e3", "date": "2026-11-21"},
    });
    let text = yaml(&value);
    insta::assert_snapshot!(text);
    assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), value);
}

#[test]
fn times_are_shown_to_the_second() {
    assert_eq!(
        moment("2026-11-21T02:39:30.891764826Z"),
        "2026-11-21T02:39:30Z"
    );
    assert_eq!(
        moment("2026-11-21T02:39:30.5+01:00"),
        "2026-11-21T02:39:30+01:00"
    );
    assert_eq!(moment("2026-11-21T02:39:30Z"), "2026-11-21T02:39:30Z");
    assert_eq!(moment(""), "");
}
