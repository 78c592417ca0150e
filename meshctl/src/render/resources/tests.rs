use super::*;
use serde_json::json;

fn reviews() -> Value {
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1",
        "columnDefinitions": [
            {"name": "Name", "type": "string", "format": "name", "priority": 0},
            {"name": "Gateways", "type": "string", "format": "", "priority": 0},
            {"name": "Hosts", "type": "string", "priority": 0},
            {"name": "Age", "type": "string", "priority": 0},
            {"name": "Generation", "type": "integer", "priority": 1},
        ],
        "rows": [
            {"cells": ["reviews", ["mesh", "shop"], "reviews", "3d", 4], "object": {"metadata": {"namespace": "default"}}},
            {"cells": ["ratings-canary", null, "ratings", "12s", 1], "object": {"metadata": {"namespace": "blue"}}},
        ],
    })
}

const PLAIN: Layout = Layout {
    wide: false,
    namespace: false,
    prefix: None,
    headless: false,
};

fn lay(layout: &Layout) -> String {
    table(&reviews(), layout, Style { colour: false })
}

#[test]
fn the_columns_are_the_servers() {
    insta::assert_snapshot!(lay(&PLAIN));
}

#[test]
fn wide_across_namespaces_and_kinds() {
    let layout = Layout {
        wide: true,
        namespace: true,
        prefix: Some("virtualservice.networking.istio.io".into()),
        headless: false,
    };
    insta::assert_snapshot!(lay(&layout));
}

#[test]
fn without_header_the_columns_stay_aligned() {
    let headless = lay(&Layout {
        headless: true,
        ..PLAIN
    });
    assert_eq!(
        headless,
        lay(&PLAIN)
            .split_once('\n')
            .map(|(_, rest)| rest.to_owned())
            .unwrap_or_default()
    );
    assert!(headless.starts_with("reviews  "), "{headless}");
}

#[test]
fn no_rows_no_text() {
    assert_eq!(
        table(&json!({"rows": []}), &PLAIN, Style { colour: true }),
        ""
    );
}
