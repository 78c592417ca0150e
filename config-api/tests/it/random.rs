//! Random bodies: whatever comes, the answer is no 5xx, and what was refused changed nothing.

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::fixture::{Api, VS, answer, virtual_service};

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Runtime::new().unwrap());

/// Words that mean something here, so that random bodies get past the first check now and then.
const WORDS: [&str; 22] = [
    "apiVersion",
    "kind",
    "metadata",
    "spec",
    "name",
    "namespace",
    "hosts",
    "http",
    "route",
    "destination",
    "host",
    "weight",
    "match",
    "uri",
    "prefix",
    "regex",
    "tls",
    "labels",
    "networking.istio.io/v1",
    "VirtualService",
    "items",
    "List",
];

fn value() -> impl Strategy<Value = Value> {
    let word = || prop_oneof![4 => prop::sample::select(&WORDS[..]).prop_map(str::to_owned), 1 => ".{0,12}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((word(), inner), 0..6)
                .prop_map(|f| Value::Object(f.into_iter().collect())),
        ]
    })
}

/// Places in a valid resource.
const PLACES: [&str; 8] = [
    "/spec",
    "/spec/hosts",
    "/spec/http",
    "/spec/http/0",
    "/spec/http/0/route/0",
    "/metadata",
    "/metadata/name",
    "/kind",
];

/// A valid resource with one thing in it replaced, or a random value.
fn body() -> impl Strategy<Value = Value> {
    let broken = (
        prop::sample::select(&PLACES[..]).prop_map(str::to_owned),
        value(),
    )
        .prop_map(|(place, value)| {
            let mut resource = virtual_service("a", "b");
            if let Some(at) = resource.pointer_mut(&place) {
                *at = value;
            }
            resource
        });
    prop_oneof![broken, value()]
}

/// The demo shop with a few places overwritten, left out or doubled.
fn shop() -> impl Strategy<Value = String> {
    const SHOP: &str = include_str!("../../../demo/shop.yaml");
    let scraps = vec![
        "", " ", "\n", "- ", ": ", "{", "}", "]", "'", "&a ", "*a", "!", "#", "0", "-1", "null",
        "\u{0}", "---\n", "*",
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

fn text() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    prop_oneof![
        4 => body().prop_map(|v| ("application/json", v.to_string().into_bytes())),
        2 => body().prop_map(|v| ("application/yaml", v.to_string().into_bytes())),
        4 => shop().prop_map(|s| ("application/yaml", s.into_bytes())),
        1 => "[-:a-z \\[\\]{}&*!|>#'\"\n,0-9]{0,60}".prop_map(|s| ("application/yaml", s.into_bytes())),
        1 => prop::collection::vec(any::<u8>(), 0..80).prop_map(|b| ("application/json", b)),
        1 => prop::collection::vec(any::<u8>(), 0..80).prop_map(|b| ("application/yaml", b)),
    ]
}

#[test]
fn no_body_is_answered_with_a_5xx_or_written_in_part() {
    let api = RUNTIME.block_on(Api::start());
    let item = format!("{VS}/a");
    RUNTIME.block_on(api.post(VS, &virtual_service("a", "b")));
    let requests = [
        (Method::POST, VS),
        (Method::PUT, item.as_str()),
        (Method::PATCH, item.as_str()),
        (Method::DELETE, item.as_str()),
        (Method::POST, "/v1/apply"),
        (Method::POST, "/v1/diff"),
        (Method::POST, "/v1/rollback"),
        (Method::PUT, "/v1/namespaces/shop/workloads/a/heartbeat"),
    ];
    let mut runner = TestRunner::new(Config {
        cases: 60,
        ..Config::default()
    });
    let outcome = runner.run(&text(), |(media, bytes)| {
        RUNTIME.block_on(async {
            for (method, path) in &requests {
                let media = match (method, media) {
                    (&Method::PATCH, "application/json") => "application/merge-patch+json",
                    (&Method::PATCH, _) => "application/json-patch+json",
                    (_, media) => media,
                };
                let before = api.everything().await;
                let request = api
                    .request(method.clone(), path)
                    .header("content-type", media)
                    .body(bytes.clone());
                let (code, said) = answer(request).await;
                prop_assert!(code.as_u16() < 500, "{} {} {}", method, path, said);
                if !code.is_success() {
                    prop_assert_eq!(&said["kind"], "Status");
                    prop_assert_eq!(&api.everything().await, &before);
                }
            }
            Ok(())
        })
    });
    outcome.unwrap();
}

#[test]
fn merge_patches_never_break_what_is_stored() {
    let api = RUNTIME.block_on(Api::start());
    let item = format!("{VS}/a");
    RUNTIME.block_on(api.post(VS, &virtual_service("a", "b")));
    let mut runner = TestRunner::new(Config {
        cases: 150,
        ..Config::default()
    });
    let patches = value().prop_map(|v| json!({"spec": v}));
    let outcome = runner.run(&patches, |patch| {
        RUNTIME.block_on(async {
            let (code, said) = api
                .patch(&item, "application/merge-patch+json", &patch)
                .await;
            prop_assert!(code.as_u16() < 500, "{} {}", patch, said);
            let stored = api.everything().await;
            prop_assert_eq!(stored.len(), 1);
            let (code, said) = api.post("/v1/diff", &strip(&stored[0])).await;
            prop_assert_eq!(code.as_u16(), 200, "what is stored is valid: {}", said);
            Ok(())
        })
    });
    outcome.unwrap();
}

/// A stored object as somebody would apply it again.
fn strip(object: &Value) -> Value {
    let mut object = object.clone();
    let metadata: Map<String, Value> = ["name", "namespace"]
        .into_iter()
        .map(|f| (f.to_owned(), object["metadata"][f].clone()))
        .collect();
    object["metadata"] = metadata.into();
    object
}
