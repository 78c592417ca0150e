//! What the containers of our own images may do.

use super::engine::Engine;

/// These only hold an address, and these end.
const WITHOUT_HEALTH: [&str; 9] = [
    "config-api-1",
    "config-api-2",
    "web",
    "orders-v1",
    "orders-v2",
    "payments",
    "init",
    "shop",
    "meshctl",
];

/// No user with rights, a root that is read-only, no capabilities; and a health check where there is something to check.
pub(super) async fn as_documented(engine: &Engine) {
    let ids = engine
        .docker("ps --all --quiet --filter label=com.docker.compose.project=weft")
        .await
        .unwrap();
    let ids = ids.split_whitespace().collect::<Vec<_>>().join(" ");
    let said = engine.docker(&format!("inspect {ids}")).await.unwrap();
    let containers: Vec<serde_json::Value> = serde_json::from_str(&said).unwrap();
    let mut ours = 0;
    for container in &containers {
        let service = container["Config"]["Labels"]["com.docker.compose.service"]
            .as_str()
            .unwrap();
        let host = &container["HostConfig"];
        assert_eq!(host["ReadonlyRootfs"], true, "{service}");
        assert_eq!(host["CapDrop"], serde_json::json!(["ALL"]), "{service}");
        assert_eq!(host["Privileged"], false, "{service}");
        assert_eq!(
            host["SecurityOpt"],
            serde_json::json!(["no-new-privileges:true"]),
            "{service}"
        );
        if !container["Config"]["Image"]
            .as_str()
            .unwrap()
            .starts_with("weft/")
        {
            continue;
        }
        ours += 1;
        assert_eq!(container["Config"]["User"], "65532:65532", "{service}");
        let health = container["State"]["Health"]["Status"].as_str();
        match WITHOUT_HEALTH.contains(&service) {
            true => assert_eq!(health, None, "{service}"),
            false => engine.healthy(service).await,
        }
    }
    assert!(ours > 20, "{ours} of {}", containers.len());
}
