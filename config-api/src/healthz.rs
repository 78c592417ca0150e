//! `GET /healthz`: has etcd, every pusher and every issuer do a little of their work, now, and says how each fared.
//!
//! *Invariant:* no caller waits longer than [`DEADLINE`] and a moment, and however many ask, each part is asked at most
//! once in [`SHARE`].

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::future::join_all;
use http::StatusCode;
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::app::App;

/// How long each part has to answer.
const DEADLINE: Duration = Duration::from_secs(2);

/// Callers share what was found within this time.
const SHARE: Duration = Duration::from_secs(1);

/// What was found last, and who can be asked to sign.
pub(crate) struct Healthz {
    current: Mutex<Option<Asked>>,
    /// Absent where there are no identities.
    issuers: Option<Arc<mtls::Issuers>>,
}

/// A round of questions that has begun, or is over.
struct Asked {
    begun: Instant,
    report: watch::Receiver<Option<Report>>,
}

/// What all parts together came to.
#[derive(Clone)]
struct Report {
    healthy: bool,
    body: Value,
}

/// How one part, or one replica of it, fared.
struct Outcome {
    took: Duration,
    failed: Option<String>,
    more: Map<String, Value>,
}

impl Healthz {
    pub(crate) fn new(issuers: Option<Arc<mtls::Issuers>>) -> Self {
        Self {
            current: Mutex::default(),
            issuers,
        }
    }

    /// The round that is under way or has begun just now; another if there is none.
    fn join(&self, app: &Arc<App>) -> watch::Receiver<Option<Report>> {
        let mut current = self
            .current
            .lock()
            .expect("no code panics while it holds this lock");
        if let Some(asked) = &*current
            && (asked.report.borrow().is_none() || asked.begun.elapsed() < SHARE)
        {
            return asked.report.clone();
        }
        let (publish, report) = watch::channel(None);
        *current = Some(Asked {
            begun: Instant::now(),
            report: report.clone(),
        });
        let app = app.clone();
        // Not the caller's own task: others wait for it, too, when the caller is gone.
        tokio::spawn(async move { publish.send_replace(Some(round(&app).await)) });
        report
    }
}

/// `GET /healthz`.
pub(crate) async fn healthz(State(app): State<Arc<App>>) -> Response {
    let mut report = app.healthz.join(&app);
    let report = match report.wait_for(Option::is_some).await {
        Ok(report) => report.clone(),
        Err(_) => None,
    };
    let Some(Report { healthy, body }) = report else {
        // The task that asks panicked; its log says where.
        let body = json!({"healthy": false, "reason": "a defect in config-api: the check ended by itself"});
        return (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
    };
    let status = match healthy {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(body)).into_response()
}

async fn round(app: &App) -> Report {
    let parts = tokio::join!(etcd(app), xds(app), issuer(app));
    let parts = [("etcd", parts.0), ("xds", parts.1), ("issuer", parts.2)];
    let healthy = parts.iter().all(|(_, outcome)| outcome.failed.is_none());
    let parts: Map<String, Value> = parts
        .into_iter()
        .map(|(name, outcome)| (name.to_owned(), outcome.into_json()))
        .collect();
    Report {
        healthy,
        body: json!({"healthy": healthy, "parts": parts}),
    }
}

/// A linearizable read: only a quorum answers it.
async fn etcd(app: &App) -> Outcome {
    let begun = Instant::now();
    let (failed, revision) = match tokio::time::timeout(DEADLINE, app.store.revision()).await {
        Ok(Ok(revision)) => (None, Some(revision)),
        Ok(Err(error)) => (Some(error.to_string()), None),
        Err(_) => (
            Some(format!("etcd gave no answer within {DEADLINE:?}")),
            None,
        ),
    };
    let more = revision.map(|revision| ("revision".to_owned(), json!(revision.to_string())));
    Outcome {
        took: begun.elapsed(),
        failed,
        more: more.into_iter().collect(),
    }
}

/// Every registered pusher, in gRPC's health protocol, the way proxies come in.
async fn xds(app: &App) -> Outcome {
    let begun = Instant::now();
    let asked = app.pushers.members().into_iter().map(|member| async move {
        let begun = Instant::now();
        let asked = async {
            let channel = app.pushers.channel(&member)?;
            let whole = HealthCheckRequest::default();
            let answer = HealthClient::new(channel).check(whole).await;
            let answer =
                answer.map_err(|status| format!("{:?}: {}", status.code(), status.message()))?;
            match answer.into_inner().status {
                serving if serving == ServingStatus::Serving as i32 => Ok(()),
                _ => Err("it is not serving; its /readyz says why".to_owned()),
            }
        };
        let failed = match tokio::time::timeout(DEADLINE, asked).await {
            Ok(answer) => answer.err(),
            Err(_) => Some(format!("no answer within {DEADLINE:?}")),
        };
        let address = member.addresses.get("grpc").cloned().unwrap_or_default();
        let more = [("instance", member.instance), ("address", address)];
        Outcome {
            took: begun.elapsed(),
            failed,
            more: more
                .map(|(name, text)| (name.to_owned(), json!(text)))
                .into_iter()
                .collect(),
        }
    });
    all(begun, "no xds-pusher is registered", join_all(asked).await)
}

/// Every registered issuer, by having it sign.
async fn issuer(app: &App) -> Outcome {
    let begun = Instant::now();
    let Some(issuers) = &app.healthz.issuers else {
        let skipped = json!("this mesh has no identities (--insecure-plaintext-xds)");
        return Outcome {
            took: begun.elapsed(),
            failed: None,
            more: [("skipped".to_owned(), skipped)].into_iter().collect(),
        };
    };
    match issuers.try_all(DEADLINE).await {
        Err(reason) => all(begun, &reason, Vec::new()),
        Ok(tried) => {
            let replicas = tried.into_iter().map(|tried| Outcome {
                took: tried.took,
                failed: tried.failed,
                more: [("address".to_owned(), json!(tried.address))]
                    .into_iter()
                    .collect(),
            });
            all(begun, "", replicas.collect())
        }
    }
}

/// A part that is as well as each of its replicas, and not at all without any.
fn all(begun: Instant, without: &str, replicas: Vec<Outcome>) -> Outcome {
    let reasons = replicas.iter().filter_map(|replica| {
        let address = replica.more.get("address").and_then(Value::as_str);
        Some(format!(
            "{}: {}",
            address.unwrap_or("?"),
            replica.failed.as_ref()?
        ))
    });
    let reasons: Vec<String> = reasons.collect();
    let failed = match (replicas.is_empty(), reasons.is_empty()) {
        (true, _) => Some(without.to_owned()),
        (false, true) => None,
        (false, false) => Some(reasons.join("; ")),
    };
    let replicas = replicas.into_iter().map(Outcome::into_json).collect();
    Outcome {
        took: begun.elapsed(),
        failed,
        more: [("replicas".to_owned(), Value::Array(replicas))]
            .into_iter()
            .collect(),
    }
}

impl Outcome {
    fn into_json(self) -> Value {
        let mut json = self.more;
        json.insert("ok".into(), self.failed.is_none().into());
        json.insert(
            "milliseconds".into(),
            (self.took.as_secs_f64() * 1000.0).into(),
        );
        json.extend(
            self.failed
                .map(|reason| ("reason".to_owned(), reason.into())),
        );
        json.into()
    }
}
