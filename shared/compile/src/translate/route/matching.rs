//! Conditions of a route: `HTTPMatchRequest` to `RouteMatch`. All of one match must hold.
//!
//! *Invariant:* conditions that are decided before a request comes (gateways, source, port) are not here.

use std::collections::BTreeMap;

use model::spec::{HeaderMatch, HttpMatchRequest, StringMatch};
use pb::header_matcher::HeaderMatchSpecifier;
use pb::query_parameter_matcher::QueryParameterMatchSpecifier;
use pb::route_match::PathSpecifier;
use pb::string_matcher::MatchPattern;

use crate::translate::pb;

/// The match of a route; without a condition, every request.
pub(super) fn route_match(condition: Option<&HttpMatchRequest>) -> pb::RouteMatch {
    let Some(condition) = condition else {
        return pb::RouteMatch {
            path_specifier: path(None),
            ..Default::default()
        };
    };
    pb::RouteMatch {
        path_specifier: path(condition.uri.as_ref()),
        case_sensitive: Some(pb::BoolValue {
            value: !condition.ignore_uri_case,
        }),
        headers: headers(condition),
        query_parameters: query_parameters(&condition.query_params),
        ..Default::default()
    }
}

/// A matcher of strings; `None` for what any string fulfils: then only presence counts.
pub(crate) fn string_matcher(wanted: &StringMatch) -> Option<pb::StringMatcher> {
    let pattern = match wanted {
        StringMatch::Exact(exact) => MatchPattern::Exact(exact.clone()),
        StringMatch::Prefix(prefix) if prefix.is_empty() => return None,
        StringMatch::Prefix(prefix) => MatchPattern::Prefix(prefix.clone()),
        // `*` is no RE2 expression; Istio reads it as "present".
        StringMatch::Regex(regex) if regex.as_str() == "*" => return None,
        StringMatch::Regex(regex) => MatchPattern::SafeRegex(pb::regex(regex.as_str())),
    };
    Some(pb::StringMatcher {
        match_pattern: Some(pattern),
        ..Default::default()
    })
}

fn path(uri: Option<&StringMatch>) -> Option<PathSpecifier> {
    Some(match uri {
        None => PathSpecifier::Prefix("/".into()),
        Some(StringMatch::Exact(path)) => PathSpecifier::Path(path.clone()),
        Some(StringMatch::Prefix(prefix)) => PathSpecifier::Prefix(prefix.clone()),
        Some(StringMatch::Regex(regex)) => PathSpecifier::SafeRegex(pb::regex(regex.as_str())),
    })
}

/// `headers` and `withoutHeaders` by name, then what HTTP/2 keeps in pseudo headers.
fn headers(condition: &HttpMatchRequest) -> Vec<pb::HeaderMatcher> {
    let with = condition
        .headers
        .iter()
        .map(|(name, wanted)| header(name, wanted.string_match().as_ref()));
    let without = condition
        .without_headers
        .iter()
        .map(|(name, wanted)| without_header(name, wanted.string_match().as_ref()));
    let mut headers: Vec<_> = with.chain(without).collect();
    headers.sort_by(|a, b| a.name.cmp(&b.name));
    let pseudo = [
        (":method", &condition.method),
        (":authority", &condition.authority),
        (":scheme", &condition.scheme),
    ];
    let pseudo = pseudo
        .into_iter()
        .filter_map(|(name, wanted)| Some((name, wanted.as_ref()?)));
    headers.extend(pseudo.map(|(name, wanted)| header(name, Some(wanted))));
    headers
}

fn header(name: &str, wanted: Option<&StringMatch>) -> pb::HeaderMatcher {
    let specifier = match wanted.and_then(string_matcher) {
        Some(matcher) => HeaderMatchSpecifier::StringMatch(matcher),
        None => HeaderMatchSpecifier::PresentMatch(true),
    };
    pb::HeaderMatcher {
        name: name.into(),
        header_match_specifier: Some(specifier),
        ..Default::default()
    }
}

/// A request without the header is one whose header does not match, so absence counts as empty; for a presence match Envoy
/// forbids saying so.
fn without_header(name: &str, unwanted: Option<&StringMatch>) -> pb::HeaderMatcher {
    let header = header(name, unwanted);
    let presence = matches!(
        header.header_match_specifier,
        Some(HeaderMatchSpecifier::PresentMatch(_))
    );
    pb::HeaderMatcher {
        invert_match: true,
        treat_missing_header_as_empty: !presence,
        ..header
    }
}

fn query_parameters(wanted: &BTreeMap<String, HeaderMatch>) -> Vec<pb::QueryParameterMatcher> {
    let matcher = |(name, wanted): (&String, &HeaderMatch)| {
        let specifier = match wanted.string_match().as_ref().and_then(string_matcher) {
            Some(matcher) => QueryParameterMatchSpecifier::StringMatch(matcher),
            None => QueryParameterMatchSpecifier::PresentMatch(true),
        };
        pb::QueryParameterMatcher {
            name: name.clone(),
            query_parameter_match_specifier: Some(specifier),
        }
    };
    wanted.iter().map(matcher).collect()
}

#[cfg(test)]
mod tests;
