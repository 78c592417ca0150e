//! The terms of a rule as permissions (what is called) and principals (who calls).
//!
//! *Invariant:* a value that cannot be read, which nobody can write, allows nothing and denies everything.

use model::authz::matching::{
    Pattern, is_exact_path, literal_parts, request_principal, service_account,
};
use model::authz::template::{self, is_template};
use model::authz::terms::{Attribute, Leaning, Meaning, Term};
use xds::pb::envoy::config::core::v3::CidrRange;
use xds::pb::envoy::config::rbac::v3::{Permission, Policy, Principal, permission, principal};
use xds::pb::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use xds::pb::envoy::r#type::matcher::v3 as matcher;

use super::matchers::{self, string};
use super::{At, Clients, headers};
use crate::listener::cidr_range;
use crate::translate::{jwt, pb};
use permission::Rule;
use principal::Identifier;

/// A rule of a policy.
pub(super) fn policy(meaning: &Meaning<'_>, leaning: Leaning, at: At<'_>) -> Policy {
    let permissions = meaning.operations.iter().map(|terms| {
        let rules = terms.iter().flat_map(|term| {
            both(term, leaning, &|value, leaning| {
                permission(&term.attribute, value, leaning)
            })
        });
        all_rules(rules.collect())
    });
    let principals = meaning.sources.iter().map(|terms| {
        let ids = terms.iter().flat_map(|term| {
            both(term, leaning, &|value, leaning| {
                principal(&term.attribute, value, leaning, at)
            })
        });
        all_ids(ids.collect())
    });
    Policy {
        permissions: permissions.collect(),
        principals: principals.collect(),
        ..Default::default()
    }
}

/// Something that Envoy can combine.
pub(super) trait Combine: Sized {
    fn anything() -> Self;
    fn any_of(these: Vec<Self>) -> Self;
    fn not(this: Self) -> Self;
}

impl Combine for Permission {
    fn anything() -> Self {
        rule(Rule::Any(true))
    }
    fn any_of(rules: Vec<Self>) -> Self {
        rule(Rule::OrRules(permission::Set { rules }))
    }
    fn not(this: Self) -> Self {
        rule(Rule::NotRule(Box::new(this)))
    }
}

impl Combine for Principal {
    fn anything() -> Self {
        id(Identifier::Any(true))
    }
    fn any_of(ids: Vec<Self>) -> Self {
        id(Identifier::OrIds(principal::Set { ids }))
    }
    fn not(this: Self) -> Self {
        id(Identifier::NotId(Box::new(this)))
    }
}

/// A term: one of the values, none of the others.
fn both<T: Combine>(
    term: &Term<'_>,
    leaning: Leaning,
    translate: &dyn Fn(&str, Leaning) -> T,
) -> Vec<T> {
    let any = |values: &[String], leaning| {
        let these: Vec<T> = values
            .iter()
            .map(|value| translate(value, leaning))
            .collect();
        (!these.is_empty()).then(|| T::any_of(these))
    };
    let not = any(term.not_values, leaning.negated()).map(T::not);
    any(term.values, leaning).into_iter().chain(not).collect()
}

fn unreadable<T: Combine>(leaning: Leaning) -> T {
    match leaning {
        Leaning::Match => T::anything(),
        Leaning::NoMatch => T::not(T::anything()),
    }
}

fn rule(rule: Rule) -> Permission {
    Permission { rule: Some(rule) }
}

pub(super) fn id(identifier: Identifier) -> Principal {
    Principal {
        identifier: Some(identifier),
    }
}

fn all_rules(rules: Vec<Permission>) -> Permission {
    if rules.is_empty() {
        rule(Rule::Any(true))
    } else {
        rule(Rule::AndRules(permission::Set { rules }))
    }
}

pub(super) fn all_ids(ids: Vec<Principal>) -> Principal {
    if ids.is_empty() {
        id(Identifier::Any(true))
    } else {
        id(Identifier::AndIds(principal::Set { ids }))
    }
}

