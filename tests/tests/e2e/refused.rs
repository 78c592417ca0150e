//! A refusal shows on the resource that caused it: in its status, among its events, in `describe`, and in metrics.

use weft_tests::envoy::Version;
use weft_tests::http;
use weft_tests::mesh::{Options, Variant};
use weft_tests::skip::skip;
use weft_tests::wait;

use crate::edge::{Edge, gateway, routes};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_seen_where_people_look() {
    let kinds = [
        (Variant::Delta, Version::Newest),
        (Variant::Sotw, Version::Oldest),
    ];
    let edge = Edge::start_with("refused", &kinds, Options::default())
        .await
        .unwrap();
    let server = format!("http://{}", edge.mesh.api_address());
    let taken: Vec<_> = (edge.gateways.iter())
        .map(|it| std::net::TcpListener::bind((it.address.ip(), 8001)).unwrap())
        .collect();
    let fine = routes(
        "fine",
        "- directResponse: { status: 200, body: { string: fine } }",
    );
    let documents = [gateway("taken", 8001), fine].join("---\n");
    edge.mesh.apply(&documents).await.unwrap();

    // Its status, by name of the proxy and in Envoy's words; nobody else's.
    let conditions = async |path: &str| -> anyhow::Result<serde_json::Value> {
        let path = format!("/apis/networking.istio.io/v1/namespaces/shop/{path}");
        let answer = edge.mesh.call(reqwest::Method::GET, &path, None).await?;
        Ok(answer.ok()?.json()?["status"]["conditions"].take())
    };
    let accepted = |conditions: &serde_json::Value| {
        let mut all = conditions.as_array().into_iter().flatten();
        let found = all.find(|it| it["type"] == "Accepted").cloned();
        found.unwrap_or_default()
    };
    let refused = wait::until("the condition", wait::PATIENCE, async || {
        let found = accepted(&conditions("gateways/taken").await?);
        let message = found["message"].as_str().unwrap_or_default();
        anyhow::ensure!(message.contains("refused by 2 proxies"), "{found}");
        Ok(found)
    })
    .await
    .unwrap();
    assert_eq!(
        (&refused["status"], &refused["reason"]),
        (&"False".into(), &"Refused".into())
    );
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("Address already in use")
    );
    let fine = accepted(&conditions("virtualservices/fine").await.unwrap());
    assert_eq!(fine["status"], "True", "{fine}");

    // In describe, of both command lines.
    let wanted = [
        "Refused",
        "gateway~istio-system~gw-",
        "Address already in use",
    ];
    let output = crate::meshctl::meshctl(&server, "describe gw taken")
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let events = text.split("Events:").nth(1).unwrap_or_default();
    for wanted in wanted {
        assert!(events.contains(wanted), "no {wanted:?} in\n{text}");
    }
    let kubectl = tokio::process::Command::new("kubectl")
        .env("KUBECONFIG", "/dev/null")
        .arg(format!("--server={server}"))
        .arg(format!(
            "--cache-dir={}",
            edge.mesh.run.path("cache").display()
        ))
        .args([
            "-n",
            "shop",
            "describe",
            "gateways.networking.istio.io",
            "taken",
        ])
        .kill_on_drop(true)
        .output()
        .await;
    match kubectl {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            let events = text.split("Events:").nth(1).unwrap_or_default();
            for wanted in wanted {
                assert!(events.contains(wanted), "no {wanted:?} in\n{text}");
            }
        }
        Err(error) => skip(format!("kubectl describe: {error}")),
    }

    // In metrics.
    let metrics = format!("http://{}/metrics", edge.mesh.net.at(1, 18001));
    let metrics = http::get(&metrics).await.unwrap().body;
    let counts = |line: &&str| line.starts_with("weft_xds_nacks_total") && line.contains("LDS");
    let nacks = metrics.lines().find(counts).unwrap_or_default();
    let count: f64 = nacks
        .rsplit(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap_or_default();
    assert!(count >= 2.0, "{nacks}");

    // The proxies keep what they had, and once it is corrected nothing is left of it.
    for gateway in &edge.gateways {
        assert_eq!(gateway.get("/").await.unwrap().body, "fine");
    }
    drop(taken);
    edge.mesh.apply(&gateway("taken", 8002)).await.unwrap();
    wait::until("the correction", wait::PATIENCE, async || {
        let found = accepted(&conditions("gateways/taken").await?);
        anyhow::ensure!(found["status"] == "True", "{found}");
        Ok(())
    })
    .await
    .unwrap();
}
