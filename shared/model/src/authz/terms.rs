//! Rules taken apart: alternatives of sources and of operations, each of terms that must all hold.
//!
//! Source: Istio's `pilot/pkg/security/authz/model`.
//!
//! *Invariant:* whoever evaluates or translates a rule goes through [`Meaning::of`], so that all agree on what it says.

use super::call::Call;
use crate::spec::{AuthorizationAction, AuthorizationRule, Operation, Source};

/// In which way doubt counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaning {
    /// What may match does: it is about to be denied.
    Match,
    /// What may not match does not: it is about to be allowed.
    NoMatch,
}

impl Leaning {
    /// The leaning of the rules of a policy.
    pub fn of(action: AuthorizationAction) -> Self {
        match action {
            AuthorizationAction::Allow => Self::NoMatch,
            AuthorizationAction::Deny
            | AuthorizationAction::Audit
            | AuthorizationAction::Custom => Self::Match,
        }
    }

    /// The leaning of what is negated.
    #[must_use]
    pub fn negated(self) -> Self {
        match self {
            Self::Match => Self::NoMatch,
            Self::NoMatch => Self::Match,
        }
    }
}

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Requests.
    Http,
    /// Connections, of which the attributes of requests are not known.
    Tcp,
}

impl Protocol {
    /// What is looked at in a call.
    pub(super) fn of(call: &Call) -> Self {
        if call.http.is_some() {
            Self::Http
        } else {
            Self::Tcp
        }
    }
}

/// Something that is known of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as in Istio's conditions")]
pub enum Attribute<'a> {
    SourceIp,
    RemoteIp,
    SourceNamespace,
    SourcePrincipal,
    SourceServiceAccount,
    RequestPrincipal,
    RequestAudiences,
    RequestPresenter,
    /// A claim, perhaps in others.
    RequestClaim(Vec<&'a str>),
    RequestHeader(&'a str),
    DestinationIp,
    DestinationPort,
    Sni,
    Host,
    Path,
    Method,
}

impl<'a> Attribute<'a> {
    /// The attribute of a `when` condition, if there is one.
    pub fn of_key(key: &'a str) -> Option<Self> {
        Some(match key {
            "source.ip" => Self::SourceIp,
            "remote.ip" => Self::RemoteIp,
            "source.namespace" => Self::SourceNamespace,
            "source.principal" => Self::SourcePrincipal,
            "source.serviceAccount" => Self::SourceServiceAccount,
            "request.auth.principal" => Self::RequestPrincipal,
            "request.auth.audiences" => Self::RequestAudiences,
            "request.auth.presenter" => Self::RequestPresenter,
            "destination.ip" => Self::DestinationIp,
            "destination.port" => Self::DestinationPort,
            "connection.sni" => Self::Sni,
            _ => {
                let (name, rest) = key.split_once('[')?;
                let parts: Vec<&str> = rest.strip_suffix(']')?.split("][").collect();
                let plain = |part: &&str| !part.is_empty() && !part.contains(['[', ']']);
                match (name, parts.as_slice()) {
                    (_, parts) if !parts.iter().all(plain) => return None,
                    ("request.headers", [header]) => Self::RequestHeader(header),
                    ("request.auth.claims", _) => Self::RequestClaim(parts),
                    _ => return None,
                }
            }
        })
    }

    /// Whether it is of requests, and unknown of connections.
    pub fn is_http(&self) -> bool {
        match self {
            Self::RequestPrincipal
            | Self::RequestAudiences
            | Self::RequestPresenter
            | Self::RequestClaim(_)
            | Self::RequestHeader(_)
            | Self::Host
            | Self::Path
            | Self::Method => true,
            Self::SourceIp
            | Self::RemoteIp
            | Self::SourceNamespace
            | Self::SourcePrincipal
            | Self::SourceServiceAccount
            | Self::DestinationIp
            | Self::DestinationPort
            | Self::Sni => false,
        }
    }

    /// Whether it is of what is called, rather than of who calls.
    pub fn is_of_operation(&self) -> bool {
        matches!(
            self,
            Self::DestinationIp
                | Self::DestinationPort
                | Self::Sni
                | Self::Host
                | Self::Path
                | Self::Method
        )
    }
}

/// Holds if the attribute has one of the values, if there are any, and none of the other values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term<'a> {
    /// What is looked at.
    pub attribute: Attribute<'a>,
    /// One of these, unless there are none.
    pub values: &'a [String],
    /// None of these.
    pub not_values: &'a [String],
}

