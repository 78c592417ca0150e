//! Values as Envoy's string matchers.
//!
//! Envoy refuses regular expressions that become large, so a value never stands in one: what a plain matcher cannot say is said
//! by several of them, and where doubt counts as a match ([`Leaning::Match`](model::authz::terms::Leaning)) they may say more.
//!
//! *Invariant:* every regular expression here is a constant.

use model::authz::matching::Pattern;
use pb::header_matcher::HeaderMatchSpecifier;
use pb::string_matcher::MatchPattern;
use xds::pb::envoy::config::rbac::v3::{MetadataSource, SourcedMetadata, principal::Identifier};
use xds::pb::envoy::r#type::matcher::v3 as matcher;

use crate::translate::pb;

fn matching(pattern: MatchPattern) -> pb::StringMatcher {
    pb::StringMatcher {
        match_pattern: Some(pattern),
        ..Default::default()
    }
}

/// A regular expression for the whole text.
pub(super) fn regex(regex: &'static str) -> pb::StringMatcher {
    matching(MatchPattern::SafeRegex(pb::regex(regex)))
}

/// A text somewhere.
pub(super) fn contains(text: impl Into<String>) -> pb::StringMatcher {
    matching(MatchPattern::Contains(text.into()))
}

/// The same, in any case.
pub(super) fn in_any_case(string: pb::StringMatcher) -> pb::StringMatcher {
    pb::StringMatcher {
        ignore_case: true,
        ..string
    }
}

/// A value as it stands.
pub(super) fn string(pattern: Pattern<'_>) -> pb::StringMatcher {
    match pattern {
        Pattern::Present => regex(".+"),
        Pattern::Prefix(text) => matching(MatchPattern::Prefix(text.into())),
        Pattern::Suffix(text) => matching(MatchPattern::Suffix(text.into())),
        Pattern::Exact(text) => matching(MatchPattern::Exact(text.into())),
    }
}

/// A header, or a pseudo-header, with such a value.
pub(super) fn header(name: &str, value: pb::StringMatcher) -> pb::HeaderMatcher {
    pb::HeaderMatcher {
        name: name.into(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(value)),
        ..Default::default()
    }
}

/// A header, whatever its value.
pub(super) fn header_present(name: &str) -> pb::HeaderMatcher {
    pb::HeaderMatcher {
        name: name.into(),
        header_match_specifier: Some(HeaderMatchSpecifier::PresentMatch(true)),
        ..Default::default()
    }
}

/// SPIFFE IDs without their scheme; all of these must match.
pub(super) fn spiffe(pattern: Pattern<'_>) -> Vec<pb::StringMatcher> {
    let scheme = "spiffe://";
    match pattern {
        Pattern::Present => vec![string(Pattern::Prefix(scheme))],
        Pattern::Prefix(text) => vec![string(Pattern::Prefix(&format!("{scheme}{text}")))],
        Pattern::Exact(text) => vec![string(Pattern::Exact(&format!("{scheme}{text}")))],
        Pattern::Suffix(_) => vec![string(Pattern::Prefix(scheme)), string(pattern)],
    }
}

/// The SPIFFE IDs of a namespace: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
pub(super) fn namespace(pattern: Pattern<'_>) -> pb::StringMatcher {
    contains(match pattern {
        Pattern::Present => "/ns/".to_owned(),
        Pattern::Prefix(text) => format!("/ns/{text}"),
        Pattern::Suffix(text) => format!("{text}/sa/"),
        Pattern::Exact(text) => format!("/ns/{text}/sa/"),
    })
}

/// The SPIFFE ID of a service account, in any trust domain.
pub(super) fn account((namespace, name): (&str, &str)) -> pb::StringMatcher {
    string(Pattern::Suffix(&format!("/ns/{namespace}/sa/{name}")))
}

/// What a filter noted of the request.
pub(super) fn metadata(filter: &str, path: &[&str], value: matcher::ValueMatcher) -> Identifier {
    use matcher::metadata_matcher::{PathSegment, path_segment::Segment};
    let path = path.iter().map(|name| PathSegment {
        segment: Some(Segment::Key((*name).into())),
    });
    Identifier::SourcedMetadata(SourcedMetadata {
        metadata_matcher: Some(matcher::MetadataMatcher {
            filter: filter.into(),
            path: path.collect(),
            value: Some(value),
            ..Default::default()
        }),
        metadata_source: MetadataSource::Dynamic.into(),
    })
}

/// A text in metadata.
pub(super) fn value(string: pb::StringMatcher) -> matcher::ValueMatcher {
    matcher::ValueMatcher {
        match_pattern: Some(matcher::value_matcher::MatchPattern::StringMatch(string)),
    }
}

/// A text in metadata, or in a list of them.
pub(super) fn one_of(string: pb::StringMatcher) -> matcher::ValueMatcher {
    use matcher::{list_matcher, value_matcher::MatchPattern};
    let list = matcher::ListMatcher {
        match_pattern: Some(list_matcher::MatchPattern::OneOf(Box::new(value(
            string.clone(),
        )))),
    };
    let list = matcher::ValueMatcher {
        match_pattern: Some(MatchPattern::ListMatch(Box::new(list))),
    };
    let value_matchers = vec![list, value(string)];
    matcher::ValueMatcher {
        match_pattern: Some(MatchPattern::OrMatch(matcher::OrMatcher { value_matchers })),
    }
}
