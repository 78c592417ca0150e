//! What a client subscribed to, of one type.
//!
//! *Invariant:* no name is stored, only hashes of names: 8 bytes each, whatever the client sends, and streams that
//! ask for the same share one set. The seed is drawn per process, so that nobody can make names that collide.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use xxhash_rust::xxh3::{Xxh3Default, xxh3_64_with_seed};

static SEED: LazyLock<u64> = LazyLock::new(rand::random);

/// The sets that streams hold, by their hash.
static SETS: LazyLock<Mutex<Sets>> = LazyLock::new(Mutex::default);

/// Sets smaller than this are not worth looking up.
const WORTH_SHARING: usize = 64;

/// The wildcard, and names in a sorted set.
#[derive(Default)]
pub(super) struct Names {
    pub(super) wildcard: bool,
    hashes: Arc<[u64]>,
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
        self.set(self.hashes.iter().copied().chain(names.map(hash)).collect());
    }
    /// Removes names.
    pub(super) fn remove<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        let gone: HashSet<u64> = names.map(hash).collect();
        let kept = self.hashes.iter().copied();
        self.set(kept.filter(|hash| !gone.contains(hash)).collect());
    }
    /// Replaces all names; the wildcard stays as it is.
    pub(super) fn replace<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        self.set(names.map(hash).collect());
    }

    fn set(&mut self, mut hashes: Vec<u64>) {
        hashes.sort_unstable();
        hashes.dedup();
        if *hashes == *self.hashes {
            return;
        }
        self.hashes = if hashes.len() < WORTH_SHARING {
            hashes.into()
        } else {
            let mut sets = SETS.lock().unwrap_or_else(PoisonError::into_inner);
            sets.share(hashes)
        };
    }
}

/// Sets, as long as somebody holds them.
#[derive(Default)]
struct Sets {
    held: HashMap<u64, Weak<[u64]>>,
    /// How many there were when those that nobody holds were last forgotten.
    swept: usize,
}

impl Sets {
    fn share(&mut self, hashes: Vec<u64>) -> Arc<[u64]> {
        let mut key = Xxh3Default::new();
        hashes
            .iter()
            .for_each(|hash| key.update(&hash.to_ne_bytes()));
        let key = key.digest();
        let known = self.held.get(&key).and_then(Weak::upgrade);
        if let Some(known) = known.filter(|known| **known == *hashes) {
            return known;
        }
        if self.held.len() > 2 * self.swept + 16 {
            self.held.retain(|_, set| set.strong_count() > 0);
            self.swept = self.held.len();
        }
        let new: Arc<[u64]> = hashes.into();
        self.held.insert(key, Arc::downgrade(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(range: std::ops::Range<u32>) -> Names {
        let names: Vec<String> = range.map(|n| n.to_string()).collect();
        let mut of = Names::default();
        of.replace(names.iter().map(String::as_str));
        of
    }

    #[test]
    fn equal_sets_are_one_however_they_came_about_and_none_outlives_its_holders() {
        let (all, mut grown) = (of(0..1000), of(0..500));
        assert!(!Arc::ptr_eq(&all.hashes, &grown.hashes));
        let more: Vec<String> = (300..1000).rev().map(|n| n.to_string()).collect();
        grown.add(more.iter().map(String::as_str));
        assert!(Arc::ptr_eq(&all.hashes, &grown.hashes));
        grown.remove(["7"].into_iter());
        assert!(all.contains("7") && !grown.contains("7") && grown.len() == 999);
        let gone = Arc::downgrade(&all.hashes);
        drop(all);
        assert_eq!(gone.strong_count(), 0);
        let mut sets = Sets::default();
        (0..1000).for_each(|n| drop(sets.share(vec![n])));
        assert!(sets.held.len() <= 17, "{}", sets.held.len());
    }
}
