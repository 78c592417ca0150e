//! Resources by the Kubernetes API's conventions, so that kubectl and every client library of Kubernetes work unchanged.
//!
//! *Invariant:* nothing here knows what a policy means; that is the model's.

pub(crate) mod admit;
mod columns;
mod core;
mod discovery;
mod mutate;
pub(crate) mod names;
pub(crate) mod openapi;
mod page;
mod patch;
pub(crate) mod present;
mod read;
mod schema;
mod selector;
pub(crate) mod target;
mod watch;
pub(crate) mod write;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;

use crate::app::App;

/// The routes of the Kubernetes side.
pub(crate) fn router() -> Router<Arc<App>> {
    let collection = || {
        get(read::list)
            .post(mutate::create)
            .delete(mutate::delete_collection)
    };
    let item = || {
        get(read::get)
            .put(mutate::replace)
            .patch(mutate::patch)
            .delete(mutate::delete)
    };
    Router::new()
        .route("/version", get(discovery::version))
        .route("/openapi/v3", get(openapi::index))
        .route("/openapi/v3/api/v1", get(openapi::core))
        .route("/openapi/v3/v1", get(openapi::ours))
        .route(
            "/openapi/v3/apis/{group}/{version}",
            get(openapi::group_version),
        )
        .route("/api", get(discovery::api))
        .route("/api/v1", get(discovery::core_v1))
        .route("/api/v1/namespaces", get(core::list_namespaces))
        .route("/api/v1/namespaces/{namespace}", get(core::get_namespace))
        .route("/api/v1/events", get(core::list_events))
        .route(
            "/api/v1/namespaces/{namespace}/events",
            get(core::list_events),
        )
        .route("/apis", get(discovery::apis))
        .route("/apis/{group}", get(discovery::one_group))
        .route("/apis/{group}/{version}", get(discovery::one_version))
        .route("/apis/{group}/{version}/{plural}", collection())
        .route(
            "/apis/{group}/{version}/namespaces/{namespace}/{plural}",
            collection(),
        )
        .route(
            "/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}",
            item(),
        )
        .route(
            "/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}/status",
            get(read::get),
        )
}
