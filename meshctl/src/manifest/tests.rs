#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;
use proptest::sample::Index;
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

/// The manifest above with a few places overwritten, left out or doubled.
fn damaged() -> impl Strategy<Value = String> {
    let scraps = vec![
        "", " ", "\n", "- ", ": ", "{", "}", "]", "'", "&a ", "*a", "!", "#", "0", "\u{0}",
        "---\n", "--- ", "µ", "\r\n",
    ];
    let change = (any::<Index>(), 0..12usize, prop::sample::select(scraps));
    prop::collection::vec(change, 0..4).prop_map(|changes| {
        let mut text: Vec<char> = SHOP.chars().collect();
        for (at, len, scrap) in changes {
            let at = at.index(text.len());
            let end = (at + len).min(text.len());
            text.splice(at..end, scrap.chars());
        }
        text.into_iter().collect()
    })
}

/// Reads it, and looks a field up in every document: each place is a line of the file.
fn places(text: &str, path: &str) -> Result<(), TestCaseError> {
    for document in read(text).unwrap_or_default() {
        let place = document.place(path);
        let line: usize = place.strip_prefix("shop.yaml:").unwrap().parse().unwrap();
        prop_assert!(
            line >= 1 && line <= text.lines().count().max(1),
            "{} of {:?}",
            line,
            text
        );
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_text_is_answered(text in "\\PC{0,60}|[-:{}\\[\\]&*!|>'\"#%@`a0 \n]{0,80}", path in "\\PC{0,20}") {
        places(&text, &path)?;
    }

    #[test]
    fn any_damage_is_answered(text in damaged(), path in "([a-z]{1,6}|spec|http|route|items|[.]|\\[[0-9a-z\"]{0,3}\\]?){0,6}") {
        places(&text, &path)?;
    }

    /// Documents with lines between them are found again, in order, each at its own lines.
    #[test]
    fn documents_are_found_where_they_stand(names in prop::collection::vec(("x[a-z]{0,5}", 0..4usize), 1..6)) {
        let (mut text, mut expected) = (String::new(), Vec::new());
        for (name, comments) in names {
            text += "---\n";
            text += &"# x\n".repeat(comments);
            text += &format!("kind: Sidecar\nmetadata:\n  name: {name}\n");
            expected.push((name, format!("shop.yaml:{}", text.lines().count())));
        }
        let found = read(&text).unwrap();
        let found: Vec<_> = found.iter().map(|it| (it.name().unwrap().to_owned(), it.place("metadata.name"))).collect();
        prop_assert_eq!(found, expected);
    }
}
