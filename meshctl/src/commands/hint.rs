//! What may have been meant when something does not exist.
//!
//! *Invariant:* a hint that cannot be found out changes nothing about the error.

use super::Context;
use crate::client::Request;
use crate::error::Error;
use crate::render::{items, text};
use crate::target::{Target, nearest};

/// The error, and if it says that a named resource does not exist, where it is or which name is nearest.
pub(super) async fn not_found(
    context: &Context<'_>,
    here: &str,
    target: &Target,
    error: Error,
) -> Error {
    let (Error::Client(refused), Some(name)) = (&error, &target.name) else {
        return error;
    };
    if !refused.is_not_found() {
        return error;
    }
    let everywhere = Request::get(&target.resource.path(None, None)).with("limit", "500");
    let Ok(list) = context.client.send(everywhere).await else {
        return error;
    };
    let of = |v: &serde_json::Value| {
        (
            text(&v["metadata"]["namespace"]),
            text(&v["metadata"]["name"]),
        )
    };
    let known: Vec<(String, String)> = items(&list.body["items"]).iter().map(of).collect();
    let (namespaced, what) = (target.resource.namespaced(), target.resource.qualified());
    let elsewhere: Vec<&str> = known
        .iter()
        .filter(|(_, n)| n == name)
        .map(|(ns, _)| ns.as_str())
        .collect();
    let near = nearest(
        name,
        known
            .iter()
            .filter(|(ns, _)| !namespaced || ns == here)
            .map(|(_, n)| n.clone()),
    );
    let place = if namespaced {
        format!(" in namespace {here}")
    } else {
        String::new()
    };
    let advice = match (elsewhere.as_slice(), near) {
        ([namespace, ..], _) => format!("; there is one in namespace {namespace} (-n {namespace})"),
        ([], Some(near)) => format!("; did you mean {near:?}?"),
        ([], None) => String::new(),
    };
    Error::Failed(format!("there is no {what} {name:?}{place}{advice}"))
}
