//! What AuthorizationPolicies mean: which of them decide a request or connection, and how.
//!
//! `CUSTOM` policies come first: their provider is asked. Then a matching `DENY` policy denies; then, if there is any `ALLOW`
//! policy, one must match. What a policy matches is in [`terms`]; what values mean in [`matching`].
//!
//! Where it is in doubt whether something matches (path parameters, which some servers ignore; headers that are given
//! twice), it counts in the way that does not let the request through.
//!
//! *Invariant:* nothing here knows Envoy.

pub mod call;
pub mod explain;
pub mod matching;
pub mod path;
pub mod template;
pub mod terms;

#[cfg(test)]
mod tests;

use crate::spec::{AuthorizationAction, AuthorizationPolicy};
use crate::{Key, TrustDomain};
use call::Call;
use terms::{Leaning, Meaning, Protocol};

/// The annotation of a policy that is to be tried out: it is counted, and decides nothing.
const DRY_RUN: &str = "istio.io/dry-run";

/// Whether a policy with these annotations is to be tried out only.
pub fn is_dry_run(metadata: &crate::Metadata) -> bool {
    metadata
        .annotations
        .get(DRY_RUN)
        .is_some_and(|value| matches!(value.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"))
}

/// A policy that holds for the workload.
#[derive(Clone, Debug)]
pub struct Policy<'a> {
    /// Its name.
    pub key: Key,
    /// Whether it is to be tried out only.
    pub dry_run: bool,
    /// What it says.
    pub spec: &'a AuthorizationPolicy,
    /// The mesh's own trust domain where others are federated: then namespaces and service accounts of callers are its own,
    /// and workloads of the others have principals only.
    pub home: Option<TrustDomain>,
}

impl Policy<'_> {
    fn place(&self) -> matching::Place<'_> {
        matching::Place {
            namespace: &self.key.namespace,
            home: self.home.as_ref(),
        }
    }
}

/// A rule of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleId {
    /// The policy.
    pub policy: Key,
    /// The place of the rule in it.
    pub rule: usize,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It reaches the workload.
    Allowed,
    /// It does not.
    Denied,
}

/// The verdict on a call, and what led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What becomes of it, once every provider that is asked has allowed it.
    pub outcome: Outcome,
    /// The rule that decided; none if no `ALLOW` rule matched, or if there is no `ALLOW` policy.
    pub by: Option<RuleId>,
    /// The providers that are asked, with the rule that says so.
    pub asked: Vec<(String, RuleId)>,
    /// The `AUDIT` rules that matched.
    pub audited: Vec<RuleId>,
}

/// The verdict of the policies that hold for a workload.
pub fn verdict(policies: &[Policy<'_>], call: &Call) -> Verdict {
    let in_force = |action| {
        policies
            .iter()
            .filter(move |policy| !policy.dry_run && policy.spec.action == action)
    };
    let matching = |action| in_force(action).flat_map(|policy| matched(policy, call));
    let asked = in_force(AuthorizationAction::Custom).flat_map(|policy| {
        let provider = policy.spec.provider.as_ref();
        let name = provider.map_or_else(String::new, |provider| provider.name.clone());
        matched(policy, call).map(move |rule| (name.clone(), rule))
    });
    let (outcome, by) = if let Some(rule) = matching(AuthorizationAction::Deny).next() {
        (Outcome::Denied, Some(rule))
    } else if in_force(AuthorizationAction::Allow).next().is_none() {
        (Outcome::Allowed, None)
    } else {
        match matching(AuthorizationAction::Allow).next() {
            Some(rule) => (Outcome::Allowed, Some(rule)),
            None => (Outcome::Denied, None),
        }
    };
    Verdict {
        outcome,
        by,
        asked: asked.collect(),
        audited: matching(AuthorizationAction::Audit).collect(),
    }
}

/// The rules of a policy that match a call.
fn matched<'a>(policy: &'a Policy<'_>, call: &'a Call) -> impl Iterator<Item = RuleId> + 'a {
    let protocol = Protocol::of(call);
    let leaning = Leaning::of(policy.spec.action);
    let rules = policy.spec.rules.iter().enumerate();
    rules
        .filter(move |(_, rule)| {
            Meaning::of(rule, leaning, protocol)
                .is_some_and(|meaning| meaning.matches(call, leaning, policy.place()))
        })
        .map(|(at, _)| RuleId {
            policy: policy.key.clone(),
            rule: at,
        })
}
