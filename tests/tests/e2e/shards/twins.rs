//! Everything twice: config-api and cert-issuer as well.

use std::net::SocketAddr;

use serde_json::json;
use weft_tests::envoy::{Envoy, PATIENCE, Version};
use weft_tests::http;
use weft_tests::mesh::Variant;
use weft_tests::wait;

use crate::edge::service;
use crate::sidecars::{Sidecars, client_entry};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_of_everything_is_enough() {
    let of = Sidecars::secure("twins", &[]).await.unwrap();
    let mesh = &of.mesh;
    let _issuer = mesh.start_issuer(2, &[]).await.unwrap();
    let _api = mesh.start_api(2).await.unwrap();
    let _pusher = mesh.start_pusher(2, &[]).await.unwrap();
    let apis = [mesh.api_address(), mesh.net.at(2, 8080)];
    of.all_reach_all().await.unwrap();
    let loads = of.load(20);

    // What one replica of config-api stores, the other shows; a heartbeat is taken by both, and timed by one.
    let late = client_entry("late", mesh.net.ip(41), &[]);
    let documents = [service("said", &[mesh.net.at(9, 9000)]), late];
    mesh.apply(&documents.join("---\n")).await.unwrap();
    let path = "apis/networking.istio.io/v1/namespaces/shop/serviceentries/said";
    let shown = async || http::get(format!("http://{}/{path}", apis[1])).await?.ok();
    wait::until("the other to show it", PATIENCE, shown)
        .await
        .unwrap();
    let beat = async |api: SocketAddr| {
        let url = format!("http://{api}/v1/namespaces/shop/workloads/beats/heartbeat");
        let body = json!({"ttl": "60s", "spec": {"address": mesh.net.ip(40).to_string()}});
        let answer = http::send(http::client().put(url).json(&body))
            .await?
            .ok()?
            .json()?;
        Ok::<_, anyhow::Error>(answer["owner"].clone())
    };
    wait::until("one owner of a heartbeat", PATIENCE, async || {
        let owners = [beat(apis[0]).await?, beat(apis[1]).await?];
        anyhow::ensure!(owners[0] == owners[1], "{owners:?}");
        Ok(())
    })
    .await
    .unwrap();

    let bootstrap = wait::until(
        "a bootstrap that leads to both of each",
        PATIENCE,
        async || {
            let bootstrap = mesh.bootstrap("shop", "late", Variant::Delta).await?;
            for cluster in bootstrap["static_resources"]["clusters"]
                .as_array()
                .unwrap()
            {
                let places = cluster["load_assignment"]["endpoints"].as_array().unwrap();
                anyhow::ensure!(places.len() == 2, "{}: {places:?}", cluster["name"]);
            }
            Ok(bootstrap)
        },
    );
    let bootstrap = bootstrap.await.unwrap();

    // The first of each goes. Everything goes on: writes, certificates, configuration, traffic.
    mesh.issuer.as_ref().unwrap().kill();
    mesh.api.kill();
    mesh.pusher.kill();
    let apply = async || {
        let url = format!("http://{}/v1/apply", apis[1]);
        let request = http::client()
            .post(url)
            .header("content-type", "application/yaml");
        http::send(request.body(service("after", &[mesh.net.at(9, 9001)])))
            .await?
            .ok()
    };
    wait::until("a write by the other", PATIENCE, apply)
        .await
        .unwrap();
    let admin = mesh.net.at(249, 9901);
    let envoy = Envoy::start(&mesh.run, "late", Version::Newest, bootstrap, admin);
    let envoy = envoy.await.unwrap();
    envoy.ready().await.unwrap();
    let sees = async || match envoy.ask("/clusters").await?.body.contains("|after.shop") {
        true => Ok(()),
        false => anyhow::bail!("it is not there"),
    };
    wait::until("what was written last", PATIENCE, sees)
        .await
        .unwrap();
    for load in loads {
        load.stop().await.flawless().unwrap();
    }
}