fn permission(attribute: &Attribute<'_>, value: &str, leaning: Leaning) -> Permission {
    let pattern = Pattern::of(value);
    let rule_of = match attribute {
        Attribute::DestinationIp => cidr_range(value).map(Rule::DestinationIp),
        Attribute::DestinationPort => value.parse().ok().map(Rule::DestinationPort),
        Attribute::Sni => Some(Rule::RequestedServerName(string(pattern))),
        Attribute::Method if pattern == Pattern::Present => {
            Some(Rule::Header(matchers::header_present(":method")))
        }
        Attribute::Method => Some(Rule::Header(matchers::header(":method", string(pattern)))),
        Attribute::Host => return host(pattern, leaning),
        Attribute::Path => return path(value, leaning),
        _ => None,
    };
    rule_of.map_or_else(|| unreadable(leaning), rule)
}

/// One colon, and nothing but a port after it.
const WITH_PORT: &str = "[^:]*:[0-9]*";

/// A byte that stands in no host and port, or a second colon.
const ODD_HOST: &str = r"\C*(?:[^a-zA-Z0-9._:\-\[\]]|:\C*:)\C*";

/// A host in any case, with a port or without, with a dot at its end or without.
fn host(pattern: Pattern<'_>, leaning: Leaning) -> Permission {
    let authority = |string| {
        let string = matchers::in_any_case(string);
        rule(Rule::Header(matchers::header(":authority", string)))
    };
    let with_port = |string| {
        let only_port = matchers::header(":authority", matchers::regex(WITH_PORT));
        let only_port = rule(Rule::Header(only_port));
        all_rules(vec![authority(string), only_port])
    };
    let mut rules = match pattern {
        Pattern::Present => return rule(Rule::Header(matchers::header_present(":authority"))),
        Pattern::Prefix(_) => vec![authority(string(pattern))],
        Pattern::Exact(text) => vec![
            authority(string(pattern)),
            authority(string(Pattern::Exact(&format!("{text}.")))),
            with_port(string(Pattern::Prefix(&format!("{text}:")))),
            with_port(string(Pattern::Prefix(&format!("{text}.:")))),
        ],
        Pattern::Suffix(text) => vec![
            authority(string(pattern)),
            authority(string(Pattern::Suffix(&format!("{text}.")))),
            with_port(matchers::contains(format!("{text}:"))),
            with_port(matchers::contains(format!("{text}.:"))),
        ],
    };
    // What stands in no host (`@`, a comma) is for each server to make something of.
    if let (Leaning::Match, Pattern::Exact(text) | Pattern::Prefix(text) | Pattern::Suffix(text)) =
        (leaning, pattern)
    {
        let odd = rule(Rule::Header(matchers::header(
            ":authority",
            matchers::regex(ODD_HOST),
        )));
        rules.push(all_rules(vec![odd, authority(matchers::contains(text))]));
    }
    Permission::any_of(rules)
}

/// A byte that Envoy's templates do not take for part of a segment.
const ODD: &str = r"\C*[^a-zA-Z0-9\-._~%!$&'()+,:@=/]\C*";

fn path(value: &str, leaning: Leaning) -> Permission {
    let url_path = |string| {
        rule(Rule::UrlPath(matcher::PathMatcher {
            rule: Some(matcher::path_matcher::Rule::Path(string)),
        }))
    };
    if template::check(value).is_err() {
        return unreadable(leaning);
    }
    let pattern = Pattern::of(value);
    let plain = if is_template(value) {
        let config = UriTemplateMatchConfig {
            // Envoy writes the wildcards without braces.
            path_template: value.replace("{**}", "**").replace("{*}", "*"),
        };
        rule(Rule::UriTemplate(pb::TypedExtensionConfig {
            name: "uri-template".into(),
            typed_config: Some(pb::any(&config)),
        }))
    } else {
        url_path(string(pattern))
    };
    let contains = |text: &str| url_path(matchers::in_any_case(matchers::contains(text)));
    let hidden_dots = ["/.;", "/..;", "/.%3b", "/..%3b"].map(contains);
    match leaning {
        _ if pattern == Pattern::Present => plain,
        Leaning::NoMatch if is_exact_path(value) => plain,
        Leaning::NoMatch => all_rules(vec![
            plain,
            Permission::not(Permission::any_of(hidden_dots.into())),
        ]),
        Leaning::Match => {
            let mut doubtful = vec![contains(";"), contains("%3b")];
            if is_template(value) {
                doubtful.push(url_path(matchers::regex(ODD)));
            }
            let doubtful = Permission::any_of(doubtful);
            let parts = literal_parts(value).map(|part| url_path(matchers::contains(part)));
            let in_doubt = all_rules([doubtful].into_iter().chain(parts).collect());
            let rules = [plain, in_doubt].into_iter().chain(hidden_dots);
            Permission::any_of(rules.collect())
        }
    }
}

