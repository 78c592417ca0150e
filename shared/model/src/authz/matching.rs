//! What the values of terms match.
//!
//! *Invariant:* a value that cannot be read matches nothing.

use std::net::IpAddr;

use serde_json::Value;

use super::call::{Call, Http};
use super::template::{self, is_literal, is_template};
use super::terms::{Attribute, Leaning, Meaning, Term};
use crate::TrustDomain;

/// A value as Istio reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern<'a> {
    /// `*`: anything but nothing.
    Present,
    /// `abc*`.
    Prefix(&'a str),
    /// `*abc`.
    Suffix(&'a str),
    /// `abc`.
    Exact(&'a str),
}

impl<'a> Pattern<'a> {
    /// Reads a value.
    pub fn of(value: &'a str) -> Self {
        match (value.strip_prefix('*'), value.strip_suffix('*')) {
            (Some(""), _) => Self::Present,
            (Some(suffix), _) => Self::Suffix(suffix),
            (None, Some(prefix)) => Self::Prefix(prefix),
            (None, None) => Self::Exact(value),
        }
    }

    /// Whether a text matches.
    pub fn matches(self, text: &str) -> bool {
        match self {
            Self::Present => !text.is_empty(),
            Self::Prefix(prefix) => text.starts_with(prefix),
            Self::Suffix(suffix) => text.ends_with(suffix),
            Self::Exact(exact) => text == exact,
        }
    }
}

/// The patterns of issuer and subject that a value for request principals stands for, `<issuer>/<subject>`.
pub fn request_principal(value: &str) -> (Pattern<'_>, Pattern<'_>) {
    // The issuer may be a URL.
    let parts = value.rsplit_once('/');
    match (Pattern::of(value), parts) {
        (Pattern::Present, _) => (Pattern::Present, Pattern::Present),
        (Pattern::Suffix(_), Some((issuer, subject))) => {
            (Pattern::of(issuer), Pattern::Exact(subject))
        }
        (Pattern::Suffix(suffix), None) => (Pattern::Present, Pattern::Suffix(suffix)),
        (Pattern::Prefix(_), Some((issuer, subject))) => {
            (Pattern::Exact(issuer), Pattern::of(subject))
        }
        (Pattern::Prefix(prefix), None) => (Pattern::Prefix(prefix), Pattern::Present),
        (Pattern::Exact(_), Some((issuer, subject))) => {
            (Pattern::Exact(issuer), Pattern::Exact(subject))
        }
        (Pattern::Exact(issuer), None) => (Pattern::Exact(issuer), Pattern::Exact("")),
    }
}

/// Namespace and name of a service account as a policy of a namespace names it.
pub fn service_account<'a>(value: &'a str, namespace: &'a str) -> (&'a str, &'a str) {
    value.split_once('/').unwrap_or((namespace, value))
}

/// Where a policy is.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) namespace: &'a str,
    /// Whose namespaces and service accounts it means; anybody's if there is no other trust domain.
    pub(super) home: Option<&'a TrustDomain>,
}

impl Meaning<'_> {
    /// Whether a call matches the rule of a policy at this place.
    pub(super) fn matches(&self, call: &Call, leaning: Leaning, place: Place<'_>) -> bool {
        let holds = |terms: &Vec<Term<'_>>| {
            let mut terms = terms.iter();
            terms.all(|term| term.holds(call, leaning, place))
        };
        self.sources.iter().any(holds) && self.operations.iter().any(holds)
    }
}

impl Term<'_> {
    pub(super) fn holds(&self, call: &Call, leaning: Leaning, place: Place<'_>) -> bool {
        let one = |values: &[String], leaning| {
            values
                .iter()
                .any(|value| self.attribute.has(value, call, leaning, place))
        };
        (self.values.is_empty() || one(self.values, leaning))
            && !one(self.not_values, leaning.negated())
    }
}

impl Attribute<'_> {
    fn has(&self, value: &str, call: &Call, leaning: Leaning, place: Place<'_>) -> bool {
        let pattern = Pattern::of(value);
        let http = call.http.as_ref();
        let claims = http.and_then(|http| http.claims.as_ref());
        let principal = call.principal.as_deref();
        match self {
            Self::SourceIp => contains(value, call.source_ip),
            Self::RemoteIp => contains(value, call.remote_ip),
            Self::DestinationIp => contains(value, call.destination_ip),
            Self::DestinationPort => value.parse() == Ok(call.destination_port),
            Self::Sni => call.sni.as_deref().is_some_and(|sni| pattern.matches(sni)),
            Self::SourcePrincipal => principal.is_some_and(|principal| pattern.matches(principal)),
            Self::SourceNamespace => {
                identity(principal, place.home).is_some_and(|(own, _)| pattern.matches(own))
            }
            Self::SourceServiceAccount => {
                identity(principal, place.home) == Some(service_account(value, place.namespace))
            }
            Self::RequestPrincipal => {
                let (issuer, subject) = request_principal(value);
                let text = |name: &str| claims?.get(name)?.as_str();
                text("iss").is_some_and(|text| issuer.matches(text))
                    && text("sub").is_some_and(|text| subject.matches(text))
            }
            Self::RequestAudiences => claim(claims, &["aud"], pattern),
            Self::RequestPresenter => claim(claims, &["azp"], pattern),
            Self::RequestClaim(path) => claim(claims, path, pattern),
            Self::RequestHeader(name) => {
                http.is_some_and(|http| header(http, name, pattern, leaning))
            }
            Self::Host => http.is_some_and(|http| host(&http.host, value, leaning)),
            Self::Path => http.is_some_and(|http| path(&http.path, value, leaning)),
            Self::Method => http.is_some_and(|http| pattern.matches(&http.method)),
        }
    }
}

