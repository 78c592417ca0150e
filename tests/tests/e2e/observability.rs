//! Prometheus' own tool takes the configuration and the rules under `observability/`, every alert fires when its test says
//! so, and dashboard and rules speak of metrics that exist.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use weft_tests::binaries;

use crate::metrics::documented;

fn file(name: &str) -> PathBuf {
    binaries::repository().join("observability").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap()
}

const CONFIG: &str = "prometheus/prometheus.yml";
const RULES: &str = "prometheus/weft.rules.yml";
const TESTS: &str = "prometheus/weft.rules.test.yml";
const DASHBOARD: &str = "grafana/dashboards/weft.json";

#[test]
fn promtool_takes_the_configuration_and_the_alerts_fire() {
    let Ok(promtool) = binaries::tool("promtool") else {
        eprintln!("SKIPPED: promtool is not installed; tests/install-tools could not fetch it");
        return;
    };
    for args in [
        ["check", "config", CONFIG],
        ["check", "rules", RULES],
        ["test", "rules", TESTS],
    ] {
        let [verb, what, name] = args;
        let output = Command::new(&promtool)
            .args([verb, what])
            .arg(file(name))
            .output()
            .unwrap();
        let said =
            [output.stdout, output.stderr].map(|out| String::from_utf8_lossy(&out).into_owned());
        assert!(
            output.status.success(),
            "promtool {args:?}:\n{}",
            said.join("\n")
        );
    }
}

/// The metrics that an expression speaks of.
fn metrics(expression: &str) -> impl Iterator<Item = &str> {
    let of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    expression
        .split(move |c| !of_name(c))
        .filter(|word| word.starts_with("weft_") || word.starts_with("weft:"))
}

/// The values of a key in a YAML file of one value a line.
fn values<'a>(yaml: &'a str, key: &'a str) -> Vec<&'a str> {
    let lines = yaml
        .lines()
        .map(|line| line.trim().trim_start_matches("- "));
    lines
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
        .collect()
}

/// The expressions of every panel.
fn expressions(dashboard: &Value) -> Vec<&str> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    targets
        .map(|target| target["expr"].as_str().unwrap())
        .collect()
}

#[test]
fn dashboard_and_rules_speak_of_metrics_that_exist() {
    let rules = read(RULES);
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let table = documented();
    let recorded: BTreeSet<&str> = values(&rules, "record").into_iter().collect();
    let mut expressions = expressions(&dashboard);
    assert!(expressions.len() > 30, "{expressions:?}");
    expressions.extend(values(&rules, "expr"));
    let mut shown = BTreeSet::new();
    for expression in expressions {
        for name in metrics(expression) {
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end));
            let known = base
                .filter(|base| table.contains_key(*base))
                .unwrap_or(name);
            shown.insert(known);
            assert!(
                table.contains_key(known) || recorded.contains(name),
                "{name} is neither in docs/metrics.md nor recorded: {expression}"
            );
        }
    }
    assert!(shown.len() > 25, "{shown:?}");
}

#[test]
fn every_alert_has_a_test() {
    let (rules, tests) = (read(RULES), read(TESTS));
    let alerts = values(&rules, "alert");
    assert!(alerts.len() > 10, "{alerts:?}");
    for alert in alerts {
        assert!(tests.contains(alert), "{alert} has no test in {TESTS}");
    }
}
