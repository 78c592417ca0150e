#![allow(clippy::unwrap_used)]

use crate::translate::pb;
use crate::translate::route::tests::{one, rule};

#[test]
fn uri_matches() {
    use pb::route_match::PathSpecifier::{Path, Prefix, SafeRegex};
    let path = |condition: &str| {
        let route = one(&rule(&format!("match: [{{{condition}}}]")));
        let matched = route.r#match.unwrap();
        (
            matched.path_specifier.unwrap(),
            matched.case_sensitive.unwrap().value,
        )
    };
    assert_eq!(path("uri: {exact: /a}"), (Path("/a".into()), true));
    assert_eq!(path("uri: {prefix: /a}"), (Prefix("/a".into()), true));
    assert_eq!(
        path("uri: {regex: '/a/.*'}"),
        (SafeRegex(pb::regex("/a/.*")), true)
    );
    assert_eq!(
        path("uri: {prefix: /a}, ignoreUriCase: true"),
        (Prefix("/a".into()), false)
    );
    assert_eq!(path("method: {exact: GET}"), (Prefix("/".into()), true));
}

#[test]
fn header_matches_are_sorted_and_all_must_hold() {
    let route = one(&rule(
        "match: [{headers: {z: {exact: a}, b: {}, m: {regex: '*'}}, withoutHeaders: {c: {prefix: p}, d: {}}, \
          method: {exact: GET}, authority: {prefix: a}, scheme: {exact: https}}]",
    ));
    use pb::header_matcher::HeaderMatchSpecifier::PresentMatch;
    let seen: Vec<_> = route
        .r#match
        .unwrap()
        .headers
        .into_iter()
        .map(|it| {
            let present = matches!(it.header_match_specifier, Some(PresentMatch(true)));
            (
                it.name,
                present,
                it.invert_match,
                it.treat_missing_header_as_empty,
            )
        })
        .collect();
    let want = [
        ("b", true, false, false),
        ("c", false, true, true),
        ("d", true, true, false),
        ("m", true, false, false),
        ("z", false, false, false),
        (":method", false, false, false),
        (":authority", false, false, false),
        (":scheme", false, false, false),
    ];
    let want: Vec<_> = want
        .map(|(name, a, b, c)| (name.to_owned(), a, b, c))
        .into();
    assert_eq!(seen, want);
}

#[test]
fn query_parameters_match_by_value_or_presence() {
    use pb::query_parameter_matcher::QueryParameterMatchSpecifier::{PresentMatch, StringMatch};
    let route = one(&rule("match: [{queryParams: {a: {exact: x}, b: {}}}]"));
    let parameters = route.r#match.unwrap().query_parameters;
    assert!(matches!(
        parameters[0].query_parameter_match_specifier,
        Some(StringMatch(_))
    ));
    assert!(matches!(
        parameters[1].query_parameter_match_specifier,
        Some(PresentMatch(true))
    ));
}
