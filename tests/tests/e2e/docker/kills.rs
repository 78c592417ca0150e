//! The parts of the control plane die and come back under steady load, and no request through the gateway's published port fails.

use std::net::SocketAddr;

use anyhow::ensure;
use weft_tests::load::{Load, Running};
use weft_tests::wait;

use super::engine::{Engine, LONG};

/// Load on a published port of the engine's namespace.
pub(super) struct Loaded<'a> {
    engine: &'a Engine,
    running: Running,
}

impl<'a> Loaded<'a> {
    pub(super) async fn start(engine: &'a Engine, port: u16) -> Self {
        let load = Load {
            per_second: 20,
            connections: 2,
            ..Load::new(
                SocketAddr::from(([127, 0, 0, 1], port)),
                "shop.example",
                "/",
            )
        };
        let running = engine.namespace.run(async move || load.start()).await;
        Self { engine, running }
    }

    /// Until some more requests were made.
    pub(super) async fn goes_on(&self) {
        let enough = self.running.made() + 40;
        let made = async || {
            let made = self.running.made();
            ensure!(made >= enough, "{made} of {enough}");
            anyhow::Ok(())
        };
        wait::until("requests under load", LONG, made)
            .await
            .unwrap();
    }

    /// Ends it, and demands that nothing failed meanwhile.
    pub(super) async fn flawless(self, what: &str) {
        let running = self.running;
        let report = self
            .engine
            .namespace
            .run(async move || running.stop().await)
            .await;
        report
            .flawless()
            .unwrap_or_else(|error| panic!("{what}: {error:#}"));
    }
}

/// Each part alone, and then more than one.
pub(super) async fn cost_no_request(engine: &Engine) {
    engine.docker("compose up --detach").await.unwrap();
    engine.answers().await;
    for parts in [
        "xds-pusher",
        "config-api-1-app",
        "etcd",
        "cert-issuer",
        "config-api-2-app config-api-1-sidecar",
    ] {
        let load = Loaded::start(engine, 8000).await;
        load.goes_on().await;
        engine
            .docker(&format!("compose kill {parts}"))
            .await
            .unwrap();
        load.goes_on().await;
        engine
            .docker(&format!("compose start {parts}"))
            .await
            .unwrap();
        engine.healthy(parts).await;
        load.goes_on().await;
        load.flawless(parts).await;
    }
    either_issuer_does(engine).await;
    let synced = async || {
        engine.curl("http://localhost:8081/readyz").await?;
        let proxies = engine.curl("http://localhost:8080/v1/proxies").await?;
        ensure!(
            proxies.matches("\"workloadKnown\":true").count() == 7,
            "{proxies}"
        );
        anyhow::Ok(())
    };
    wait::until("seven proxies", LONG, synced).await.unwrap();
    engine.answers().await;
}

/// Each of two issuers is registered by an address of its own, and a proxy that starts without the other gets its identity.
async fn either_issuer_does(engine: &Engine) {
    let two = async || {
        let health = engine.curl("http://localhost:8081/healthz").await?;
        let health: serde_json::Value = serde_json::from_str(&health)?;
        let issuers = health["parts"]["issuer"]["replicas"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let fine = issuers.len() == 2
            && issuers[0]["address"] != issuers[1]["address"]
            && issuers.iter().all(|it| it["ok"] == true);
        ensure!(fine, "{health}");
        anyhow::Ok(())
    };
    let issuers = engine.docker("compose ps -q cert-issuer").await.unwrap();
    let issuers: Vec<&str> = issuers.split_whitespace().collect();
    assert_eq!(issuers.len(), 2, "{issuers:?}");
    for issuer in issuers {
        wait::until("two issuers", LONG, two).await.unwrap();
        let load = Loaded::start(engine, 8000).await;
        engine.docker(&format!("kill {issuer}")).await.unwrap();
        engine
            .docker("compose restart config-api-1-sidecar")
            .await
            .unwrap();
        engine.healthy("config-api-1-sidecar").await;
        load.goes_on().await;
        engine.docker(&format!("start {issuer}")).await.unwrap();
        load.flawless("an issuer").await;
    }
    wait::until("two issuers", LONG, two).await.unwrap();
}