fn contains(block: &str, address: IpAddr) -> bool {
    match block.parse::<ipnet::IpNet>() {
        Ok(block) => block.contains(&address),
        Err(_) => block.parse() == Ok(address),
    }
}

/// Namespace and service account of a principal; none of one of another trust domain than `home`.
fn identity<'a>(
    principal: Option<&'a str>,
    home: Option<&TrustDomain>,
) -> Option<(&'a str, &'a str)> {
    let (of, rest) = principal?.split_once("/ns/")?;
    if home.is_some_and(|home| home.as_str() != of) {
        return None;
    }
    rest.split_once("/sa/")
}

fn claim(claims: Option<&Value>, path: &[&str], pattern: Pattern<'_>) -> bool {
    let found = path
        .iter()
        .try_fold(claims, |value, name| value.map(|value| value.get(name)));
    match found.flatten() {
        Some(Value::String(text)) => pattern.matches(text),
        Some(Value::Array(items)) => items
            .iter()
            .any(|item| item.as_str().is_some_and(|text| pattern.matches(text))),
        _ => false,
    }
}

fn header(http: &Http, name: &str, pattern: Pattern<'_>, leaning: Leaning) -> bool {
    let values = http
        .headers
        .iter()
        .filter(|(own, _)| own.eq_ignore_ascii_case(name));
    let values: Vec<&str> = values.map(|(_, value)| value.as_str()).collect();
    if values.is_empty() {
        return false;
    }
    match leaning {
        _ if pattern == Pattern::Present => true,
        Leaning::NoMatch => {
            let joined = values.join(",");
            pattern.matches(&joined) && !(splits(name, pattern) && joined.contains(','))
        }
        Leaning::Match => {
            let parts = values.iter().flat_map(|value| value.split(','));
            let mut parts = values.iter().copied().chain(parts.map(str::trim));
            parts.any(|value| pattern.matches(value))
        }
    }
}

/// Whether a comma in a header tells values apart that the pattern may not be meant for. Not in `User-Agent`, whose one value
/// may have commas, and of which Envoy hands on only one.
pub fn splits(name: &str, pattern: Pattern<'_>) -> bool {
    let open = matches!(pattern, Pattern::Prefix(_) | Pattern::Suffix(_));
    open && !name.eq_ignore_ascii_case("user-agent")
}

/// Whether a host, perhaps with a port, a trailing dot, or both, is meant by a value.
fn host(host: &str, value: &str, leaning: Leaning) -> bool {
    let (host, value) = (host.to_ascii_lowercase(), value.to_ascii_lowercase());
    let pattern = Pattern::of(&value);
    let odd = |b: u8| !b.is_ascii_alphanumeric() && !b"._:-[]".contains(&b);
    if let (Leaning::Match, Pattern::Exact(text) | Pattern::Prefix(text) | Pattern::Suffix(text)) =
        (leaning, pattern)
        && (host.bytes().any(odd) || host.matches(':').count() > 1)
        && host.contains(text)
    {
        return true;
    }
    let bare = match host.split_once(':') {
        Some((bare, port)) if port.bytes().all(|b| b.is_ascii_digit()) => bare,
        _ => &host,
    };
    let dotless = bare.strip_suffix('.').unwrap_or(bare);
    pattern.matches(&host)
        || (!matches!(pattern, Pattern::Prefix(_))
            && (pattern.matches(bare) || pattern.matches(dotless)))
}

fn path(path: &str, value: &str, leaning: Leaning) -> bool {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let pattern = Pattern::of(value);
    if pattern == Pattern::Present {
        return !path.is_empty();
    }
    let plain = if is_template(value) {
        template::matches(path, value)
    } else {
        pattern.matches(path)
    };
    // To servers that ignore parameters, such a segment is one or two dots, and leads elsewhere.
    let plain_semicolons = path.to_ascii_lowercase().replace("%3b", ";");
    let hides_dots = plain_semicolons.contains("/.;") || plain_semicolons.contains("/..;");
    let odd = |b: u8| is_template(value) && b != b'/' && !is_literal(b);
    match leaning {
        Leaning::NoMatch => plain && (is_exact_path(value) || !hides_dots),
        Leaning::Match => {
            let in_doubt = plain_semicolons.contains(';') || path.bytes().any(odd);
            plain || hides_dots || (in_doubt && literal_parts(value).all(|it| path.contains(it)))
        }
    }
}

/// Whether a value for paths means one path.
pub fn is_exact_path(value: &str) -> bool {
    !is_template(value) && matches!(Pattern::of(value), Pattern::Exact(_))
}

/// The parts that a path must have to match a value, whatever stands between them: each segment with its slash.
pub fn literal_parts(value: &str) -> impl Iterator<Item = &str> {
    let text = if is_template(value) {
        value
    } else {
        value.trim_matches('*')
    };
    let slashes = text.match_indices('/').map(|(at, _)| at);
    let starts: Vec<usize> = std::iter::once(0).chain(slashes).collect();
    let ends = starts.clone().into_iter().skip(1).chain([text.len()]);
    let parts: Vec<&str> = starts
        .into_iter()
        .zip(ends)
        .map(|(a, b)| &text[a..b])
        .collect();
    parts
        .into_iter()
        .filter(|part| !part.is_empty() && *part != "/" && !part.contains('{'))
}
