//! Golden directories: `testdata/<case>/in.yaml` compiles to `testdata/<case>/out/<proxy>.json`, and every Envoy takes it.
//!
//! The proxies of a case are its comment lines `# proxy: <node id> [transparent]`. To write the outputs anew:
//! `WEFT_UPDATE_GOLDEN=1 cargo test -p weft-compile --test it golden`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use compile::{Interception, Proxy};
use serde_json::{Map, Value, json};
use xds::{ResourceType, Snapshot};

use crate::{envoy, support};

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

fn cases() -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = std::fs::read_dir(testdata())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    cases
}

fn proxies(text: &str) -> Vec<Proxy> {
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("# proxy: "));
    let proxy = |line: &str| {
        let mut words = line.split_whitespace();
        let mut proxy = support::proxy(words.next().unwrap());
        if words.next() == Some("transparent") {
            proxy.interception = Some(Interception::Transparent);
        }
        proxy
    };
    lines.map(proxy).collect()
}

/// What a case compiles to: file name to content, and each proxy's snapshot.
fn outcome(case: &Path) -> (BTreeMap<String, Value>, BTreeMap<String, Snapshot>) {
    let text = std::fs::read_to_string(case.join("in.yaml")).unwrap();
    let mut compiler = support::compiler(&text);
    let mut files = BTreeMap::new();
    let mut snapshots = BTreeMap::new();
    for proxy in proxies(&text) {
        let name = proxy.id.replace('~', ".");
        let id = compiler.connect(proxy);
        let snapshot = compiler.snapshot(id).unwrap();
        files.insert(format!("{name}.json"), shown(&snapshot));
        snapshots.insert(name, (*snapshot).clone());
    }
    assert!(!snapshots.is_empty(), "{} names no proxy", case.display());
    let statuses = compiler.statuses();
    if !statuses.is_empty() {
        let shown: BTreeMap<String, _> = statuses
            .iter()
            .map(|(key, messages)| (key.to_string(), messages))
            .collect();
        files.insert("statuses.json".into(), json!(shown));
    }
    (files, snapshots)
}

fn shown(snapshot: &Snapshot) -> Value {
    let mut types = Map::new();
    for ty in ResourceType::ALL {
        let resources: Vec<Value> = snapshot.iter(ty).map(xds::Resource::to_json).collect();
        if !resources.is_empty() {
            types.insert(ty.short().into(), resources.into());
        }
    }
    types.into()
}

/// The same, its fields in the order they have on file: maps of protobuf have none of their own.
fn ordered(value: &Value, like: &Value) -> Value {
    match (value, like) {
        (Value::Object(value), Value::Object(like)) => {
            let mut rest: Vec<_> = value
                .keys()
                .filter(|key| !like.contains_key(*key))
                .collect();
            rest.sort();
            let known = like.keys().filter(|key| value.contains_key(*key));
            let keys = known.chain(rest);
            keys.map(|key| {
                let like = like.get(key).unwrap_or(&Value::Null);
                (key.clone(), ordered(&value[key], like))
            })
            .collect()
        }
        (Value::Array(value), Value::Array(like)) => {
            let named = |item: &Value| item.get("name").cloned();
            let items = value.iter().enumerate().map(|(n, item)| {
                let same = |other: &&Value| named(item).is_some() && named(item) == named(other);
                let here = like.get(n);
                let other = (here.filter(same)).or_else(|| like.iter().find(same));
                let other = other.or(here);
                ordered(item, other.unwrap_or(&Value::Null))
            });
            items.collect()
        }
        _ => value.clone(),
    }
}

#[test]
fn outputs_are_those_on_file() {
    let update = std::env::var_os("WEFT_UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let out = case.join("out");
        let (files, _) = outcome(&case);
        let entries = std::fs::read_dir(&out).into_iter().flatten();
        let on_file: BTreeMap<String, Value> = entries
            .map(|entry| {
                let entry = entry.unwrap();
                let text = std::fs::read_to_string(entry.path()).unwrap();
                (
                    entry.file_name().into_string().unwrap(),
                    serde_json::from_str(&text).unwrap(),
                )
            })
            .collect();
        let names: std::collections::BTreeSet<&String> =
            files.keys().chain(on_file.keys()).collect();
        for name in names
            .into_iter()
            .filter(|name| files.get(*name) != on_file.get(*name))
        {
            let file = out.join(name);
            match files.get(name) {
                _ if !update => wrong.push(file),
                None => std::fs::remove_file(file).unwrap(),
                Some(value) => {
                    let value = ordered(value, on_file.get(name).unwrap_or(&Value::Null));
                    std::fs::create_dir_all(&out).unwrap();
                    let text = serde_json::to_string_pretty(&value).unwrap();
                    std::fs::write(file, text + "\n").unwrap();
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "stale; look at them, then run with WEFT_UPDATE_GOLDEN=1: {wrong:#?}"
    );
}

#[test]
fn every_reference_leads_somewhere() {
    for case in cases() {
        for (proxy, snapshot) in outcome(&case).1 {
            assert_eq!(snapshot.consistent(), Ok(()), "{} {proxy}", case.display());
        }
    }
}

#[test]
fn every_envoy_takes_every_output() {
    let mut complaints = Vec::new();
    for case in cases() {
        for (proxy, snapshot) in outcome(&case).1 {
            let complaint = envoy::complaints(&snapshot);
            complaints.extend(
                complaint
                    .into_iter()
                    .map(|text| format!("{} {proxy}: {text}", case.display())),
            );
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn there_are_cases() {
    assert!(cases().len() >= 20);
}
