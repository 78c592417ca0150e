//! Delegation: a route of a root VirtualService with the routes of the VirtualService it delegates to, merged.
//!
//! As Istio's `mergeHTTPRoutes`: what the delegate leaves open the root fills in, and a delegate's route whose conditions are
//! not contained in the root's is left out.
//!
//! *Invariant:* a merged route matches no request that the root's route would not match.

use std::collections::BTreeMap;

use model::delegation::contains;
use model::spec::{HeaderMatch, HttpMatchRequest, HttpRoute};

type Matches = BTreeMap<String, HeaderMatch>;

/// The routes that stand in the place of `root`.
pub(crate) fn merge(root: &HttpRoute, delegate: &[HttpRoute]) -> Vec<HttpRoute> {
    delegate
        .iter()
        .filter_map(|route| merge_route(root, route))
        .collect()
}

fn merge_route(root: &HttpRoute, delegate: &HttpRoute) -> Option<HttpRoute> {
    let merged = delegate.clone();
    Some(HttpRoute {
        matches: merge_matches(&root.matches, &delegate.matches)?,
        name: joined(&root.name, &delegate.name),
        rewrite: merged.rewrite.or_else(|| root.rewrite.clone()),
        timeout: merged.timeout.or(root.timeout),
        retries: merged.retries.or_else(|| root.retries.clone()),
        fault: merged.fault.or_else(|| root.fault.clone()),
        mirror: merged.mirror.or_else(|| root.mirror.clone()),
        mirror_percentage: merged.mirror_percentage.or(root.mirror_percentage),
        mirror_percent: merged.mirror_percent.or(root.mirror_percent),
        mirrors: if merged.mirrors.is_empty() {
            root.mirrors.clone()
        } else {
            merged.mirrors
        },
        cors_policy: merged.cors_policy.or_else(|| root.cors_policy.clone()),
        headers: merged.headers.or_else(|| root.headers.clone()),
        delegate: None,
        ..merged
    })
}

/// Every match of the delegate with every match of the root that contains it; `None` when one of the delegate's is contained
/// in none.
fn merge_matches(
    root: &[HttpMatchRequest],
    delegate: &[HttpMatchRequest],
) -> Option<Vec<HttpMatchRequest>> {
    if root.is_empty() || delegate.is_empty() {
        return Some(if root.is_empty() {
            delegate.to_vec()
        } else {
            root.to_vec()
        });
    }
    let mut merged = Vec::new();
    for inner in delegate {
        let before = merged.len();
        merged.extend(
            root.iter()
                .filter(|it| contains(it, inner))
                .map(|it| merge_match(it, inner)),
        );
        if merged.len() == before {
            return None;
        }
    }
    Some(merged)
}

fn merge_match(root: &HttpMatchRequest, delegate: &HttpMatchRequest) -> HttpMatchRequest {
    let merged = delegate.clone();
    HttpMatchRequest {
        name: joined(&root.name, &delegate.name),
        uri: merged.uri.or_else(|| root.uri.clone()),
        scheme: merged.scheme.or_else(|| root.scheme.clone()),
        method: merged.method.or_else(|| root.method.clone()),
        authority: merged.authority.or_else(|| root.authority.clone()),
        headers: union(&root.headers, merged.headers),
        without_headers: union(&root.without_headers, merged.without_headers),
        query_params: union(&root.query_params, merged.query_params),
        port: merged.port.or(root.port),
        // Conditions on the proxy belong to the root: they hold for what it delegates too.
        gateways: if merged.gateways.is_empty() {
            root.gateways.clone()
        } else {
            merged.gateways
        },
        source_labels: root
            .source_labels
            .clone()
            .into_iter()
            .chain(merged.source_labels)
            .collect(),
        source_namespace: merged
            .source_namespace
            .or_else(|| root.source_namespace.clone()),
        ..merged
    }
}

fn union(root: &Matches, delegate: Matches) -> Matches {
    root.clone().into_iter().chain(delegate).collect()
}

fn joined(root: &Option<String>, delegate: &Option<String>) -> Option<String> {
    match (root, delegate) {
        (Some(root), Some(delegate)) => Some(format!("{root}-{delegate}")),
        (root, delegate) => delegate.clone().or_else(|| root.clone()),
    }
}

#[cfg(test)]
mod tests;
