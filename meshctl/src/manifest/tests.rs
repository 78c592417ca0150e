#![allow(clippy::unwrap_used)]
use super::*;
use serde_json::json;

const SHOP: &str = r#"# The shop.
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - route:
    - destination: {host: reviews}
      weight: 90
    - destination:
        host: reviews
      weight: -1
---
# Nothing but a comment.
---
{"kind": "Gateway", "metadata": {"name": "shop", "namespace": "edge",
  "labels": {"app.kubernetes.io/name": "x"}}}
--- # the list
kind: List
items:
- kind: Sidecar
  metadata: {name: a}
- kind: Sidecar
  spec: {}
"#;

fn read(text: &str) -> Result<Vec<Document>, Error> {
    documents(&[Text {
        name: "shop.yaml".into(),
        text: text.into(),
    }])
}

#[test]
fn documents_are_split_and_lists_opened() {
    let documents = read(SHOP).unwrap();
    let titles: Vec<_> = documents.iter().map(Document::title).collect();
    assert_eq!(
        titles,
        [
            "VirtualService reviews",
            "Gateway edge/shop",
            "Sidecar a",
            "Sidecar"
        ]
    );
    assert_eq!(
        documents[0].value["spec"]["http"][0]["route"][1]["weight"],
        json!(-1)
    );
}

#[test]
fn a_field_is_found_on_its_line_and_an_absent_one_at_its_parent() {
    let documents = read(SHOP).unwrap();
    let cases = [
        (0, "spec.http[0].route[1].weight", 13),
        (0, "spec.http[0].route[0].weight", 10),
        (0, "spec.http[0].timeout", 8),
        (0, "metadata.name", 4),
        (0, "status", 2),
        (1, "metadata.labels[\"app.kubernetes.io/name\"]", 18),
        (2, "metadata.name", 23),
        (3, "metadata.name", 24),
        (3, "spec", 25),
    ];
    for (document, field, line) in cases {
        assert_eq!(
            documents[document].place(field),
            format!("shop.yaml:{line}"),
            "{document} {field}"
        );
    }
}

#[test]
fn what_is_no_manifest_says_where() {
    let message = |text| read(text).unwrap_err().to_string();
    assert_eq!(
        message("kind: A\n---\nkind: B\nx: \0\n"),
        "shop.yaml:4:1: there is a NUL character; YAML is text"
    );
    assert_eq!(
        message("a: 1\n---\n- 1\n"),
        "shop.yaml: document 2 is a list, not a resource; a resource has apiVersion, kind, metadata and spec"
    );
    assert_eq!(
        message("just words"),
        "shop.yaml: document 1 is a single value, not a resource; a resource has apiVersion, kind, metadata and spec"
    );
    assert_eq!(message("---\n# nothing\n"), "there is nothing in shop.yaml");
    assert!(
        message("kind: A\n---\nkind: B\nspec: {\n").starts_with("shop.yaml:4:"),
        "{}",
        message("kind: A\n---\nkind: B\nspec: {\n")
    );
    assert!(
        message("kind: A\nkind: B\n").starts_with("shop.yaml:2:1: "),
        "{}",
        message("kind: A\nkind: B\n")
    );
    assert!(
        !message("kind: A\nkind: B\n").contains("at line"),
        "{}",
        message("kind: A\nkind: B\n")
    );
}

#[test]
fn a_namespace_is_filled_in_but_never_overruled() {
    let namespace = |index: usize, explicit| {
        let mut document = read(SHOP).unwrap().swap_remove(index);
        document
            .set_namespace("blue", explicit)
            .map(|()| document.namespace().map(str::to_owned))
            .map_err(|e| e.to_string())
    };
    assert_eq!(namespace(0, true), Ok(Some("blue".into())));
    assert_eq!(namespace(1, false), Ok(Some("edge".into())));
    assert_eq!(
        namespace(1, true),
        Err(r#"shop.yaml:17 has the namespace "edge", and --namespace says "blue"; leave one of them away"#.into())
    );
}
