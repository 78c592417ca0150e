//! What a client subscribed to, of one type.
//!
//! *Invariant:* no name is stored, only hashes of names: 8 bytes each, whatever the client sends. The seed is drawn
//! per process, so that nobody can make names that collide.

use std::sync::LazyLock;

use xxhash_rust::xxh3::xxh3_64_with_seed;

static SEED: LazyLock<u64> = LazyLock::new(rand::random);

/// The wildcard, and names in a sorted set.
#[derive(Default)]
pub(super) struct Names {
    pub(super) wildcard: bool,
    hashes: Vec<u64>,
}

fn hash(name: &str) -> u64 {
    xxh3_64_with_seed(name.as_bytes(), *SEED)
}

impl Names {
    /// Whether the name is asked for, by itself or by the wildcard.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.wildcard || self.named(name)
    }
    /// Whether the name is asked for by itself.
    pub(super) fn named(&self, name: &str) -> bool {
        self.hashes.binary_search(&hash(name)).is_ok()
    }
    /// Whether nothing is asked for.
    pub(super) fn is_empty(&self) -> bool {
        !self.wildcard && self.hashes.is_empty()
    }
    /// How many names are asked for by themselves.
    pub(super) fn len(&self) -> usize {
        self.hashes.len()
    }
    /// Adds names.
    pub(super) fn add<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        self.hashes.extend(names.map(hash));
        self.hashes.sort_unstable();
        self.hashes.dedup();
    }
    /// Removes names.
    pub(super) fn remove<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        let gone: std::collections::HashSet<u64> = names.map(hash).collect();
        self.hashes.retain(|hash| !gone.contains(hash));
        self.hashes.shrink_to_fit();
    }
    /// Replaces all names; the wildcard stays as it is.
    pub(super) fn replace<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        self.hashes.clear();
        self.add(names);
        self.hashes.shrink_to_fit();
    }
}
