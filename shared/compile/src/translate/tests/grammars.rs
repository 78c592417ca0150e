//! Regular expressions and templates that are taken at the write are taken by every Envoy: one that is not would take the
//! whole configuration with it, or the whole Envoy.

use model::{Kind, Metadata, Object, Options, check};
use serde_json::{Value, json};

use super::*;
use crate::translate::authz::Clients;
use crate::translate::behaviour::authz::{Chance, Site, answered, listener, security};

fn taken(kind: Kind, spec: &Value) -> bool {
    let object = Object {
        kind,
        metadata: Metadata {
            name: "p".into(),
            namespace: "shop".into(),
            ..Default::default()
        },
        spec: spec.clone(),
    };
    check(object, Options::default()).is_ok()
}

/// Texts of these parts, of which some are taken.
fn texts(parts: &[&str], chance: &mut Chance, taken: impl Fn(&str) -> bool) -> Vec<String> {
    let texts = (0..4000).map(|_| {
        let count = 1 + chance.below(7);
        (0..count).map(|_| chance.one(parts)).collect::<String>()
    });
    let mut taken: Vec<String> = texts.filter(|it| taken(it)).collect();
    taken.sort_unstable();
    taken.dedup();
    taken
}

#[test]
fn every_envoy_takes_the_expressions_that_are_taken_at_the_write() {
    let spec = |regex: &str| {
        let uri = json!({"uri": {"regex": regex}});
        json!({"hosts": ["a.io"], "http": [{"match": [uri], "route": [{"destination": {"host": "a.io"}}]}]})
    };
    let fine = |regex: &str| taken(Kind::VirtualService, &spec(regex));
    let parts = [
        "a",
        "k",
        "é",
        "1",
        "_",
        "-",
        ",",
        " ",
        "/",
        "&&",
        "~~",
        ":",
        "=",
        "!",
        "<",
        ">",
        "[",
        "]",
        "[^",
        "[a-z]",
        "[]a]",
        "[a-",
        "[\\d-z]",
        "[[:word:]]",
        "[[:^word:]",
        "(",
        ")",
        "(?:",
        "(?i)",
        "(?U)",
        "(?s-m:",
        "(?P<n>",
        "(?<m_1>",
        "|",
        "^",
        "$",
        ".",
        "*",
        "+",
        "?",
        "*?",
        "{2}",
        "{2,}",
        "{0,3}?",
        "{ 2 }",
        "{,2}",
        "{1000}",
        "{",
        "}",
        "\\",
        "\\d",
        "\\W",
        "\\b",
        "\\B",
        "\\A",
        "\\z",
        "\\_",
        "\\-",
        "\\&",
        "\\<",
        "\\x41",
        "\\x{1F600}",
        "\\u0041",
        "\\a",
        "\\v",
        "\\t",
        "\\pN",
        "\\p{Lu}",
        "\\P{Han}",
        "\\p{Han}",
        "\\Q",
        "\\C",
        "\\1",
        "\\p{Any}",
        "\\p{^L}",
        "\\h",
    ];
    let mut regexes = texts(&parts, &mut Chance(11), fine);
    assert!(regexes.len() > 500, "{}", regexes.len());
    let large = [
        format!("/{}", "ab".repeat(16_000)),
        "(?:[a-z_]{10}){10}".into(),
        "(?:\\W\\S\\D){300}".into(),
        ".{1000}".into(),
        "(?i)(?:kelvin[^k]){40}".into(),
        "(?:a|b|c|é){900}".into(),
    ];
    for regex in large {
        assert!(fine(&regex), "{regex:.30}");
        regexes.push(regex);
    }
    let labels = BTreeMap::new();
    let scope = route::Scope {
        name: "a",
        namespace: "shop",
        port: 80,
        tls: false,
        gateways: &["mesh".to_owned()],
        proxy_labels: &labels,
        proxy_namespace: "shop",
        default_retry: None,
        resolve: &|to: &Destination| Upstream {
            host: to.host.to_string(),
            ..Default::default()
        },
    };
    let rules = regexes.iter().map(|regex| spec(regex)["http"][0].clone());
    let rules: Vec<HttpRoute> = serde_json::from_value(rules.collect()).unwrap();
    let routes = route::routes(&rules, &scope);
    let host = route::virtual_host("a.io", 80, vec!["a.io".into()], routes);
    let config = Config {
        virtual_hosts: vec![host],
        ..Default::default()
    };
    assert_valid("expressions", config);
}

#[test]
fn every_envoy_takes_the_templates_that_are_taken_at_the_write() {
    let spec = |path: &str| json!({"action": "DENY", "rules": [{"to": [{"operation": {"paths": [path]}}]}]});
    let fine = |path: &str| path.contains('{') && taken(Kind::AuthorizationPolicy, &spec(path));
    let parts = [
        "/", "//", "/a", "/b.php", "/{*}", "/{**}", "{*}", "{**}", "/*", "*", "**", "/.", "/..",
        "/a%2f", "/%zz", "/~", "/-", "/a+b", "/$", "/(", "/)", "/a;b=c", "/@:,", "/!&'", "/[",
        "/]", "/|", "/\\", "/^", "/é", "/ ", "/{x}", "/{x=*}", "/{}", "}", "{", "?a", "#b",
    ];
    let mut templates = texts(&parts, &mut Chance(5), fine);
    templates.push(format!("/{}/{{*}}", "a".repeat(250)));
    assert!(!fine(&format!("/{}/{{**}}", "a".repeat(253))));
    assert!(templates.len() > 50, "{}", templates.len());
    let security = security(
        &templates.iter().map(|it| spec(it)).collect::<Vec<_>>(),
        &[],
        &Clients::Seen,
    );
    let config = Config {
        listeners: vec![listener("templates", &security, answered(), Site::Edge)],
        ..Default::default()
    };
    assert_valid("templates", config);
}
