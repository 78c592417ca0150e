//! `/healthz` names the part that died, and gRPC's health protocol follows readiness.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::Value;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use weft_tests::mesh::Mesh;
use weft_tests::{http, wait};

/// Waits until `/healthz` says that exactly these parts are not well, one of the reasons with these words.
async fn ails(mesh: &Mesh, parts: &[&str], words: &str) -> Value {
    let what = format!("/healthz to name {parts:?}, {words:?}");
    wait::until(&what, wait::PATIENCE, async || {
        let answer = mesh.call(Method::GET, "/healthz", None).await?;
        let json = answer.json()?;
        let all = json["parts"].as_object().context("no parts")?;
        let ailing: Vec<&str> = all
            .iter()
            .filter(|(_, part)| part["ok"] != true)
            .map(|(name, _)| name.as_str())
            .collect();
        let mut expected = parts.to_vec();
        expected.sort_unstable();
        let status = if parts.is_empty() { 200 } else { 503 };
        let said = all
            .values()
            .any(|part| part["reason"].as_str().unwrap_or_default().contains(words));
        ensure!(json["healthy"] == parts.is_empty(), "{json}");
        for (name, part) in all {
            let timed = part["milliseconds"].as_f64().is_some_and(|took| took > 0.0);
            let reasoned =
                part["ok"] == true || part["reason"].as_str().is_some_and(|it| !it.is_empty());
            ensure!(timed && reasoned, "{name}: {part}");
        }
        if answer.status == status && ailing == expected && (parts.is_empty() || said) {
            return Ok(json);
        }
        bail!("{}: {}", answer.status, answer.body)
    })
    .await
    .unwrap()
}

/// What gRPC's health protocol says at an address without TLS.
async fn grpc(at: SocketAddr) -> Result<ServingStatus> {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{at}"))?
        .connect()
        .await?;
    let answer = HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await?;
    Ok(answer.into_inner().status())
}

async fn grpc_says(at: SocketAddr, expected: ServingStatus) {
    wait::until(
        &format!("{at} to be {expected:?}"),
        wait::PATIENCE,
        async || match grpc(at).await? {
            status if status == expected => Ok(()),
            other => bail!("{other:?}"),
        },
    )
    .await
    .unwrap();
}

/// `/livez` is fine whatever happens, `/readyz` becomes this with a reason for each check that fails, and the metric says the
/// same.
async fn probes_say(at: SocketAddr, expected: u16) {
    let what = format!("/readyz at {at} to be {expected}");
    wait::until(&what, wait::PATIENCE, async || {
        let live = http::get(format!("http://{at}/livez")).await?;
        ensure!(live.status == 200, "/livez: {}", live.status);
        let ready = http::get(format!("http://{at}/readyz")).await?;
        let said: Value = serde_json::from_str(&ready.body)?;
        ensure!(ready.status == expected, "{}: {said}", ready.status);
        ensure!(said["ready"] == (expected == 200), "{said}");
        let checks = said["checks"].as_object().context("no checks")?;
        let failing = checks.iter().filter(|(_, check)| check["ok"] != true);
        let failing: Vec<_> = failing.collect();
        ensure!(failing.is_empty() == (expected == 200), "{said}");
        let reasoned = |check: &Value| check["reason"].as_str().is_some_and(|it| !it.is_empty());
        ensure!(failing.iter().all(|(_, check)| reasoned(check)), "{said}");
        let metrics = http::get(format!("http://{at}/metrics")).await?.ok()?.body;
        for name in checks.keys() {
            let value = u8::from(!failing.iter().any(|(failing, _)| *failing == name));
            let line = format!("weft_ready{{check=\"{name}\"}} {value}");
            ensure!(
                metrics.lines().any(|it| it == line),
                "no {line} in {metrics}"
            );
        }
        Ok(())
    })
    .await
    .unwrap();
}

/// How many certificates the issuer has signed on request.
async fn signed(mesh: &Mesh) -> u64 {
    let url = format!("http://{}/metrics", mesh.net.at(1, 18011));
    let metrics = http::get(url).await.unwrap().ok().unwrap().body;
    let line = metrics
        .lines()
        .find(|line| line.starts_with("weft_issuer_svids_total{kind=\"x509\"}"));
    line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_part_that_is_gone_is_named() {
    let mut mesh = Mesh::secure("health", &[]).await.unwrap();
    let well = ails(&mesh, &[], "").await;
    for pointer in [
        "/parts/etcd/milliseconds",
        "/parts/xds/replicas/0/milliseconds",
        "/parts/issuer/replicas/0/milliseconds",
    ] {
        let took = well.pointer(pointer).and_then(Value::as_f64);
        assert!(took.is_some_and(|took| took > 0.0), "{pointer}: {well}");
    }
    let admins = [
        mesh.api_address(),
        mesh.net.at(1, 18001),
        mesh.net.at(1, 18011),
    ];
    for at in admins {
        grpc_says(at, ServingStatus::Serving).await;
        probes_say(at, 200).await;
    }

    // However many ask, the issuer signs once a second.
    let (begun, before) = (Instant::now(), signed(&mesh).await);
    let asked = (0..100).map(|_| mesh.call(Method::GET, "/healthz", None));
    for answer in futures::future::join_all(asked).await {
        assert_eq!(answer.unwrap().status, 200);
    }
    let (took, after) = (begun.elapsed().as_secs(), signed(&mesh).await);
    assert!(after - before <= took + 2, "{} in {took} s", after - before);

    let pusher = mesh.net.at(1, 18000).to_string();
    mesh.pusher.signal(Signal::SIGSTOP);
    ails(&mesh, &["xds"], &format!("{pusher}: no answer within 2s")).await;
    mesh.pusher.signal(Signal::SIGCONT);
    ails(&mesh, &[], "").await;
    mesh.pusher.kill();
    ails(&mesh, &["xds"], "no xds-pusher is registered").await;
    mesh.restart_pusher().await.unwrap();
    ails(&mesh, &[], "").await;

    let issuer = mesh.issuer.as_ref().unwrap();
    issuer.signal(Signal::SIGSTOP);
    let address = mesh.net.at(1, 18010).to_string();
    ails(
        &mesh,
        &["issuer"],
        &format!("{address}: no answer within 2s"),
    )
    .await;
    issuer.signal(Signal::SIGCONT);
    ails(&mesh, &[], "").await;
    mesh.issuer.as_ref().unwrap().kill();
    ails(&mesh, &["issuer"], "no cert-issuer is registered").await;
    mesh.restart_issuer(&[]).await.unwrap();
    ails(&mesh, &[], "").await;

    // Without etcd the pusher serves what it has, and says that it is not up to date.
    mesh.etcd.kill();
    ails(&mesh, &["etcd", "xds"], "etcd gave no answer within 2s").await;
    for at in &admins[..2] {
        grpc_says(*at, ServingStatus::NotServing).await;
        probes_say(*at, 503).await;
    }
    mesh.restart_etcd().await.unwrap();
    ails(&mesh, &[], "").await;
    for at in admins {
        grpc_says(at, ServingStatus::Serving).await;
        probes_say(at, 200).await;
    }
}
