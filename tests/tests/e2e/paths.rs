//! Two services by path, swapped by one apply under load.

use weft_tests::load::Load;

use crate::edge::{Edge, is, routes, service};

fn two_services(a: &str, b: &str, not_found: &str) -> String {
    routes(
        "two",
        &format!(
            "- match: [{{ uri: {{ prefix: /service-a }} }}]\n  route: [{{ destination: {{ host: {a} }} }}]\n\
         - match: [{{ uri: {{ prefix: /service-b }} }}]\n  route: [{{ destination: {{ host: {b} }} }}]\n\
         - directResponse: {{ status: 404, body: {{ string: {not_found} }} }}"
        ),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_services_by_path_swap_without_a_failed_request() {
    let edge = Edge::start("paths").await.unwrap();
    let (_a, _b) = (
        edge.backend(2, "a", "v1").await.unwrap(),
        edge.backend(3, "b", "v1").await.unwrap(),
    );
    let (at_a, at_b) = (edge.mesh.net.at(2, 9000), edge.mesh.net.at(3, 9000));
    let services = [
        service("a", &[at_a]),
        service("b", &[at_b]),
        two_services("a", "b", "Not Found"),
    ];
    edge.mesh.apply(&services.join("---\n")).await.unwrap();
    edge.all_answer("/service-a/1", is("a v1")).await.unwrap();
    edge.all_answer("/service-b", is("b v1")).await.unwrap();
    edge.all_answer("/other", |a| a.status == 404 && a.body == "Not Found")
        .await
        .unwrap();

    let paths = vec!["/service-a/x".to_owned(), "/service-b/x".to_owned()];
    let loads = edge.load(|load| Load {
        paths: paths.clone(),
        ..load
    });
    loads.make(100).await;
    edge.mesh
        .apply(&two_services("b", "a", "Not Found (v2)"))
        .await
        .unwrap();
    edge.all_answer("/other", |a| a.status == 404 && a.body == "Not Found (v2)")
        .await
        .unwrap();
    edge.all_answer("/service-a/1", is("b v1")).await.unwrap();
    edge.all_answer("/service-b", is("a v1")).await.unwrap();
    loads.make(100).await;
    for report in loads.flawless().await {
        assert!(
            report.answers["a v1"] > 20 && report.answers["b v1"] > 20,
            "{:?}",
            report.answers
        );
    }
    for gateway in &edge.gateways {
        assert_eq!(
            gateway
                .envoy
                .stat("server.hot_restart_epoch")
                .await
                .unwrap(),
            0
        );
    }
    edge.finish().await;
}
