//! Header operations: `Headers` to what Envoy adds and removes (`TranslateHeadersOperations`).
//!
//! *Invariant:* `host` and pseudo headers are never among them; setting the authority becomes a rewrite of the host.

use std::collections::BTreeMap;

use model::spec::{HeaderOperations, Headers};
use pb::header_value_option::HeaderAppendAction;

use crate::translate::pb;

/// What a `headers` block does.
#[derive(Debug, Default)]
pub(super) struct Operations {
    pub(super) request_to_add: Vec<pb::HeaderValueOption>,
    pub(super) request_to_remove: Vec<String>,
    pub(super) response_to_add: Vec<pb::HeaderValueOption>,
    pub(super) response_to_remove: Vec<String>,
    /// The authority that was set; `set` beats `add`.
    pub(super) authority: Option<String>,
}

/// Reads a `headers` block.
pub(super) fn operations(headers: Option<&Headers>) -> Operations {
    let request = headers.and_then(|headers| headers.request.as_ref());
    let response = headers.and_then(|headers| headers.response.as_ref());
    Operations {
        request_to_add: request.map(additions).unwrap_or_default(),
        request_to_remove: request.map(removals).unwrap_or_default(),
        response_to_add: response.map(additions).unwrap_or_default(),
        response_to_remove: response.map(removals).unwrap_or_default(),
        authority: request.and_then(|it| authority(&it.set).or_else(|| authority(&it.add))),
    }
}

/// `set` first, so that an `add` of the same header comes on top of it.
fn additions(operations: &HeaderOperations) -> Vec<pb::HeaderValueOption> {
    let set = options(&operations.set, HeaderAppendAction::OverwriteIfExistsOrAdd);
    let add = options(&operations.add, HeaderAppendAction::AppendIfExistsOrAdd);
    set.chain(add).collect()
}

fn options(
    headers: &BTreeMap<String, String>,
    action: HeaderAppendAction,
) -> impl Iterator<Item = pb::HeaderValueOption> {
    headers
        .iter()
        .filter(|(name, _)| !is_internal(name))
        .map(move |(name, value)| pb::HeaderValueOption {
            header: Some(pb::HeaderValue {
                key: name.clone(),
                value: value.clone(),
                ..Default::default()
            }),
            append_action: action.into(),
            ..Default::default()
        })
}

fn removals(operations: &HeaderOperations) -> Vec<String> {
    operations
        .remove
        .iter()
        .filter(|name| !is_internal(name))
        .cloned()
        .collect()
}

fn authority(headers: &BTreeMap<String, String>) -> Option<String> {
    let names_it =
        |name: &str| name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host");
    headers
        .iter()
        .find(|(name, _)| names_it(name))
        .map(|(_, value)| value.clone())
}

/// Headers that Envoy does not let itself be told to change.
fn is_internal(name: &str) -> bool {
    name.starts_with(':') || name.eq_ignore_ascii_case("host")
}
