//! `/v1`: what Kubernetes has no word for.
//!
//! *Invariant:* nothing here can change a resource in a way that the Kubernetes side would refuse.

mod apply;
mod batch;
mod bootstrap;
mod documents;
mod heartbeat;
mod history;
pub(crate) mod openapi;
mod proxies;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post, put};

use crate::app::App;

/// The routes of `/v1`.
pub(crate) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/openapi.json", get(crate::k8s::openapi::ours))
        .route("/v1/apply", post(apply::apply))
        .route("/v1/diff", post(apply::diff))
        .route("/v1/history", get(history::all))
        .route(
            "/v1/history/{kind}/{namespace}/{name}",
            get(history::of_kind),
        )
        .route(
            "/v1/history/{group}/{kind}/{namespace}/{name}",
            get(history::of_group),
        )
        .route("/v1/rollback", post(history::rollback))
        .route("/v1/proxies", get(proxies::list))
        .route("/v1/proxies/{id}", get(proxies::one))
        .route("/v1/proxies/{id}/config", get(proxies::config))
        .route(
            "/v1/namespaces/{namespace}/workloads/{name}/bootstrap",
            get(bootstrap::bootstrap).post(bootstrap::bootstrap),
        )
        .route(
            "/v1/namespaces/{namespace}/workloads/{name}/heartbeat",
            put(heartbeat::beat).delete(heartbeat::beat),
        )
}
