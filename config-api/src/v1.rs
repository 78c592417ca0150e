//! `/v1`: what Kubernetes has no word for.
//!
//! *Invariant:* nothing here can change a resource in a way that the Kubernetes side would refuse.

mod apply;
mod authority;
mod authz;
pub(crate) mod batch;
mod bootstrap;
mod credentials;
mod documents;
mod heartbeat;
mod history;
mod mtls;
pub(crate) mod openapi;
mod preview;
mod proxies;
pub(crate) mod rollouts;
mod shards;

use axum::routing::{delete, get, post, put};

use crate::access::{Needs, Role, Routes};

/// Where heartbeats go.
pub(crate) const HEARTBEAT: &str = "/v1/namespaces/{namespace}/workloads/{name}/heartbeat";

/// The routes of `/v1`.
pub(crate) fn routes() -> Routes {
    let (viewer, editor) = (
        Needs::Somewhere(Role::Viewer),
        Needs::Somewhere(Role::Editor),
    );
    let only = |role| Needs::Role {
        read: role,
        write: role,
    };
    Routes::default()
        .route(
            "/v1/openapi.json",
            Needs::Identity,
            get(crate::k8s::openapi::ours),
        )
        .route("/v1/apply", editor, post(apply::apply))
        .route("/v1/diff", viewer, post(apply::diff))
        .route("/v1/authz/check", viewer, post(authz::check))
        .route("/v1/history", viewer, get(history::all))
        .route(
            "/v1/history/{kind}/{namespace}/{name}",
            only(Role::Viewer),
            get(history::of_kind),
        )
        .route(
            "/v1/history/{group}/{kind}/{namespace}/{name}",
            only(Role::Viewer),
            get(history::of_group),
        )
        .route(
            "/v1/ca",
            Needs::Role {
                read: Role::Viewer,
                write: Role::Admin,
            },
            get(authority::status).post(authority::ask),
        )
        .route("/v1/rollback", editor, post(history::rollback))
        .route("/v1/mtls", viewer, get(mtls::list))
        .route("/v1/mtls/{service}", viewer, get(mtls::one))
        .route("/v1/rollouts", viewer, get(rollouts::list))
        .route("/v1/rollouts/{revision}", viewer, get(rollouts::one))
        .route(
            "/v1/rollouts/{revision}/continue",
            editor,
            rollouts::end(rollouts::End::Continue),
        )
        .route(
            "/v1/rollouts/{revision}/abort",
            editor,
            rollouts::end(rollouts::End::Abort),
        )
        .route("/v1/proxies", viewer, get(proxies::list))
        .route("/v1/proxies/{id}", viewer, get(proxies::one))
        .route("/v1/proxies/{id}/config", viewer, get(proxies::config))
        .route("/v1/shards", viewer, get(shards::list))
        .route(
            "/v1/namespaces/{namespace}/workloads/{name}/bootstrap",
            // A bootstrap is what a workload proves its identity with.
            only(Role::Admin),
            get(bootstrap::bootstrap).post(bootstrap::bootstrap),
        )
        .route(
            "/v1/namespaces/{namespace}/workloads/{name}/credentials",
            only(Role::Admin),
            get(credentials::list).delete(credentials::revoke_all),
        )
        .route(
            "/v1/namespaces/{namespace}/workloads/{name}/credentials/{id}",
            only(Role::Admin),
            delete(credentials::revoke_one),
        )
        .route(
            HEARTBEAT,
            only(Role::Editor),
            put(heartbeat::beat).delete(heartbeat::beat),
        )
}
