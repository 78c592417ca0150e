//! AuthorizationPolicies as Envoy's RBAC filters: one filter for each action, in the order in which they decide.
//!
//! Source: Istio's `pilot/pkg/security/authz/builder`.
//!
//! *Invariant:* a policy that cannot be translated in whole denies more than it says, never less.

pub(crate) mod ext_authz;
mod headers;
mod matchers;
mod terms;

use model::TrustDomain;
use model::authz::Policy;
use model::authz::terms::{Leaning, Meaning, Protocol};
use model::spec::AuthorizationAction;
use xds::pb::envoy::config::rbac::v3 as rbac;
use xds::pb::envoy::extensions::filters::http::rbac::v3 as http_rbac;
use xds::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use xds::pb::envoy::extensions::filters::network::rbac::v3 as network_rbac;

use crate::listener::{self, Filter};
use crate::translate::pb;
use rbac::rbac::Action;

/// The HTTP filter; its results are dynamic metadata under this name.
const HTTP_FILTER: &str = "envoy.filters.http.rbac";
const NETWORK_FILTER: &str = "envoy.filters.network.rbac";
/// What statistics and metadata of policies that decide nothing begin with.
const AUDIT_PREFIX: &str = "audit_";
const DRY_RUN_ALLOW_PREFIX: &str = "istio_dry_run_allow_";
const DRY_RUN_DENY_PREFIX: &str = "istio_dry_run_deny_";

/// Where headers are noted for policies: `CUSTOM` ones are applied before the others, and what they ask may change headers.
const NOTES: &str = "weft.headers";
const CUSTOM_NOTES: &str = "weft.headers.custom";

/// How a proxy knows the address of the client that a request comes from.
///
/// Envoy takes the last entry of `x-forwarded-for` for it. At the edge Envoy has written that entry itself; beside a workload
/// the peer has, and may have made it up.
#[derive(Clone, Debug)]
pub(crate) enum Clients {
    /// The proxy is the edge: as Envoy says.
    Seen,
    /// The proxy is beside a workload: as peers say whose SPIFFE IDs begin with this, and for all others their own address.
    Told(Option<String>),
}

/// Where a rule stands.
#[derive(Clone, Copy)]
struct At<'a> {
    /// How the client's address is known.
    clients: &'a Clients,
    /// The namespace of its policy.
    namespace: &'a str,
    /// Whose namespaces and service accounts it means.
    home: Option<&'a TrustDomain>,
    /// Where headers are noted for it.
    notes: &'static str,
}

/// Rules that decide, and rules that are only counted, under a prefix.
#[derive(Default)]
struct Rules {
    enforced: Option<rbac::Rbac>,
    shadow: Option<(rbac::Rbac, &'static str)>,
}

/// The HTTP filters of policies, `CUSTOM` ones apart.
pub(crate) fn http_filters(policies: &[Policy<'_>], clients: &Clients) -> Vec<HttpFilter> {
    let others = policies.iter().filter(|it| !is_custom(it));
    let notes = headers::notes(others, NOTES).into_iter();
    let rules = steps(policies, Protocol::Http, clients).into_iter();
    notes.chain(rules.map(http_filter)).collect()
}

/// The network filters of policies, `CUSTOM` ones apart.
pub(crate) fn network_filters(policies: &[Policy<'_>]) -> Vec<Filter> {
    // A connection has no header.
    let rules = steps(policies, Protocol::Tcp, &Clients::Seen).into_iter();
    rules.map(network_filter).collect()
}

/// The actions in the order in which they decide.
fn steps(policies: &[Policy<'_>], protocol: Protocol, clients: &Clients) -> Vec<Rules> {
    let of = |action, dry_run| {
        let policies = policies.iter();
        let these: Vec<_> = policies
            .filter(|it| it.spec.action == action && it.dry_run == dry_run)
            .collect();
        (!these.is_empty()).then(|| rules(&these, action, protocol, clients))
    };
    let audit = Rules {
        enforced: None,
        shadow: of(AuthorizationAction::Audit, false).map(|rules| (rules, AUDIT_PREFIX)),
    };
    let deny = Rules {
        enforced: of(AuthorizationAction::Deny, false),
        shadow: of(AuthorizationAction::Deny, true).map(|rules| (rules, DRY_RUN_DENY_PREFIX)),
    };
    let allow = Rules {
        enforced: of(AuthorizationAction::Allow, false),
        shadow: of(AuthorizationAction::Allow, true).map(|rules| (rules, DRY_RUN_ALLOW_PREFIX)),
    };
    let steps = [audit, deny, allow].into_iter();
    steps
        .filter(|it| it.enforced.is_some() || it.shadow.is_some())
        .collect()
}

fn http_filter(rules: Rules) -> HttpFilter {
    let (shadow, prefix) = rules.shadow.unzip();
    let config = http_rbac::Rbac {
        rules: rules.enforced,
        shadow_rules: shadow,
        shadow_rules_stat_prefix: prefix.unwrap_or_default().into(),
        ..Default::default()
    };
    listener::http_extension(HTTP_FILTER, pb::any(&config))
}

fn network_filter(rules: Rules) -> Filter {
    let (shadow, prefix) = rules.shadow.unzip();
    let config = network_rbac::Rbac {
        rules: rules.enforced,
        shadow_rules: shadow,
        shadow_rules_stat_prefix: prefix.unwrap_or_default().into(),
        stat_prefix: "tcp.".into(),
        ..Default::default()
    };
    listener::filter(NETWORK_FILTER, pb::any(&config))
}

/// The rules of policies of one action. No rule at all allows nothing, and denies nothing.
fn rules(
    policies: &[&Policy<'_>],
    action: AuthorizationAction,
    protocol: Protocol,
    clients: &Clients,
) -> rbac::Rbac {
    let leaning = Leaning::of(action);
    let mut translated = std::collections::HashMap::new();
    for policy in policies {
        for (index, rule) in policy.spec.rules.iter().enumerate() {
            if let Some(meaning) = Meaning::of(rule, leaning, protocol) {
                let at = At {
                    clients,
                    namespace: &policy.key.namespace,
                    home: policy.home.as_ref(),
                    notes: if is_custom(policy) {
                        CUSTOM_NOTES
                    } else {
                        NOTES
                    },
                };
                let rule = terms::policy(&meaning, leaning, at);
                translated.insert(rule_name(policy, index), rule);
            }
        }
    }
    let action = match action {
        AuthorizationAction::Allow => Action::Allow,
        AuthorizationAction::Deny | AuthorizationAction::Audit | AuthorizationAction::Custom => {
            Action::Deny
        }
    };
    rbac::Rbac {
        action: action.into(),
        policies: translated,
        ..Default::default()
    }
}

fn is_custom(policy: &Policy<'_>) -> bool {
    policy.spec.action == AuthorizationAction::Custom
}

/// The name of a rule, as in Istio: `ns[default]-policy[p]-rule[0]`.
fn rule_name(policy: &Policy<'_>, at: usize) -> String {
    let (namespace, name) = (&policy.key.namespace, &policy.key.name);
    format!("ns[{namespace}]-policy[{name}]-rule[{at}]")
}
