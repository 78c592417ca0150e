//! Commands against a scripted server: what is asked for, in which order, and what is made of unusual answers.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{StatusCode, Uri};
use clap::Parser;
use serde_json::{Value, json};

use super::*;

/// A stream that a test reads afterwards.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

struct Ran {
    result: Result<Exit, Error>,
    out: String,
    err: String,
    asked: Vec<String>,
}

/// Runs a command line against a server that gives these answers in turn; then it answers 500.
async fn run(line: &str, answers: Vec<(u16, String)>) -> Ran {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let script = Arc::new(Mutex::new((Vec::new(), VecDeque::from(answers))));
    let served = Arc::clone(&script);
    let router = Router::new().fallback(move |uri: Uri| {
        let mut script = served.lock().unwrap();
        script.0.push(uri.to_string());
        let (code, body) = script
            .1
            .pop_front()
            .unwrap_or_else(|| (500, "the script is over".into()));
        std::future::ready((StatusCode::from_u16(code).unwrap(), body))
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let words = ["meshctl", "--server", &server]
        .into_iter()
        .chain(line.split_whitespace());
    let (out, err) = (Sink::default(), Sink::default());
    let result = super::run(
        Cli::try_parse_from(words).unwrap(),
        &mut Output::to(out.clone(), err.clone()),
    )
    .await;
    let asked = script.lock().unwrap().0.clone();
    Ran {
        result,
        out: out.text(),
        err: err.text(),
        asked,
    }
}

fn ok(body: &Value) -> (u16, String) {
    (200, body.to_string())
}

fn object(name: &str, revision: &str) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "Gateway",
        "metadata": {"name": name, "namespace": "default", "resourceVersion": revision}})
}

#[tokio::test]
async fn a_list_is_read_page_by_page() {
    let page = |next: &str, name| {
        ok(&json!({"metadata": {"continue": next}, "items": [object(name, "1")]}))
    };
    let ran = run(
        "get gw -o name -l a=b",
        vec![page("one/2", "a"), page("two", "b"), page("", "c")],
    )
    .await;
    let lines: String = ["a", "b", "c"]
        .map(|n| format!("gateway.networking.istio.io/{n}\n"))
        .concat();
    assert_eq!(ran.out, lines);
    let path =
        "/apis/networking.istio.io/v1/namespaces/default/gateways?labelSelector=a%3Db&limit=500";
    assert_eq!(
        ran.asked,
        [
            path.to_owned(),
            format!("{path}&continue=one%2F2"),
            format!("{path}&continue=two")
        ]
    );
}

#[tokio::test]
async fn nothing_is_written_when_a_later_page_fails() {
    let page = ok(&json!({"metadata": {"continue": "x"}, "items": [object("a", "1")]}));
    let ran = run("get gw -o name", vec![page]).await;
    assert_eq!(
        (ran.out.as_str(), ran.result.unwrap_err().exit(false)),
        ("", Exit::Unavailable)
    );
}

#[tokio::test]
async fn a_watch_resumes_after_its_end_and_starts_anew_when_its_revision_is_gone() {
    let list = |names: &[&str], revision: &str| {
        let items: Vec<Value> = names.iter().map(|n| object(n, "1")).collect();
        ok(&json!({"metadata": {"resourceVersion": revision}, "items": items}))
    };
    let event =
        |kind: &str, object: Value| json!({"type": kind, "object": object}).to_string() + "\n";
    let gone = event(
        "ERROR",
        json!({"kind": "Status", "code": 410, "message": "compacted"}),
    );
    let answers = vec![
        list(&["a"], "5"),
        (
            200,
            event("ADDED", object("b", "6")) + &event("BOOKMARK", object("", "9")),
        ),
        (200, event("DELETED", object("b", "10")) + &gone),
        list(&["c"], "20"),
        (
            410,
            json!({"kind": "Status", "message": "compacted again"}).to_string(),
        ),
        list(&[], "30"),
        (
            200,
            event(
                "ERROR",
                json!({"kind": "Status", "code": 403, "message": "no more for you"}),
            ),
        ),
    ];
    let ran = run("get gw -w -o name", answers).await;
    let lines: String = ["a", "b", "b", "c"]
        .map(|n| format!("gateway.networking.istio.io/{n}\n"))
        .concat();
    assert_eq!(ran.out, lines);
    assert_eq!(ran.result.unwrap_err().to_string(), "no more for you");
    let revisions: Vec<&str> = ran
        .asked
        .iter()
        .map(|u| u.split("resourceVersion=").nth(1).unwrap_or("list"))
        .collect();
    assert_eq!(revisions, ["list", "5", "9", "list", "20", "list", "30"]);
}

