//! Metrics in Prometheus' text format.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// The process's metrics, as recorded through the `metrics` macros.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

/// Upper bounds of histograms of durations, in seconds.
const SECONDS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
];

/// Upper bounds of histograms of sizes.
const SIZES: [f64; 10] = [
    1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0, 100_000.0,
];

/// The one histogram that counts things rather than seconds.
const SIZE: &str = "weft_snapshot_resources";

impl Metrics {
    /// The recorder of this process, installed on the first call. A process that runs several services (as tests do) has
    /// one recorder for all of them.
    pub fn install() -> Self {
        static HANDLE: std::sync::OnceLock<PrometheusHandle> = std::sync::OnceLock::new();
        let metrics = Self(
            HANDLE
                .get_or_init(|| {
                    PrometheusBuilder::new()
                        .set_buckets(&SECONDS)
                        .and_then(|builder| {
                            builder.set_buckets_for_metric(Matcher::Full(SIZE.into()), &SIZES)
                        })
                        .expect("the lists of buckets are not empty")
                        .install_recorder()
                        .expect("this is the only place that installs a recorder")
                })
                .clone(),
        );
        // Series begin at nothing, so that the first event is a rise and not an appearance.
        drop(::metrics::counter!("weft_trace_spans_exported_total"));
        for reason in ["queue", "export"] {
            drop(::metrics::counter!("weft_trace_spans_dropped_total", "reason" => reason));
        }
        metrics
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

/// Says when a certificate expires: `own`, what the service shows; for others, what they are to it.
pub fn expires(certificate: &'static str, unix_seconds: i64) {
    #[allow(clippy::cast_precision_loss, reason = "seconds are far below 2^52")]
    let seconds = unix_seconds as f64;
    metrics::gauge!("weft_certificate_expiry_timestamp_seconds", "certificate" => certificate)
        .set(seconds);
}

pub(crate) fn router(metrics: Metrics) -> Router {
    async fn render(State(metrics): State<Metrics>) -> String {
        metrics.0.render()
    }
    Router::new()
        .route("/metrics", get(render))
        .with_state(metrics)
}
