//! The inverted index: for each fact that is a list of resources, that list, the oldest resource first.
//!
//! A resource says under which facts it is listed and with what (its [`Listing`]s); putting one resource in the place of
//! another compares the two sets of listings, and what differs are the facts that changed.
//!
//! *Invariant:* the cost of a change is the number of listings of the resource, never the size of the index.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::{HashMap, OrdMap};

use super::{Age, Exports, Fact, Service};

/// What a list says about one of its resources.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Entry {
    /// That it is there.
    There,
    /// Whom it is exported to.
    Exported(Exports),
    /// A service.
    Service(Arc<Service>),
    /// Which labels it selects; `None` selects everything.
    Selects(Option<BTreeMap<String, String>>),
    /// Words, such as the labels it reads.
    Words(BTreeSet<String>),
}

/// The listings of one resource.
pub(super) type Listings = BTreeMap<Fact, Entry>;

/// Lists of resources by fact.
#[derive(Clone, Debug, Default)]
pub(super) struct Index(HashMap<Fact, OrdMap<Age, Entry>>);

impl Index {
    /// Replaces the listings of a resource, and reports the lists that changed.
    pub(super) fn replace(
        &mut self,
        before: Option<(&Age, &Listings)>,
        after: Option<(&Age, &Listings)>,
    ) -> BTreeSet<Fact> {
        let mut changed = BTreeSet::new();
        if let Some((age, old)) = before {
            for (fact, entry) in old {
                if after.is_none_or(|(new_age, new)| new_age != age || new.get(fact) != Some(entry))
                {
                    self.remove(fact, age);
                    changed.insert(fact.clone());
                }
            }
        }
        if let Some((age, new)) = after {
            for (fact, entry) in new {
                if before
                    .is_none_or(|(old_age, old)| old_age != age || old.get(fact) != Some(entry))
                {
                    self.0
                        .entry(fact.clone())
                        .or_default()
                        .insert(age.clone(), entry.clone());
                    changed.insert(fact.clone());
                }
            }
        }
        changed
    }

    /// The list of a fact, the oldest first.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "a borrowed fact would be captured by the iterator"
    )]
    pub(super) fn list(&self, fact: Fact) -> impl Iterator<Item = (&Age, &Entry)> + use<'_> {
        self.0.get(&fact).into_iter().flat_map(OrdMap::iter)
    }

    /// Whether the list of a fact has anything in it.
    pub(super) fn any(&self, fact: &Fact) -> bool {
        self.0.contains_key(fact)
    }

    fn remove(&mut self, fact: &Fact, age: &Age) {
        if let Some(list) = self.0.get_mut(fact) {
            list.remove(age);
            if list.is_empty() {
                self.0.remove(fact);
            }
        }
    }
}
