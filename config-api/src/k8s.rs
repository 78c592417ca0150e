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
mod review;
mod schema;
mod selector;
pub(crate) mod target;
mod watch;
pub(crate) mod write;

use axum::routing::{get, post};

use crate::access::{Needs, Routes};

/// The routes of the Kubernetes side.
pub(crate) fn routes() -> Routes {
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
    let (known, usual) = (Needs::Identity, Needs::USUAL);
    Routes::default()
        .route("/version", known, get(discovery::version))
        .route("/openapi/v3", known, get(openapi::index))
        .route("/openapi/v3/api/v1", known, get(openapi::core))
        .route("/openapi/v3/v1", known, get(openapi::ours))
        .route(
            "/openapi/v3/apis/{group}/{version}",
            known,
            get(openapi::group_version),
        )
        .route("/api", known, get(discovery::api))
        .route("/api/v1", known, get(discovery::core_v1))
        .route("/api/v1/namespaces", usual, get(core::list_namespaces))
        .route(
            "/api/v1/namespaces/{namespace}",
            usual,
            get(core::get_namespace),
        )
        .route("/api/v1/events", usual, get(core::list_events))
        .route(
            "/api/v1/namespaces/{namespace}/events",
            usual,
            get(core::list_events),
        )
        .route("/apis", known, get(discovery::apis))
        .route("/apis/{group}", known, get(discovery::one_group))
        .route(
            "/apis/{group}/{version}",
            known,
            get(discovery::one_version),
        )
        .route("/apis/{group}/{version}/{plural}", usual, collection())
        .route(
            "/apis/{group}/{version}/namespaces/{namespace}/{plural}",
            usual,
            collection(),
        )
        .route(
            "/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}",
            usual,
            item(),
        )
        .route(
            "/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}/status",
            usual,
            get(read::get),
        )
        .route(
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            known,
            post(review::access),
        )
        .route(
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            known,
            post(review::who),
        )
}
