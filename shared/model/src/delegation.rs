//! Whether a delegate's route is within the route that delegates to it.
//!
//! Source: Istio's `mergeHTTPRoutes` and `hasConflict`.
//!
//! *Invariant:* conditions on the proxy (gateways, labels, namespace) belong to the root and are not compared.

use crate::spec::{HeaderMatch, HttpMatchRequest, StringMatch};

/// The first match of a delegate's route that no match of the root's route contains: the delegate's route is left out there.
pub fn stray(root: &[HttpMatchRequest], delegate: &[HttpMatchRequest]) -> Option<usize> {
    let within = |inner: &HttpMatchRequest| root.iter().any(|outer| contains(outer, inner));
    delegate
        .iter()
        .position(|inner| !root.is_empty() && !within(inner))
}

/// Whether a delegate's match only narrows the root's.
pub fn contains(root: &HttpMatchRequest, delegate: &HttpMatchRequest) -> bool {
    let strings = [
        (&root.uri, &delegate.uri),
        (&root.scheme, &delegate.scheme),
        (&root.method, &delegate.method),
        (&root.authority, &delegate.authority),
    ];
    let maps = [
        (&root.headers, &delegate.headers),
        (&root.headers, &delegate.without_headers),
        (&root.query_params, &delegate.query_params),
    ];
    strings
        .iter()
        .all(|(root, inner)| narrows(root.as_ref(), inner.as_ref()))
        && maps.iter().all(|(root, inner)| {
            inner.iter().all(|(name, inner)| {
                narrows(
                    root.get(name).and_then(HeaderMatch::string_match).as_ref(),
                    inner.string_match().as_ref(),
                )
            })
        })
        && root.ignore_uri_case == delegate.ignore_uri_case
        && (root.port.is_none() || delegate.port.is_none() || root.port == delegate.port)
}

fn narrows(root: Option<&StringMatch>, delegate: Option<&StringMatch>) -> bool {
    let (Some(root), Some(delegate)) = (root, delegate) else {
        return true;
    };
    match (root, delegate) {
        (StringMatch::Exact(root), StringMatch::Exact(delegate)) => root == delegate,
        (
            StringMatch::Prefix(root),
            StringMatch::Prefix(delegate) | StringMatch::Exact(delegate),
        ) => delegate.starts_with(root.as_str()),
        // Whether one regular expression contains another cannot be told: Istio takes it as a conflict.
        _ => false,
    }
}
