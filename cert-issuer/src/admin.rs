//! What everybody may know, over plain HTTP: health, metrics, and what to trust.
//!
//! *Invariant:* nothing secret is served here.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use crate::authority::{Authority, Policy};
use crate::ca::Current;

/// The roots in PEM, and what OpenID Connect clients ask for.
pub(crate) fn router(current: Current, issuer_url: Option<String>) -> Router {
    Router::new()
        .route("/bundle.pem", get(bundle_pem))
        .route("/keys", get(keys))
        .with_state(current)
        .route(
            "/.well-known/openid-configuration",
            get(move || discovery(issuer_url.clone())),
        )
}

/// The SPIFFE bundle, for other trust domains that federate with this one.
pub(crate) fn bundle_endpoint(current: Current, policy: Policy) -> Router {
    let answer = move |State(current): State<Current>| async move {
        from(&current, |authority| {
            Json(authority.spiffe_bundle(policy.refresh_hint())).into_response()
        })
    };
    Router::new()
        .route("/bundle", get(answer))
        .with_state(current)
}

/// Answers from the authority in force.
fn from(current: &Current, answer: impl FnOnce(&Authority) -> Response) -> Response {
    match current.borrow().as_deref() {
        Some(authority) => answer(authority),
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            "there is no certificate authority yet",
        )
            .into_response(),
    }
}

async fn bundle_pem(State(current): State<Current>) -> Response {
    from(&current, |authority| {
        let kind = [(header::CONTENT_TYPE, "application/x-pem-file")];
        (kind, authority.bundle_pem()).into_response()
    })
}

async fn keys(State(current): State<Current>) -> Response {
    from(&current, |authority| Json(authority.jwks()).into_response())
}

async fn discovery(issuer_url: Option<String>) -> Response {
    let Some(url) = issuer_url else {
        let text =
            "tokens have no issuer; set --issuer-url to the address under which this is served";
        return (StatusCode::NOT_FOUND, text).into_response();
    };
    let base = url.trim_end_matches('/');
    Json(json!({
        "issuer": url,
        "jwks_uri": format!("{base}/keys"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }))
    .into_response()
}
