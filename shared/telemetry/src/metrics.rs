//! Metrics in Prometheus' text format.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// The process's metrics, as recorded through the `metrics` macros.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

/// Upper bounds of latency histograms, in seconds.
const BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

impl Metrics {
    /// The recorder of this process, installed on the first call. A process that runs several services (as tests do) has
    /// one recorder for all of them.
    pub fn install() -> Self {
        static HANDLE: std::sync::OnceLock<PrometheusHandle> = std::sync::OnceLock::new();
        Self(
            HANDLE
                .get_or_init(|| {
                    PrometheusBuilder::new()
                        .set_buckets(&BUCKETS)
                        .expect("the list of buckets is not empty")
                        .install_recorder()
                        .expect("this is the only place that installs a recorder")
                })
                .clone(),
        )
    }

    /// Keeps histograms from growing between scrapes; runs until cancelled.
    pub async fn upkeep(self) {
        let mut tick = tokio::time::interval(Duration::from_secs(5));
        loop {
            tick.tick().await;
            self.0.run_upkeep();
        }
    }
}

pub(crate) fn router(metrics: Metrics) -> Router {
    async fn render(State(metrics): State<Metrics>) -> String {
        metrics.0.render()
    }
    Router::new()
        .route("/metrics", get(render))
        .with_state(metrics)
}
