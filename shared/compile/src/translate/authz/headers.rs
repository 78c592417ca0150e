//! Headers of requests, which may be given several times: each value may be the one that the workload looks at.
//!
//! Envoy's matchers take a header for what its values are when joined with commas, or, since 1.36.5 and 1.37.1, for any one of
//! them (CVE-2026-26308). To deny, either is enough, with some doubt added. To allow, all values must be known: a filter before
//! the rules notes them, joined, in the metadata of the request, which every Envoy does.
//!
//! *Invariant:* what allows looks at notes only, and at headers only to see whether they are there.

use model::authz::Policy;
use model::authz::matching::{Pattern, splits};
use model::authz::terms::{Attribute, Leaning, Meaning, Protocol, Term};
use xds::pb::envoy::config::rbac::v3::{Principal, principal::Identifier};
use xds::pb::envoy::extensions::filters::http::header_to_metadata::v3::{Config, config};
use xds::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;

use super::matchers::{self, string};
use super::terms::{Combine, all_ids, id};
use crate::listener;
use crate::translate::pb;

/// A comma or a space. HTTP/2 brings the spaces around a value that HTTP/1.1 strips.
const ODD_VALUE: &str = r"\C*[\s,]\C*";

/// A header with such a value, as the filter noted it under `notes`.
pub(super) fn principal(
    name: &str,
    pattern: Pattern<'_>,
    leaning: Leaning,
    notes: &str,
) -> Principal {
    let of = |string| id(Identifier::Header(matchers::header(name, string)));
    let noted = |string| {
        let (path, value) = ([name.to_ascii_lowercase()], matchers::value(string));
        id(matchers::metadata(notes, &[&path[0]], value))
    };
    match (pattern, leaning) {
        (Pattern::Present, _) => id(Identifier::Header(matchers::header_present(name))),
        (_, Leaning::NoMatch) if splits(name, pattern) => all_ids(vec![
            noted(string(pattern)),
            Principal::not(noted(matchers::contains(","))),
        ]),
        (_, Leaning::NoMatch) => noted(string(pattern)),
        (Pattern::Exact(text) | Pattern::Prefix(text) | Pattern::Suffix(text), Leaning::Match) => {
            let several = vec![of(matchers::regex(ODD_VALUE)), of(matchers::contains(text))];
            Principal::any_of(vec![of(string(pattern)), all_ids(several)])
        }
    }
}

/// The filter that notes the headers which the policies look at in order to allow; none if there are none.
pub(super) fn notes<'p>(
    policies: impl IntoIterator<Item = &'p Policy<'p>>,
    notes: &str,
) -> Option<HttpFilter> {
    let mut names: Vec<String> = Vec::new();
    for policy in policies {
        let leaning = Leaning::of(policy.spec.action);
        let rules = policy.spec.rules.iter();
        let meanings = rules.filter_map(|rule| Meaning::of(rule, leaning, Protocol::Http));
        for term in meanings.flat_map(|it| it.sources).flatten() {
            names.extend(noted(&term, leaning));
        }
    }
    names.sort_unstable();
    names.dedup();
    let rules = names.iter().map(|name| config::Rule {
        header: name.clone(),
        on_header_present: Some(config::KeyValuePair {
            metadata_namespace: notes.into(),
            key: name.clone(),
            ..Default::default()
        }),
        ..Default::default()
    });
    let config = Config {
        request_rules: rules.collect(),
        ..Default::default()
    };
    let filter = "envoy.filters.http.header_to_metadata";
    (!names.is_empty()).then(|| listener::http_extension(filter, pb::any(&config)))
}

/// The header of a term, if its values are looked at in order to allow.
fn noted(term: &Term<'_>, leaning: Leaning) -> Option<String> {
    let Attribute::RequestHeader(name) = term.attribute else {
        return None;
    };
    let values = match leaning {
        Leaning::NoMatch => term.values,
        Leaning::Match => term.not_values,
    };
    let looked_at = values.iter().any(|it| Pattern::of(it) != Pattern::Present);
    looked_at.then(|| name.to_ascii_lowercase())
}
