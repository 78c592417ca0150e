//! HTTP matches that an earlier route takes already.
//!
//! *Invariant:* what is said to be unreachable is; what is not said may be too (regular expressions are not compared).

use crate::spec::{HttpMatchRequest, HttpRoute, StringMatch};
use crate::validate::{Findings, Path};

pub(super) fn routes(routes: &[HttpRoute], path: &Path, findings: &mut Findings) {
    let mut earlier: Vec<(Path, &HttpMatchRequest)> = Vec::new();
    for (path, route) in path.each("http", routes) {
        let matches: Vec<_> = path.each("match", &route.matches).collect();
        for (path, one) in &matches {
            // A catch-all is spoken of by the validation.
            let by = (earlier.iter()).find(|(_, first)| !catches_all(first) && covers(first, one));
            if let Some((first, _)) = by {
                findings.warn(path, format!("is never reached: {first} matches first"));
            }
        }
        earlier.extend(matches);
    }
}

fn catches_all(one: &HttpMatchRequest) -> bool {
    let slash = StringMatch::Prefix("/".into());
    *one == HttpMatchRequest {
        name: one.name.clone(),
        uri: one.uri.clone().filter(|uri| *uri == slash),
        ..HttpMatchRequest::default()
    }
}

/// Whether everything that `one` matches, `first` matches too.
fn covers(first: &HttpMatchRequest, one: &HttpMatchRequest) -> bool {
    let neutral = |of: &HttpMatchRequest, uri: Option<StringMatch>| HttpMatchRequest {
        name: None,
        stat_prefix: None,
        uri,
        ..of.clone()
    };
    let conditions_alike = neutral(first, None) == neutral(one, None);
    let only_uri = neutral(first, None)
        == HttpMatchRequest {
            ignore_uri_case: first.ignore_uri_case,
            ..HttpMatchRequest::default()
        };
    let wider = only_uri && first.ignore_uri_case == one.ignore_uri_case;
    if !(conditions_alike || wider) {
        return false;
    }
    match (&first.uri, &one.uri) {
        (None, _) => true,
        (
            Some(StringMatch::Prefix(prefix)),
            Some(StringMatch::Prefix(path) | StringMatch::Exact(path)),
        ) => path.starts_with(prefix),
        (a, b) => a == b,
    }
}
