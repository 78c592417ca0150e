//! Parts that fail: the Envoys keep serving, the pushers converge, no acknowledged write is lost, `/readyz` says what is wrong.

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use reqwest::Method;
use weft_tests::mesh::PREFIX;
use weft_tests::{binaries, wait};

use crate::edge::{Edge, is, routes, service};

/// The cluster of a service that nobody calls.
const THIRD: &str = "outbound|80||c.shop.svc.cluster.local";

fn to(host: &str) -> String {
    routes(
        "fault",
        &format!("- route: [{{ destination: {{ host: {host} }} }}]"),
    )
}

async fn two_services(edge: &Edge) -> [weft_tests::backend::Backend; 2] {
    let backends = [
        edge.backend(2, "a", "v1").await.unwrap(),
        edge.backend(3, "b", "v1").await.unwrap(),
    ];
    let net = &edge.mesh.net;
    let documents = [
        service("a", &[net.at(2, 9000)]),
        service("b", &[net.at(3, 9000)]),
        to("a"),
    ];
    edge.mesh.apply(&documents.join("---\n")).await.unwrap();
    edge.all_answer("/", is("a v1")).await.unwrap();
    backends
}

/// The two services that say how they are.
#[derive(Clone, Copy, Debug)]
enum Of {
    Api,
    Pusher,
}

/// Waits until a service's `/readyz` has this status, and each of these in its body.
async fn readyz(edge: &Edge, of: Of, status: u16, named: &[&str]) {
    let what = format!("/readyz of {of:?} to say {status} and {named:?}");
    wait::until(&what, wait::PATIENCE, async || {
        let answer = match of {
            Of::Pusher => edge.mesh.pusher_readyz().await?,
            Of::Api => edge.mesh.call(Method::GET, "/readyz", None).await?,
        };
        if answer.status == status && named.iter().all(|it| answer.body.contains(it)) {
            Ok(())
        } else {
            bail!("{}: {}", answer.status, answer.body)
        }
    })
    .await
    .unwrap();
}

