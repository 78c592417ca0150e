#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;

fn selects(selector: &str, labels: &[(&str, &str)]) -> Option<bool> {
    let labels = labels
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    Some(parse_labels(selector)?.iter().all(|r| r.holds(&labels)))
}

#[test]
fn labels_as_kubernetes_reads_them() {
    let web = [("app", "web"), ("tier", "b")];
    for (selector, expected) in [
        ("app=web", Some(true)),
        ("app==web,tier!=a", Some(true)),
        ("app!=web", Some(false)),
        ("missing!=x", Some(true)),
        ("tier in (a, b)", Some(true)),
        ("tier notin (a,b)", Some(false)),
        ("missing notin (a)", Some(true)),
        ("app,!canary", Some(true)),
        ("!app", Some(false)),
        ("app in (a", None),
        ("app in a", None),
        ("=x", None),
        ("app=a b", None),
        ("", None),
        ("app)", None),
    ] {
        assert_eq!(selects(selector, &web), expected, "{selector}");
    }
}

#[test]
fn fields_are_few() {
    assert!(parse_fields("metadata.name=a,metadata.namespace!=b").is_some());
    assert!(parse_fields("spec.hosts=a").is_none());
}

fn word() -> impl Strategy<Value = String> {
    "[a-c]{1,2}"
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let values = || prop::collection::vec("[a-c]{0,2}", 1..4);
    prop_oneof![
        (word(), values()).prop_map(|(key, values)| Requirement::In(key, values)),
        (word(), values()).prop_map(|(key, values)| Requirement::NotIn(key, values)),
        word().prop_map(Requirement::Exists),
        word().prop_map(Requirement::Absent),
    ]
}

/// One of the ways in which people write a requirement: which, and with how much space.
fn written(requirement: &Requirement, way: usize) -> String {
    let space = " ".repeat(way % 3);
    let one = |sign: &str, key: &str, value: &str| {
        format!("{space}{key}{space}{sign}{space}{value}{space}")
    };
    let set = |sign: &str, key: &str, values: &[String]| {
        let comma = format!("{space},{space}");
        format!(
            "{space}{key} {space}{sign}{space}({space}{}{space}){space}",
            values.join(&comma)
        )
    };
    match requirement {
        Requirement::In(key, values) if values.len() == 1 && way % 4 < 2 => one(
            if way.is_multiple_of(4) { "=" } else { "==" },
            key,
            &values[0],
        ),
        Requirement::NotIn(key, values) if values.len() == 1 && way % 4 < 2 => {
            one("!=", key, &values[0])
        }
        Requirement::In(key, values) => set("in", key, values),
        Requirement::NotIn(key, values) => set("notin", key, values),
        Requirement::Exists(key) => format!("{space}{key}{space}"),
        Requirement::Absent(key) => format!("{space}!{space}{key}"),
    }
}

/// What Kubernetes' documentation says a requirement means.
fn means(requirement: &Requirement, labels: &[(String, String)]) -> bool {
    let value = |key: &String| labels.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v);
    let among = |key, values: &[String]| match value(key) {
        Some(value) => values.iter().any(|it| it == value),
        None => false,
    };
    match requirement {
        Requirement::In(key, values) => among(key, values),
        Requirement::NotIn(key, values) => !among(key, values),
        Requirement::Exists(key) => value(key).is_some(),
        Requirement::Absent(key) => value(key).is_none(),
    }
}

fn object(name: &str, namespace: &str, labels: &[(String, String)]) -> Object {
    let metadata = model::Metadata {
        name: name.into(),
        namespace: namespace.into(),
        labels: labels.iter().cloned().collect(),
        ..Default::default()
    };
    Object {
        kind: model::Kind::VirtualService,
        metadata,
        spec: serde_json::Value::Null,
    }
}

proptest! {
    #[test]
    fn any_text_is_answered(text in "\\PC{0,40}") {
        let _parsed = (parse_labels(&text), parse_fields(&text));
    }

    /// What is accepted of text that is nearly right can be written down again, and means the same.
    #[test]
    fn what_is_understood_can_be_said_again(text in "[a-b!=(),. ]{0,12}|([a-b]|!|=|in|notin|[(]|[)]|,| ){0,12}", way: usize) {
        if let Some(parsed) = parse_labels(&text) {
            prop_assert!(!parsed.is_empty());
            let again: Vec<String> = parsed.iter().map(|it| written(it, way)).collect();
            prop_assert_eq!(parse_labels(&again.join(",")), Some(parsed), "{}", again.join(","));
        }
    }

    #[test]
    fn labels_select_what_they_mean(
        wanted in prop::collection::vec((requirement(), any::<usize>()), 1..4),
        labels in prop::collection::vec((word(), "[a-c]{0,2}"), 0..4),
    ) {
        let text: Vec<String> = wanted.iter().map(|(it, way)| written(it, *way)).collect();
        let parsed = parse_labels(&text.join(","));
        let expected: Vec<Requirement> = wanted.into_iter().map(|(it, _)| it).collect();
        prop_assert_eq!(parsed.as_ref(), Some(&expected), "{}", text.join(","));
        let selector = Selector { labels: parsed.unwrap(), fields: Vec::new() };
        let means = expected.iter().all(|it| means(it, &labels));
        prop_assert_eq!(selector.matches(&object("a", "b", &labels)), means);
    }

    #[test]
    fn fields_select_what_they_mean(
        wanted in prop::collection::vec((any::<bool>(), 0..3usize, word()), 1..4),
        name in word(),
        namespace in word(),
    ) {
        let term = |(of_name, sign, value): &(bool, usize, String)| {
            format!("{}{}{value}", if *of_name { "metadata.name" } else { "metadata.namespace" }, ["=", "==", "!="][*sign])
        };
        let text: Vec<String> = wanted.iter().map(term).collect();
        let selector = Selector { labels: Vec::new(), fields: parse_fields(&text.join(",")).unwrap() };
        let means = wanted.iter().all(|(of_name, sign, value)| {
            (value == if *of_name { &name } else { &namespace }) == (*sign < 2)
        });
        prop_assert_eq!(selector.matches(&object(&name, &namespace, &[])), means);
    }
}
