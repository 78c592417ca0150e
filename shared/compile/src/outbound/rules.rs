//! The DestinationRules of one host and namespace, as one.
//!
//! *Invariant:* of two rules that both say something the older prevails, and the younger is told.

use std::collections::{BTreeMap, BTreeSet};

use model::mesh::View;
use model::spec::{Subset, TrafficPolicy};
use model::{Key, Spec};

use crate::part::Report;
use crate::translate::policy;

/// Several DestinationRules as one: subsets united, the oldest top-level policy.
#[derive(Default)]
pub(crate) struct Rules<'m> {
    /// The rule whose policy holds, or else the oldest.
    pub(crate) first: Option<Key>,
    policy: Option<&'m TrafficPolicy>,
    subsets: BTreeMap<&'m str, &'m Subset>,
    none: BTreeMap<String, String>,
    /// What the authors should know.
    pub(crate) reports: BTreeSet<Report>,
}

impl<'m> Rules<'m> {
    /// Reads rules, the oldest first.
    pub(crate) fn read(keys: &[Key], view: &mut View<'m, '_>) -> Self {
        let mut rules = Self {
            first: keys.first().cloned(),
            ..Self::default()
        };
        let mut policy_of: Option<&Key> = None;
        for key in keys {
            let Some(Spec::DestinationRule(spec)) =
                view.resource(key).map(|resource| &resource.spec)
            else {
                continue;
            };
            match (&spec.traffic_policy, policy_of) {
                (Some(policy), None) => {
                    rules.policy = Some(policy);
                    rules.first = Some(key.clone());
                    policy_of = Some(key);
                }
                (Some(_), Some(older)) => rules.tell(key, "spec.trafficPolicy", older),
                (None, _) => {}
            }
            for (at, subset) in spec.subsets.iter().enumerate() {
                if rules.subsets.contains_key(subset.name.as_str()) {
                    rules.tell(
                        key,
                        &format!("spec.subsets[{at}].name {:?}", subset.name),
                        &keys[0],
                    );
                } else {
                    rules.subsets.insert(&subset.name, subset);
                }
            }
        }
        rules
    }

    fn tell(&mut self, key: &Key, what: &str, older: &Key) {
        let message = format!(
            "{what}: the older DestinationRule {}/{} of the same host says it already and is in force",
            older.namespace, older.name
        );
        self.reports.insert(Report {
            key: key.clone(),
            message,
        });
    }

    /// Whether there is a subset.
    pub(crate) fn has(&self, subset: &str) -> bool {
        subset.is_empty() || self.subsets.contains_key(subset)
    }

    /// Every subset with its labels, and first the nameless one of all endpoints.
    pub(crate) fn subsets_and_all(
        &self,
    ) -> impl Iterator<Item = (&str, &BTreeMap<String, String>)> {
        let named = self
            .subsets
            .iter()
            .map(|(name, subset)| (*name, &subset.labels));
        std::iter::once(("", &self.none)).chain(named)
    }

    /// The policy for a port of a subset, or of all with `""`.
    pub(crate) fn policy(&self, subset: &str, port: u16) -> TrafficPolicy {
        let own = self
            .subsets
            .get(subset)
            .and_then(|subset| subset.traffic_policy.as_ref());
        policy::effective(self.policy, own, port)
    }
}
