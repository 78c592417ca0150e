#![allow(clippy::unwrap_used)]

use super::*;

fn merged(root: &str, delegate: &str) -> Vec<HttpRoute> {
    let root: Vec<HttpRoute> = serde_saphyr::from_str(root).unwrap();
    let delegate: Vec<HttpRoute> = serde_saphyr::from_str(delegate).unwrap();
    merge(&root[0], &delegate)
}

fn read(yaml: &str) -> Vec<HttpRoute> {
    serde_saphyr::from_str(yaml).unwrap()
}

const TO_A: &str = "route: [{destination: {host: a}}]";

#[test]
fn a_delegates_match_must_be_contained_in_the_roots() {
    let cases = [
        (
            "prefix in prefix",
            "uri: {prefix: /a}",
            "uri: {prefix: /a/b}",
            true,
        ),
        (
            "exact in prefix",
            "uri: {prefix: /a}",
            "uri: {exact: /a/b}",
            true,
        ),
        (
            "a wider prefix",
            "uri: {prefix: /a/b}",
            "uri: {prefix: /a}",
            false,
        ),
        (
            "prefix in exact",
            "uri: {exact: /a}",
            "uri: {prefix: /a}",
            false,
        ),
        (
            "regex never",
            "uri: {prefix: /a}",
            "uri: {regex: /a/b}",
            false,
        ),
        (
            "the root says nothing",
            "method: {exact: GET}",
            "uri: {prefix: /b}",
            true,
        ),
        (
            "another header value",
            "headers: {x: {exact: a}}",
            "headers: {x: {exact: b}}",
            false,
        ),
        (
            "another header",
            "headers: {x: {exact: a}}",
            "headers: {y: {exact: b}}",
            true,
        ),
        ("another port", "port: 80", "port: 81", false),
        (
            "case",
            "uri: {prefix: /a}",
            "uri: {prefix: /a}, ignoreUriCase: true",
            false,
        ),
    ];
    for (case, root, delegate, contained) in cases {
        let root = format!("[{{match: [{{{root}}}], delegate: {{name: d}}}}]");
        let delegate = format!("[{{match: [{{{delegate}}}], {TO_A}}}]");
        assert_eq!(!merged(&root, &delegate).is_empty(), contained, "{case}");
    }
}

#[test]
fn a_delegate_inherits_what_it_leaves_open() {
    let root = "[{name: r, match: [{uri: {prefix: /a}, headers: {x: {exact: y}}}], delegate: {name: d}, \
                 timeout: 5s, rewrite: {uri: /}}]";
    let delegate = format!(
        "[{{name: d, match: [{{uri: {{prefix: /a/b}}}}], timeout: 1s, {TO_A}}}, {{{TO_A}}}]"
    );
    let want = read(&format!(
        "[{{name: r-d, match: [{{uri: {{prefix: /a/b}}, headers: {{x: {{exact: y}}}}}}], timeout: 1s, rewrite: {{uri: /}}, \
            {TO_A}}}, \
          {{name: r, match: [{{uri: {{prefix: /a}}, headers: {{x: {{exact: y}}}}}}], timeout: 5s, rewrite: {{uri: /}}, {TO_A}}}]"
    ));
    assert_eq!(merged(root, &delegate), want);
}

#[test]
fn a_route_outside_the_root_is_left_out_and_the_others_stay() {
    let root = "[{match: [{uri: {prefix: /a}}], delegate: {name: d}}]";
    let delegate = format!(
        "[{{match: [{{uri: {{prefix: /b}}}}], {TO_A}}}, {{name: in, match: [{{uri: {{prefix: /a/c}}}}], {TO_A}}}]"
    );
    let names: Vec<_> = merged(root, &delegate)
        .into_iter()
        .map(|it| it.name)
        .collect();
    assert_eq!(names, [Some("in".to_owned())]);
}