fn principal(attribute: &Attribute<'_>, value: &str, leaning: Leaning, at: At<'_>) -> Principal {
    let pattern = Pattern::of(value);
    let authenticated = |name| {
        Identifier::Authenticated(principal::Authenticated {
            principal_name: Some(name),
        })
    };
    let at_home = |name| {
        let Some(home) = at.home else {
            return id(name);
        };
        let home = authenticated(string(Pattern::Prefix(&format!("{}/", home.id()))));
        all_ids([home, name].map(id).into())
    };
    let claim = |path: &[&str]| Some(claim(path, matchers::one_of(string(pattern))));
    let identifier = match attribute {
        Attribute::SourceIp => cidr_range(value).map(Identifier::DirectRemoteIp),
        Attribute::RemoteIp => match cidr_range(value) {
            Some(range) => return client(range, at.clients),
            None => None,
        },
        Attribute::SourcePrincipal => {
            let names = matchers::spiffe(pattern).into_iter();
            return all_ids(names.map(|name| id(authenticated(name))).collect());
        }
        Attribute::SourceNamespace => {
            return at_home(authenticated(matchers::namespace(pattern)));
        }
        Attribute::SourceServiceAccount => {
            let account = matchers::account(service_account(value, at.namespace));
            return at_home(authenticated(account));
        }
        Attribute::RequestPrincipal => {
            let (issuer, subject) = request_principal(value);
            let ids = [("iss", issuer), ("sub", subject)];
            let ids = ids.map(|(name, pattern)| id(claim_text(name, pattern)));
            Some(Identifier::AndIds(principal::Set { ids: ids.into() }))
        }
        Attribute::RequestAudiences => claim(&["aud"]),
        Attribute::RequestPresenter => claim(&["azp"]),
        Attribute::RequestClaim(path) => claim(path),
        Attribute::RequestHeader(name) => {
            return headers::principal(name, pattern, leaning, at.notes);
        }
        _ => None,
    };
    identifier.map_or_else(|| unreadable(leaning), id)
}

/// The client's address, from the header only if the peer is trusted with it.
fn client(range: CidrRange, clients: &Clients) -> Principal {
    let seen = |range| id(Identifier::DirectRemoteIp(range));
    match clients {
        Clients::Seen => id(Identifier::RemoteIp(range)),
        Clients::Told(None) => seen(range),
        Clients::Told(Some(trusted)) => {
            let name = Some(string(Pattern::Prefix(trusted)));
            let trusted = id(Identifier::Authenticated(principal::Authenticated {
                principal_name: name,
            }));
            let told = id(Identifier::RemoteIp(range.clone()));
            Principal::any_of(vec![
                all_ids(vec![trusted.clone(), told]),
                all_ids(vec![Principal::not(trusted), seen(range)]),
            ])
        }
    }
}

fn claim_text(name: &str, pattern: Pattern<'_>) -> Identifier {
    claim(&[name], matchers::value(string(pattern)))
}

/// A claim of the token that was verified.
fn claim(path: &[&str], value: matcher::ValueMatcher) -> Identifier {
    let path: Vec<&str> = std::iter::once(jwt::PAYLOAD)
        .chain(path.iter().copied())
        .collect();
    matchers::metadata(jwt::FILTER, &path, value)
}
