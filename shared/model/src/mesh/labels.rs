//! Which names carry which labels, by namespace: finds what a selector selects without looking at everything.
//!
//! *Invariant:* nothing here knows what the names are names of.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::{HashMap, OrdSet};

/// Labels or a selector.
pub(super) type Labels = BTreeMap<String, String>;

/// Whether labels satisfy a selector: have all of it.
pub fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

type Posting = (Arc<str>, String, String);

/// Names by namespace and label.
#[derive(Clone, Debug, Default)]
pub(super) struct LabelIndex(HashMap<Posting, OrdSet<Arc<str>>>);

impl LabelIndex {
    /// Lists a name under each of these labels.
    pub(super) fn insert<'a>(
        &mut self,
        namespace: &Arc<str>,
        labels: impl IntoIterator<Item = (&'a String, &'a String)>,
        name: &Arc<str>,
    ) {
        for (key, value) in labels {
            self.0
                .entry((namespace.clone(), key.clone(), value.clone()))
                .or_default()
                .insert(name.clone());
        }
    }

    /// Takes a name off the lists of these labels.
    pub(super) fn remove<'a>(
        &mut self,
        namespace: &Arc<str>,
        labels: impl IntoIterator<Item = (&'a String, &'a String)>,
        name: &Arc<str>,
    ) {
        for (key, value) in labels {
            let posting = (namespace.clone(), key.clone(), value.clone());
            if let Some(names) = self.0.get_mut(&posting) {
                names.remove(name);
                if names.is_empty() {
                    self.0.remove(&posting);
                }
            }
        }
    }

    /// The names under one label.
    pub(super) fn names(
        &self,
        namespace: &Arc<str>,
        key: &str,
        value: &str,
    ) -> impl Iterator<Item = &Arc<str>> {
        self.0
            .get(&(namespace.clone(), key.to_owned(), value.to_owned()))
            .into_iter()
            .flatten()
    }

    /// The names under the rarest label of a selector: every name that has all of them is among these.
    pub(super) fn candidates(
        &self,
        namespace: &Arc<str>,
        selector: &Labels,
    ) -> impl Iterator<Item = &Arc<str>> {
        let lists = selector
            .iter()
            .map(|(key, value)| self.0.get(&(namespace.clone(), key.clone(), value.clone())));
        let rarest = lists
            .min_by_key(|names| names.map_or(0, OrdSet::len))
            .flatten();
        rarest.into_iter().flatten()
    }
}
