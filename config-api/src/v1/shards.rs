//! `GET /v1/shards`: the live pushers, and which nodes each of them serves.
//!
//! *Invariant:* a pusher that did not answer is named; a node is shown to those who may see its namespace.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use pusher_api::v1::{GetShardRequest, Shard};
use serde_json::{Value, json};
use store::Member;

use super::proxies::{respond, sees};
use crate::app::App;
use crate::http::negotiate::Accept;
use crate::http::status::Result;
use crate::identity::Caller;

pub(super) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response> {
    let accept = Accept::of(&headers, &[])?;
    let answers = app
        .pushers
        .ask(|mut pusher| async move { pusher.get_shard(GetShardRequest {}).await })
        .await;
    let shards: Vec<Value> = answers
        .answered
        .iter()
        .map(|(member, answer)| shard(&caller, member, answer))
        .collect();
    let body = json!({"shards": shards, "silent": answers.silent});
    Ok(respond(accept, &body, &answers.silent))
}

fn shard(caller: &Caller, member: &Member, shard: &Shard) -> Value {
    let replica = shard.replica.clone().unwrap_or_default();
    let seen = |nodes: &[String]| -> Vec<String> {
        let seen = nodes.iter().filter(|node| sees(caller, node));
        seen.cloned().collect()
    };
    json!({
        "instance": member.instance, "addresses": member.addresses, "revision": replica.revision,
        "watching": replica.watching, "version": replica.version, "streams": replica.streams,
        "passedStreams": replica.passed_streams, "queued": replica.queued,
        "nodes": seen(&shard.nodes), "misplaced": seen(&shard.misplaced),
    })
}