/// Waits until neither has anything to say but that the API is open, as it is here.
async fn all_is_well(edge: &Edge) {
    wait::until("nothing to be wrong", wait::PATIENCE, async || {
        let pusher = edge.mesh.pusher_readyz().await?;
        let api = edge.mesh.call(Method::GET, "/readyz", None).await?;
        for answer in [pusher, api] {
            let checks = answer.json()?["checks"].take();
            let ok = serde_json::json!({ "ok": true });
            let checks = checks.as_object().context("there are no checks")?;
            let open = |check: &str| check == "access";
            if checks.is_empty() || checks.iter().any(|(name, it)| !open(name) && *it != ok) {
                bail!("{}: {}", answer.status, answer.body);
            }
        }
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_pusher_comes_back_to_what_was_written_meanwhile() {
    let mut edge = Edge::start("kill").await.unwrap();
    let _backends = two_services(&edge).await;
    let loads = edge.load(|load| load);
    all_is_well(&edge).await;
    edge.mesh.pusher.kill();
    edge.mesh.apply(&to("b")).await.unwrap();
    readyz(&edge, Of::Api, 200, &["no xds-pusher is registered"]).await;
    edge.all_answer("/", is("a v1")).await.unwrap();
    edge.mesh.restart_pusher().await.unwrap();
    edge.all_answer("/", is("b v1")).await.unwrap();
    all_is_well(&edge).await;
    loads.flawless().await;
    edge.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_etcd_loses_no_acknowledged_write() {
    let mut edge = Edge::start("etcd").await.unwrap();
    let _backends = two_services(&edge).await;
    let loads = edge.load(|load| load);
    edge.mesh.apply(&to("b")).await.unwrap();
    edge.mesh.etcd.kill();
    readyz(&edge, Of::Pusher, 503, &["the watch is cut"]).await;
    readyz(&edge, Of::Api, 503, &["etcd"]).await;
    // The change was acknowledged; etcd may have died before it told the pusher. Either way requests are answered.
    edge.all_answer("/", |answer| answer.status == 200)
        .await
        .unwrap();
    edge.mesh.restart_etcd().await.unwrap();
    edge.mesh.ready().await.unwrap();
    let stored = edge.mesh.call(
        Method::GET,
        "/apis/networking.istio.io/v1/namespaces/shop/virtualservices/fault",
        None,
    );
    assert!(stored.await.unwrap().ok().unwrap().body.contains("\"b\""));
    edge.all_answer("/", is("b v1")).await.unwrap();
    edge.mesh.apply(&to("a")).await.unwrap();
    edge.all_answer("/", is("a v1")).await.unwrap();
    all_is_well(&edge).await;
    loads.flawless().await;
    edge.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pusher_cut_off_over_a_compaction_relists() {
    let edge = Edge::start("compact").await.unwrap();
    let _backends = two_services(&edge).await;
    // No route leads to it: what a state-of-the-world client that reconnects holds is not known, so a cluster in use could
    // go before its routes.
    let third = service("c", &[edge.mesh.net.at(2, 9000)]);
    edge.mesh.apply(&third).await.unwrap();
    for gateway in &edge.gateways {
        let cluster = async || gateway.envoy.endpoints(THIRD).await;
        wait::until("the third service's cluster", wait::PATIENCE, cluster)
            .await
            .unwrap();
    }
    let loads = edge.load(|load| load);
    edge.mesh.pusher.signal(Signal::SIGSTOP);
    readyz(&edge, Of::Api, 200, &["no xds-pusher is registered"]).await;
    // While the pusher hears nothing: a change, a deletion, and the history of both is compacted away.
    edge.mesh.apply(&to("b")).await.unwrap();
    let path = "/apis/networking.istio.io/v1/namespaces/shop/serviceentries/c";
    edge.mesh
        .call(Method::DELETE, path, None)
        .await
        .unwrap()
        .ok()
        .unwrap();
    etcdctl(&edge, &["del", "a-key-of-nobody"]).await;
    let revision = etcdctl(&edge, &["get", "x", "-w", "json"]).await;
    let revision: serde_json::Value = serde_json::from_str(&revision).unwrap();
    let revision = revision["header"]["revision"].to_string();
    edge.mesh.etcd.stop().await;
    edge.mesh.etcd.start_again().unwrap();
    edge.mesh
        .etcd
        .listens(edge.mesh.net.at(1, 2379), wait::PATIENCE)
        .await
        .unwrap();
    wait::until("the compaction", wait::PATIENCE, async || {
        let done = run_etcdctl(&edge, &["compaction", &revision]).await;
        if done.contains("compacted") {
            Ok(())
        } else {
            Err(done)
        }
    })
    .await
    .unwrap();
    edge.mesh.pusher.signal(Signal::SIGCONT);
    edge.all_answer("/", is("b v1")).await.unwrap();
    for gateway in &edge.gateways {
        wait::until(
            "the deleted service's cluster to go",
            wait::PATIENCE,
            async || match gateway.envoy.endpoints(THIRD).await {
                Ok(present) => Err(format!("it has {present:?}")),
                Err(_) => Ok(()),
            },
        )
        .await
        .unwrap_or_else(|error| panic!("{}: {error}", gateway.name));
    }
    all_is_well(&edge).await;
    loads.flawless().await;
    edge.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupted_key_is_reported_and_stops_nothing() {
    let edge = Edge::start("corrupt").await.unwrap();
    let _backends = two_services(&edge).await;
    let loads = edge.load(|load| load);
    let keys = etcdctl(&edge, &["get", "--prefix", PREFIX, "--keys-only"]).await;
    let key = keys
        .lines()
        .find(|key| key.contains("VirtualService") || key.contains("virtualservice"))
        .unwrap()
        .to_owned();
    let whole = etcdctl(&edge, &["get", &key, "--print-value-only"]).await;
    let mut whole: serde_json::Value = serde_json::from_str(&whole).unwrap();
    whole["spec"]["http"][0]["timeout"] = "soon".into();
    let (damaged, invalid) = ("{ this is not what it was", whole.to_string());
    for (value, why) in [
        (damaged, "key must be a string"),
        (r#"{"kind": ["VirtualService"]}"#, "expected a string"),
        (&invalid, "spec.http[0].timeout"),
    ] {
        etcdctl(&edge, &["put", &key, value]).await;
        for of in [Of::Pusher, Of::Api] {
            readyz(&edge, of, 200, &["warning", "fault", why]).await;
        }
        // What was there before stays in force, and the rest goes on.
        edge.all_answer("/", is("a v1")).await.unwrap();
        for (at, who) in [(3, "b v1"), (2, "a v1")] {
            let moved = service("a", &[edge.mesh.net.at(at, 9000)]);
            edge.mesh.apply(&moved).await.unwrap();
            edge.all_answer("/", is(who)).await.unwrap();
        }
        // Written anew, all is well.
        edge.mesh.apply(&to("b")).await.unwrap();
        edge.all_answer("/", is("b v1")).await.unwrap();
        all_is_well(&edge).await;
        edge.mesh.apply(&to("a")).await.unwrap();
        edge.all_answer("/", is("a v1")).await.unwrap();
    }
    loads.flawless().await;
    edge.finish().await;
}

async fn etcdctl(edge: &Edge, args: &[&str]) -> String {
    let said = run_etcdctl(edge, args).await;
    assert!(!said.contains("Error"), "etcdctl {args:?}: {said}");
    said
}

async fn run_etcdctl(edge: &Edge, args: &[&str]) -> String {
    let output = tokio::process::Command::new(binaries::tool("etcdctl").unwrap())
        .env("ETCDCTL_API", "3")
        .arg(format!("--endpoints=http://{}", edge.mesh.net.at(1, 2379)))
        .args(args)
        .output()
        .await
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
