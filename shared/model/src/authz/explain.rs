//! Why a call is allowed or denied: every policy, rule by rule, term by term.
//!
//! *Invariant:* a rule matches here exactly if it does for the verdict: both ask the terms.

use std::fmt;

use super::Policy;
use super::call::Call;
use super::terms::{Attribute, Leaning, Meaning, Protocol, Term};

/// A rule of a policy, and what a call is to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its place in the policy.
    pub at: usize,
    /// Whether it matches.
    pub matches: bool,
    /// Whether it is left out, because it would allow by something that connections do not have.
    pub left_out: bool,
    /// Who calls: one of these must hold, each with all of its terms.
    pub sources: Vec<Vec<Explained>>,
    /// What is called: the same.
    pub operations: Vec<Vec<Explained>>,
}

/// A term, and what a call is to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// What is looked at, as in Istio's conditions.
    pub attribute: String,
    /// One of these, unless there are none.
    pub values: Vec<String>,
    /// None of these.
    pub not_values: Vec<String>,
    /// What the call has; none if it has no such thing.
    pub found: Option<String>,
    /// Whether the term holds.
    pub holds: bool,
}

/// What a call is to every rule of a policy.
pub fn rules(policy: &Policy<'_>, call: &Call) -> Vec<Rule> {
    let (leaning, protocol) = (Leaning::of(policy.spec.action), Protocol::of(call));
    let explained = |terms: &Vec<Term<'_>>| -> Vec<Explained> {
        let one = |term: &Term<'_>| Explained {
            attribute: term.attribute.to_string(),
            values: term.values.to_vec(),
            not_values: term.not_values.to_vec(),
            found: term.attribute.found(call),
            holds: term.holds(call, leaning, policy.place()),
        };
        terms.iter().map(one).collect()
    };
    let rules = policy.spec.rules.iter().enumerate();
    let rules = rules.map(|(at, rule)| {
        let Some(meaning) = Meaning::of(rule, leaning, protocol) else {
            return Rule {
                at,
                matches: false,
                left_out: true,
                sources: Vec::new(),
                operations: Vec::new(),
            };
        };
        Rule {
            at,
            matches: meaning.matches(call, leaning, policy.place()),
            left_out: false,
            sources: meaning.sources.iter().map(explained).collect(),
            operations: meaning.operations.iter().map(explained).collect(),
        }
    });
    rules.collect()
}

impl fmt::Display for Attribute<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SourceIp => "source.ip",
            Self::RemoteIp => "remote.ip",
            Self::SourceNamespace => "source.namespace",
            Self::SourcePrincipal => "source.principal",
            Self::SourceServiceAccount => "source.serviceAccount",
            Self::RequestPrincipal => "request.auth.principal",
            Self::RequestAudiences => "request.auth.audiences",
            Self::RequestPresenter => "request.auth.presenter",
            Self::RequestClaim(path) => {
                return write!(f, "request.auth.claims[{}]", path.join("]["));
            }
            Self::RequestHeader(name) => return write!(f, "request.headers[{name}]"),
            Self::DestinationIp => "destination.ip",
            Self::DestinationPort => "destination.port",
            Self::Sni => "connection.sni",
            Self::Host => "request.host",
            Self::Path => "request.path",
            Self::Method => "request.method",
        })
    }
}

impl Attribute<'_> {
    /// What a call has of it.
    fn found(&self, call: &Call) -> Option<String> {
        let http = call.http.as_ref();
        let claims = http.and_then(|http| http.claims.as_ref());
        let claim = |path: &[&str]| {
            let found = path.iter().try_fold(claims?, |value, name| value.get(name));
            found.map(|it| it.as_str().map_or_else(|| it.to_string(), String::from))
        };
        match self {
            Self::SourceIp => Some(call.source_ip.to_string()),
            Self::RemoteIp => Some(call.remote_ip.to_string()),
            Self::DestinationIp => Some(call.destination_ip.to_string()),
            Self::DestinationPort => Some(call.destination_port.to_string()),
            Self::SourceNamespace | Self::SourcePrincipal | Self::SourceServiceAccount => {
                call.principal.clone()
            }
            Self::RequestPrincipal => Some(format!("{}/{}", claim(&["iss"])?, claim(&["sub"])?)),
            Self::RequestAudiences => claim(&["aud"]),
            Self::RequestPresenter => claim(&["azp"]),
            Self::RequestClaim(path) => claim(path),
            Self::RequestHeader(name) => {
                let given = http?.headers.iter();
                let given = given.filter(|(own, _)| own.eq_ignore_ascii_case(name));
                let values: Vec<&str> = given.map(|(_, value)| value.as_str()).collect();
                (!values.is_empty()).then(|| values.join(","))
            }
            Self::Sni => call.sni.clone(),
            Self::Host => http.map(|http| http.host.clone()),
            Self::Path => http.map(|http| http.path.clone()),
            Self::Method => http.map(|http| http.method.clone()),
        }
    }
}
