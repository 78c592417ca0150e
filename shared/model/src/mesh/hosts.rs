//! The hosts that mean something in the mesh, ordered from their last label on, so that a wildcard is a range.
//!
//! *Invariant:* a host is here exactly while a service or a route of the mesh names it.

use std::sync::Arc;

use imbl::OrdMap;

/// Hosts by their characters in reverse.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts(OrdMap<String, Arc<str>>);

impl Hosts {
    pub(super) fn insert(&mut self, host: &Arc<str>) {
        self.0.insert(host.chars().rev().collect(), host.clone());
    }

    pub(super) fn remove(&mut self, host: &str) {
        self.0.remove(&host.chars().rev().collect::<String>());
    }

    /// Every host.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.values()
    }

    /// The hosts that a wildcard covers, itself apart.
    pub(super) fn covered<'a>(&'a self, wildcard: &'a str) -> impl Iterator<Item = &'a Arc<str>> {
        let prefix: String = wildcard.trim_start_matches('*').chars().rev().collect();
        let from = self.0.range(prefix.clone()..);
        from.take_while(move |(reversed, _)| reversed.starts_with(&prefix))
            .map(|(_, host)| host)
            .filter(move |host| ***host != *wildcard && super::host::covers(wildcard, host))
    }
}