/// A rule taken apart: one of the sources and one of the operations must hold; each holds if all of its terms do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning<'a> {
    /// Who calls.
    pub sources: Vec<Vec<Term<'a>>>,
    /// What is called.
    pub operations: Vec<Vec<Term<'a>>>,
}

impl<'a> Meaning<'a> {
    /// What a rule means for requests or for connections. A rule that asks about something that is not known is left out
    /// (`None`) if it would allow; the question is left out if the rule would deny.
    pub fn of(rule: &'a AuthorizationRule, leaning: Leaning, protocol: Protocol) -> Option<Self> {
        let mut known = true;
        let (mut of_source, mut of_operation) = (Vec::new(), Vec::new());
        for condition in rule.when.iter().flatten() {
            let Some(attribute) = Attribute::of_key(&condition.key) else {
                known = false;
                continue;
            };
            let to = if attribute.is_of_operation() {
                &mut of_operation
            } else {
                &mut of_source
            };
            to.push(Term {
                attribute,
                values: &condition.values,
                not_values: &condition.not_values,
            });
        }
        let mut sources: Vec<Vec<Term<'a>>> = (rule.from.iter().flatten())
            .map(|from| [source(&from.source), of_source.clone()].concat())
            .collect();
        if sources.is_empty() {
            sources.push(of_source);
        }
        let mut operations: Vec<Vec<Term<'a>>> = (rule.to.iter().flatten())
            .map(|to| [operation(&to.operation), of_operation.clone()].concat())
            .collect();
        if operations.is_empty() {
            operations.push(of_operation);
        }
        for terms in sources.iter_mut().chain(&mut operations) {
            terms.retain(|term| !term.values.is_empty() || !term.not_values.is_empty());
            let before = terms.len();
            terms.retain(|term| protocol == Protocol::Http || !term.attribute.is_http());
            known &= terms.len() == before;
        }
        (known || leaning == Leaning::Match).then_some(Self {
            sources,
            operations,
        })
    }
}

fn source(source: &Source) -> Vec<Term<'_>> {
    let term = |attribute, values, not_values| Term {
        attribute,
        values,
        not_values,
    };
    vec![
        term(
            Attribute::SourcePrincipal,
            &source.principals,
            &source.not_principals,
        ),
        term(
            Attribute::RequestPrincipal,
            &source.request_principals,
            &source.not_request_principals,
        ),
        term(
            Attribute::SourceNamespace,
            &source.namespaces,
            &source.not_namespaces,
        ),
        term(
            Attribute::SourceServiceAccount,
            &source.service_accounts,
            &source.not_service_accounts,
        ),
        term(
            Attribute::SourceIp,
            &source.ip_blocks,
            &source.not_ip_blocks,
        ),
        term(
            Attribute::RemoteIp,
            &source.remote_ip_blocks,
            &source.not_remote_ip_blocks,
        ),
    ]
}

fn operation(operation: &Operation) -> Vec<Term<'_>> {
    let term = |attribute, values, not_values| Term {
        attribute,
        values,
        not_values,
    };
    vec![
        term(Attribute::Host, &operation.hosts, &operation.not_hosts),
        term(
            Attribute::Method,
            &operation.methods,
            &operation.not_methods,
        ),
        term(Attribute::Path, &operation.paths, &operation.not_paths),
        term(
            Attribute::DestinationPort,
            &operation.ports,
            &operation.not_ports,
        ),
    ]
}
