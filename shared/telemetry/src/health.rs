//! Whether a service lives and is ready, and what is wrong if not: over HTTP, and in gRPC's health protocol.

mod grpc;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::watch;

/// How one part is.
#[derive(Debug)]
enum Condition {
    Ok,
    Degraded(String),
    Failed(String),
}

/// The state of every named part of a service. The service is ready when no part says otherwise.
#[derive(Clone, Debug)]
pub struct Health(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    conditions: Mutex<BTreeMap<&'static str, Condition>>,
    ready: watch::Sender<bool>,
}

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(Parts {
            conditions: Mutex::default(),
            ready: watch::Sender::new(true),
        }))
    }
}

/// One part's entry in [`Health`].
#[derive(Clone, Debug)]
pub struct Check {
    name: &'static str,
    parts: Arc<Parts>,
}

impl Health {
    /// Registers a part; until it says otherwise it is not ready, for this reason.
    pub fn check(&self, name: &'static str, reason: &str) -> Check {
        let check = Check {
            name,
            parts: self.0.clone(),
        };
        check.fail(reason);
        check
    }

    /// Whether every part is ready, and each part's reason if it is not.
    pub fn report(&self) -> (bool, Value) {
        let checks = self
            .0
            .conditions
            .lock()
            .expect("no code panics while it holds this lock");
        let ready = is_ready(&checks);
        let parts: serde_json::Map<_, _> = checks
            .iter()
            .map(|(name, state)| {
                let value = match state {
                    Condition::Ok => json!({"ok": true}),
                    Condition::Degraded(reason) => json!({"ok": true, "warning": reason}),
                    Condition::Failed(reason) => json!({"ok": false, "reason": reason}),
                };
                ((*name).to_owned(), value)
            })
            .collect();
        (ready, json!({"ready": ready, "checks": parts}))
    }

    /// Whether every part is ready, and when that turns.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.0.ready.subscribe()
    }
}

fn is_ready(conditions: &BTreeMap<&'static str, Condition>) -> bool {
    !conditions
        .values()
        .any(|state| matches!(state, Condition::Failed(_)))
}

impl Check {
    /// This part is ready.
    pub fn ok(&self) {
        self.set(Condition::Ok);
    }

    /// This part does its work, but somebody should look: shown, while the service stays ready.
    pub fn degraded(&self, warning: impl Into<String>) {
        self.set(Condition::Degraded(warning.into()));
    }

    /// This part is not ready, and why.
    pub fn fail(&self, reason: impl Into<String>) {
        self.set(Condition::Failed(reason.into()));
    }

    fn set(&self, state: Condition) {
        let is_well = !matches!(state, Condition::Failed(_));
        metrics::gauge!("weft_ready", "check" => self.name).set(f64::from(u8::from(is_well)));
        let mut conditions = (self.parts.conditions)
            .lock()
            .expect("no code panics while it holds this lock");
        conditions.insert(self.name, state);
        let now = is_ready(&conditions);
        // Under the lock, so that the last word on readiness is about the last condition.
        self.parts
            .ready
            .send_if_modified(|ready| std::mem::replace(ready, now) != now);
    }
}

/// gRPC's health protocol (`grpc.health.v1`), for the service as a whole.
pub fn grpc_health(health: &Health) -> Router {
    grpc::router(health)
}

pub(crate) fn router(health: &Health) -> Router {
    async fn readyz(State(health): State<Health>) -> (StatusCode, Json<Value>) {
        let (ready, report) = health.report();
        (
            if ready {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            },
            Json(report),
        )
    }
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(readyz))
        .with_state(health.clone())
        .merge(grpc_health(health))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn readyz(health: &Health) -> (u16, Value) {
        let request = Request::get("/readyz").body(Body::empty()).unwrap();
        let response = router(health).oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn grpc_says_what_readyz_says_and_when_it_turns() {
        use tonic_health::ServingStatus;
        use tonic_health::pb::HealthCheckRequest;
        use tonic_health::pb::health_client::HealthClient;

        let health = Health::default();
        let etcd = health.check("etcd", "not connected yet");
        let mut client = HealthClient::new(grpc_health(&health));
        let whole = HealthCheckRequest::default;
        let mut statuses = client.watch(whole()).await.unwrap().into_inner();
        for turn in [None, Some(true), Some(false)] {
            match turn {
                Some(true) => etcd.ok(),
                Some(false) => etcd.fail("gone"),
                None => {}
            }
            let expected = match turn {
                Some(true) => ServingStatus::Serving,
                _ => ServingStatus::NotServing,
            };
            let told = statuses.message().await.unwrap().unwrap();
            let asked = client.check(whole()).await.unwrap().into_inner();
            assert_eq!(
                (told.status, asked.status),
                (expected as i32, expected as i32)
            );
        }
        let other = HealthCheckRequest {
            service: "other".into(),
        };
        let refused = client.check(other).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::NotFound);
    }

    #[tokio::test]
    async fn readyz_names_the_part_that_is_not_ready() {
        let health = Health::default();
        let etcd = health.check("etcd", "not connected yet");
        assert_eq!(readyz(&health).await.0, 503);
        etcd.ok();
        assert_eq!(readyz(&health).await.0, 200);
        etcd.fail("connection refused");
        let (status, report) = readyz(&health).await;
        assert_eq!(status, 503);
        assert_eq!(report["checks"]["etcd"]["reason"], "connection refused");
        etcd.degraded("slow");
        let (status, report) = readyz(&health).await;
        assert_eq!(status, 200);
        assert_eq!(report["checks"]["etcd"]["warning"], "slow");
    }
}
