//! Prometheus' own tool takes the configuration and the rules under `observability/`, every alert fires when its test says
//! so, and dashboard and rules speak of metrics that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use weft_tests::net::Block;
use weft_tests::run::Run;
use weft_tests::skip::skip;
use weft_tests::{binaries, http, stack};

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
        skip("promtool is not installed; tests/install-tools could not fetch it");
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

/// The rules that record, or alert: whatever has this key.
fn rules(kind: &str) -> Vec<Value> {
    let file: Value = serde_saphyr::from_str(&read(RULES)).unwrap();
    let groups = file["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    rules
        .filter(|rule| rule[kind].is_string())
        .cloned()
        .collect()
}

fn text<'a>(rule: &'a Value, key: &str) -> &'a str {
    rule[key].as_str().unwrap_or_default()
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
    let (records, alerts) = (rules("record"), rules("alert"));
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let table = documented();
    let recorded: BTreeSet<&str> = records.iter().map(|rule| text(rule, "record")).collect();
    let mut expressions = expressions(&dashboard);
    assert!(expressions.len() > 30, "{expressions:?}");
    expressions.extend(records.iter().chain(&alerts).map(|rule| text(rule, "expr")));
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
    let tests = read(TESTS);
    for alert in rules("alert") {
        let name = text(&alert, "alert");
        assert!(tests.contains(name), "{name} has no test in {TESTS}");
    }
}

/// Name, severity and condition of every alert, as the table of `docs/operations.md` has them.
fn documented_alerts() -> Vec<[String; 3]> {
    let page = std::fs::read_to_string(binaries::repository().join("docs/operations.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| Weft"));
    let rows = rows.map(|row| {
        let row = row.replace("\\|", "\u{1}");
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        [1, 2, 3].map(|cell| cells[cell].replace('\u{1}', "|"))
    });
    rows.collect()
}

#[test]
fn alerts_are_those_that_the_documents_name() {
    let alerts = rules("alert");
    assert!(alerts.len() > 10, "{alerts:?}");
    let shipped = alerts.iter().map(|alert| {
        let condition = match (text(alert, "expr"), text(alert, "for")) {
            (expr, "") => format!("`{expr}`"),
            (expr, time) => format!("`{expr}` for {time}"),
        };
        let severity = text(&alert["labels"], "severity").to_owned();
        [text(alert, "alert").to_owned(), severity, condition]
    });
    let (shipped, documented): (BTreeSet<_>, BTreeSet<_>) =
        (shipped.collect(), documented_alerts().into_iter().collect());
    let undocumented: Vec<_> = shipped.difference(&documented).collect();
    let unshipped: Vec<_> = documented.difference(&shipped).collect();
    assert!(
        undocumented.is_empty() && unshipped.is_empty(),
        "in {RULES} only: {undocumented:#?}\nin docs/operations.md only: {unshipped:#?}"
    );
}

/// The jobs by whose names alerts tell services apart, and every place where a service of the shipped stack can be.
#[test]
fn every_service_of_the_shipped_stack_is_scraped() {
    let config: Value = serde_saphyr::from_str(&read(CONFIG)).unwrap();
    let jobs = config["scrape_configs"].as_array().unwrap().iter();
    let jobs: BTreeMap<&str, &Value> = jobs
        .map(|job| (text(job, "job_name"), &job["dns_sd_configs"][0]["names"]))
        .collect();
    let expected = json!({
        "config-api": ["config-api"],
        "xds-pusher": ["xds-pusher"],
        "cert-issuer": ["cert-issuer"],
        "etcd": ["etcd", "etcd-2", "etcd-3"],
    });
    assert_eq!(json!(jobs), expected);
    let compose = std::fs::read_to_string(binaries::repository().join("docker-compose.yml"));
    let compose: Value = serde_saphyr::from_str(&compose.unwrap()).unwrap();
    let services = compose["services"].as_object().unwrap();
    let members: Vec<&String> = services
        .keys()
        .filter(|name| name.starts_with("etcd"))
        .collect();
    assert_eq!(json!(members), expected["etcd"]);
    for alert in ["WeftReplicaDown", "WeftServiceDown"] {
        let rule = rules("alert")
            .into_iter()
            .find(|rule| rule["alert"] == alert);
        let condition = text(&rule.unwrap(), "expr").to_owned();
        let named = condition.split("job=~\"").nth(1).unwrap().split('"').next();
        let named: BTreeSet<&str> = named.unwrap().split('|').collect();
        assert_eq!(named, jobs.keys().copied().collect(), "{alert}");
    }
}

#[tokio::test]
async fn what_rules_ask_of_etcd_it_has() {
    let (run, net) = (
        Run::temporary("etcd-metrics").unwrap(),
        Block::claim().unwrap(),
    );
    let at = net.at(1, 2379);
    let _etcd = stack::etcd(&run, "etcd", at, &run.path("etcd"))
        .await
        .unwrap();
    let asked = rules("alert").into_iter().flat_map(|rule| {
        let words = text(&rule, "expr").split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let words = words
            .filter(|word| word.starts_with("etcd_"))
            .map(str::to_owned);
        words.collect::<Vec<_>>()
    });
    let asked: BTreeSet<String> = asked.collect();
    assert!(asked.len() > 3, "{asked:?}");
    let exposed = http::get(format!("http://{at}/metrics"))
        .await
        .unwrap()
        .ok()
        .unwrap()
        .body;
    for name in asked {
        let has = exposed.lines().any(|line| line.starts_with(&name));
        assert!(has, "etcd has no {name}");
    }
}
