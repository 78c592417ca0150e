//! Whether a service lives and is ready, and what is wrong if not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

type Checks = Arc<Mutex<BTreeMap<&'static str, Condition>>>;

/// How one part is.
#[derive(Debug)]
enum Condition {
    Ok,
    Degraded(String),
    Failed(String),
}

/// The state of every named part of a service. The service is ready when no part says otherwise.
#[derive(Clone, Debug, Default)]
pub struct Health(Checks);

/// One part's entry in [`Health`].
#[derive(Clone, Debug)]
pub struct Check {
    name: &'static str,
    checks: Checks,
}

impl Health {
    /// Registers a part; until it says otherwise it is not ready, for this reason.
    pub fn check(&self, name: &'static str, reason: &str) -> Check {
        let check = Check {
            name,
            checks: self.0.clone(),
        };
        check.fail(reason);
        check
    }

    /// Whether every part is ready, and each part's reason if it is not.
    pub fn report(&self) -> (bool, Value) {
        let checks = self
            .0
            .lock()
            .expect("no code panics while it holds this lock");
        let ready = !checks
            .values()
            .any(|state| matches!(state, Condition::Failed(_)));
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
        self.checks
            .lock()
            .expect("no code panics while it holds this lock")
            .insert(self.name, state);
    }
}

pub(crate) fn router(health: Health) -> Router {
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
        .with_state(health)
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
        let response = router(health.clone()).oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
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
