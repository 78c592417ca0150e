#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::Metadata;

fn object(kind: Kind, spec: Value) -> Object {
    Object {
        kind,
        metadata: Metadata {
            name: "x".into(),
            namespace: "default".into(),
            ..Metadata::default()
        },
        spec,
    }
}

fn errors(kind: Kind, spec: Value) -> Vec<String> {
    match check(object(kind, spec), Options::default()) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

fn http(route: &Value) -> Value {
    json!({"hosts": ["reviews"], "http": [route]})
}

#[test]
fn an_unknown_field_is_named_with_the_nearest_known_one() {
    let spec =
        http(&json!({"route": [{"destination": {"host": "a"}, "wieght": 3}], "retires": {}}));
    let errors = errors(Kind::VirtualService, spec);
    assert_eq!(
        errors,
        [
            "spec.http[0].route[0].wieght: unknown field; did you mean weight?",
            "spec.http[0].retires: unknown field; did you mean retries?"
        ]
    );
}

#[test]
fn an_unknown_field_is_dropped_where_a_warning_was_asked_for() {
    let spec =
        json!({"hosts": ["a"], "http": [{"route": [{"destination": {"host": "a"}}], "a.b": 1}]});
    let options = Options {
        unknown: Treat::Warn,
        ..Options::default()
    };
    let checked = check(object(Kind::VirtualService, spec), options).unwrap();
    assert_eq!(
        checked.object.spec,
        http(&json!({"route": [{"destination": {"host": "a"}}]})).tap("a")
    );
    assert!(
        checked.warnings[0].starts_with("spec.http[0].a.b: unknown field"),
        "{:?}",
        checked.warnings
    );
}

trait Tap {
    fn tap(self, host: &str) -> Value;
}

impl Tap for Value {
    fn tap(mut self, host: &str) -> Value {
        self["hosts"][0] = host.into();
        self
    }
}

#[test]
fn an_error_names_the_field_the_value_and_the_rule() {
    let spec = http(&json!({"route": [{"destination": {"host": "a"}, "weight": -1}]}));
    let errors = errors(Kind::VirtualService, spec);
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].starts_with("spec.http[0].route[0].weight: -1: "),
        "{errors:?}"
    );
}

#[test]
fn a_kind_that_is_not_built_is_refused() {
    let errors = errors(Kind::EnvoyFilter, json!({}));
    assert!(errors[0].contains("is not supported yet"), "{errors:?}");
}

#[test]
fn a_field_without_effect_is_refused_or_warned_about() {
    let spec = json!({
        "hosts": ["*.example.com"], "resolution": "DYNAMIC_DNS",
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
    });
    let refused = errors(Kind::ServiceEntry, spec.clone());
    assert!(
        refused[0].starts_with("spec.resolution: \"DYNAMIC_DNS\": is not supported yet"),
        "{refused:?}"
    );
    let options = Options {
        unsupported: Treat::Warn,
        ..Options::default()
    };
    let checked = check(object(Kind::ServiceEntry, spec), options).unwrap();
    assert_eq!(checked.warnings.len(), 1);
}

#[test]
fn every_broken_rule_is_reported_at_once() {
    let spec = json!({"hosts": [], "ports": [{"number": 0, "name": "http", "protocol": "FTP"}], "resolution": "STATIC"});
    let errors = errors(Kind::ServiceEntry, spec);
    let fields: Vec<_> = errors
        .iter()
        .map(|error| error.split(':').next().unwrap())
        .collect();
    assert_eq!(
        fields,
        [
            "spec.hosts",
            "spec.ports[0].number",
            "spec.ports[0].protocol"
        ]
    );
}

#[test]
fn a_number_out_of_range_is_told_its_range() {
    let weight = http(&json!({"route": [{"destination": {"host": "a"}, "weight": -1}]}));
    let port = http(&json!({"route": [{"destination": {"host": "a", "port": {"number": 65536}}}]}));
    let table = [
        (
            weight,
            "spec.http[0].route[0].weight: -1: must be a whole number from 0 to 4294967295",
        ),
        (
            port,
            "spec.http[0].route[0].destination.port.number: 65536: must be a whole number from 0 to 65535",
        ),
    ];
    for (spec, error) in table {
        assert_eq!(errors(Kind::VirtualService, spec), [error]);
    }
}