#[tokio::test]
async fn deletion_goes_on_after_a_refusal_and_stops_without_a_server() {
    let missing = || {
        (
            404,
            json!({"kind": "Status", "message": "not found"}).to_string(),
        )
    };
    let none = || ok(&json!({"items": []}));
    let ran = run("delete gw a b", vec![missing(), none(), ok(&json!({}))]).await;
    assert_eq!(ran.result.unwrap(), Exit::Failure);
    assert_eq!(ran.out, "Gateway default/b deleted\n");
    assert_eq!(
        ran.err,
        "Error: there is no gateway.networking.istio.io \"a\" in namespace default\n"
    );
    let ran = run(
        "delete gw a b --ignore-not-found",
        vec![missing(), missing()],
    )
    .await;
    assert_eq!(
        (ran.result.unwrap(), ran.out.as_str(), ran.err.as_str()),
        (Exit::Success, "", "")
    );
    let ran = run("delete gw a b", vec![]).await;
    assert_eq!(
        (ran.result.unwrap_err().exit(false), ran.asked.len()),
        (Exit::Unavailable, 1)
    );
}

#[tokio::test]
async fn a_dry_run_says_so_to_the_server() {
    let ran = run("delete gw a --dry-run", vec![ok(&json!({}))]).await;
    assert_eq!(
        ran.asked,
        ["/apis/networking.istio.io/v1/namespaces/default/gateways/a?dryRun=All"]
    );
    assert_eq!(ran.out, "Gateway default/a deleted (dry run)\n");
}

#[tokio::test]
async fn credentials_are_listed_and_revoked() {
    let one = json!({"id": "00ff", "created": "2026-11-21T12:00:00.123Z", "identity": "spiffe://td/ns/default/sa/web"});
    let ran = run(
        "credentials list web-1",
        vec![ok(&json!({"credentials": [one]}))],
    )
    .await;
    assert_eq!(
        ran.out,
        "ID     CREATED                IDENTITY\n00ff   2026-11-21T12:00:00Z   spiffe://td/ns/default/sa/web\n"
    );
    let path = "/v1/namespaces/default/workloads/web-1/credentials";
    assert_eq!(ran.asked, [path]);
    let answers = ["00ff", "11ee"].map(|id| ok(&json!({"revoked": [id]})));
    let ran = run("credentials revoke web-1 00ff 11ee", answers.into()).await;
    assert_eq!(ran.out, "00ff revoked\n11ee revoked\n");
    assert_eq!(ran.asked, [format!("{path}/00ff"), format!("{path}/11ee")]);
    let ran = run(
        "credentials revoke web-1 --all",
        vec![ok(&json!({"revoked": []}))],
    )
    .await;
    assert_eq!((ran.out.as_str(), ran.asked), ("", vec![path.to_owned()]));
    assert!(ran.err.contains("no credential"), "{}", ran.err);
}

#[tokio::test]
async fn the_authority_is_shown_and_rotated() {
    let status = json!({
        "roots": [{"name": "root-1", "stage": "active", "since": "2026-11-21T12:00:00.5Z", "expires": "2036-11-21T12:00:00Z"}],
        "issuing": {"expires": "2027-02-21T12:00:00Z"},
        "tokenKeys": [{"name": "jwt-1", "stage": "active", "since": "2026-11-21T12:00:00Z"}],
        "federated": [{"trustDomain": "partner", "bundle": "fetched", "fetched": "2026-11-21T12:00:00.5Z"}],
    });
    for (line, answers) in [
        ("ca status", 1),
        ("ca rotate-root", 1),
        ("ca revoke-root root-0", 1),
    ] {
        let ran = run(line, vec![ok(&status); answers]).await;
        assert_eq!(ran.asked, ["/v1/ca"], "{line}");
        let lines: Vec<Vec<&str>> = ran
            .out
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        assert_eq!(
            lines[1],
            [
                "root",
                "root-1",
                "active",
                "2026-11-21T12:00:00Z",
                "2036-11-21T12:00:00Z"
            ]
        );
        assert_eq!(lines[2], ["issuing", "certificate", "2027-02-21T12:00:00Z"]);
        assert_eq!(
            lines[3],
            [
                "key",
                "of",
                "tokens",
                "jwt-1",
                "active",
                "2026-11-21T12:00:00Z"
            ]
        );
        assert_eq!(
            lines[4],
            [
                "federated",
                "bundle",
                "partner",
                "fetched",
                "2026-11-21T12:00:00Z"
            ]
        );
    }
}
