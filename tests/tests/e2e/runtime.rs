//! Runtime values: they reach running Envoys, under whatever name they are declared, and go again.

use weft_tests::wait;

use crate::edge::Edge;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runtime_values_reach_running_envoys_and_go_again() {
    let edge = Edge::start("runtime").await.unwrap();
    let layer = "apiVersion: weft.mesh/v1\nkind: RuntimeLayer\n\
        metadata: { name: declared-later, namespace: istio-system }\n\
        spec: { layer: { weft.test: 42 } }\n";
    edge.mesh.apply(layer).await.unwrap();
    let value = async |expected: bool| {
        for gateway in &edge.gateways {
            let what = format!("{} to have the value: {expected}", gateway.name);
            wait::until(&what, wait::PATIENCE, async || {
                let answer = gateway.envoy.ask("/runtime").await?;
                if (answer.body.contains("weft.test") && answer.body.contains("42")) == expected {
                    Ok(())
                } else {
                    Err(anyhow::anyhow!(answer.body))
                }
            })
            .await
            .unwrap();
        }
    };
    value(true).await;
    let path = "/apis/weft.mesh/v1/namespaces/istio-system/runtimelayers/declared-later";
    let deleted = edge.mesh.call(reqwest::Method::DELETE, path, None).await;
    deleted.unwrap().ok().unwrap();
    value(false).await;
    edge.finish().await;
}
