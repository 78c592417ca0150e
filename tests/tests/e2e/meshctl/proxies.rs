//! What `meshctl` shows of real Envoys: that they are in step, what they were told, and why one refuses.

use std::net::TcpListener;

use anyhow::{Result, bail};
use weft_tests::envoy::{self, Version};
use weft_tests::mesh::{Mesh, Options, Variant};
use weft_tests::wait;

use crate::edge::{Edge, PORT, gateway, routes, service};

/// The output of a command that succeeds.
async fn ok(mesh: &Mesh, line: &str) -> Result<String> {
    let output = super::meshctl(&format!("http://{}", mesh.api_address()), line)
        .output()
        .await?;
    if !output.status.success() {
        bail!("{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Waits until the output of a command holds all of these.
async fn shows(mesh: &Mesh, line: &str, wanted: &[&str]) -> String {
    wait::until(
        &format!("{line} to show {wanted:?}"),
        envoy::PATIENCE,
        async || {
            let out = ok(mesh, line).await?;
            match wanted.iter().find(|w| !out.contains(**w)) {
                None => Ok(out),
                Some(missing) => bail!("no {missing:?} in\n{out}"),
            }
        },
    )
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_are_shown_with_what_they_run_and_what_they_refuse() {
    let edge = Edge::start_with(
        "ctl-proxies",
        &[(Variant::Delta, Version::Newest)],
        Options::default(),
    )
    .await
    .unwrap();
    let (mesh, name) = (&edge.mesh, edge.gateways[0].name.clone());
    let documents = [
        service("a", &[mesh.net.at(2, 9000)]),
        routes("all", "- route: [{ destination: { host: a } }]"),
    ];
    mesh.apply(&documents.join("---\n")).await.unwrap();

    let routes = format!("proxy-config routes {name}.istio-system");
    shows(
        mesh,
        &routes,
        &[
            "ROUTE CONFIG",
            "/*",
            "outbound|80||a.shop.svc.cluster.local",
        ],
    )
    .await;
    let status = shows(mesh, "proxy-status", &["SYNCED"]).await;
    assert!(
        status.contains(&format!("gateway~istio-system~{name}")) && status.contains("1.40.0"),
        "{status}"
    );
    assert!(
        !status.contains("NACK") && !status.contains("no WorkloadEntry"),
        "{status}"
    );
    let detail = ok(mesh, &format!("ps {name} -n istio-system"))
        .await
        .unwrap();
    assert!(
        detail.contains("\nTYPE   STATE ") && detail.contains("\nCDS    SYNCED "),
        "{detail}"
    );
    shows(
        mesh,
        &format!("pc endpoints {name}"),
        &[&mesh.net.at(2, 9000).to_string()],
    )
    .await;
    shows(
        mesh,
        &format!("pc clusters {name}"),
        &["SERVICE", "a.shop.svc.cluster.local   80"],
    )
    .await;
    shows(
        mesh,
        &format!("pc listeners {name}"),
        &["LISTENER", &PORT.to_string(), "route config"],
    )
    .await;
    let all: serde_json::Value =
        serde_json::from_str(&ok(mesh, &format!("pc all {name} -o json")).await.unwrap()).unwrap();
    assert!(
        all.as_array()
            .is_some_and(|a| a.iter().any(|r| r["type"] == "CDS")),
        "{all}"
    );
    let bootstrap = ok(
        mesh,
        &format!("bootstrap {name} -n istio-system --variant sotw --admin-port 9999"),
    )
    .await
    .unwrap();
    assert!(
        bootstrap.contains("api_type: GRPC\n") && bootstrap.contains("port_value: 9999\n"),
        "{bootstrap}"
    );

    // Somebody else has the port: Envoy cannot open the listener and says so.
    let taken = TcpListener::bind(mesh.net.at(10, 8001)).unwrap();
    mesh.apply(&gateway("taken", 8001)).await.unwrap();
    let status = shows(
        mesh,
        "ps",
        &["NACK", " refused LDS of revision ", "It keeps revision "],
    )
    .await;
    assert!(status.contains("Address already in use"), "{status}");
    drop(taken);
}
