//! A map that gives each key a small number, so that dependencies are stored as numbers.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;

/// Keys with values, addressed by number. Numbers of removed keys are used again.
#[derive(Clone)]
pub(super) struct Slots<K, V> {
    ids: HashMap<K, u32, RandomState>,
    slots: Vec<Option<(K, V)>>,
    free: Vec<u32>,
}

impl<K, V> Default for Slots<K, V> {
    fn default() -> Self {
        Self {
            ids: HashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<K: Clone + Eq + Hash, V> Slots<K, V> {
    pub(super) fn id(&self, key: &K) -> Option<u32> {
        self.ids.get(key).copied()
    }

    pub(super) fn id_or_insert_with(&mut self, key: K, value: impl FnOnce() -> V) -> u32 {
        if let Some(id) = self.id(&key) {
            return id;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 units fit in memory")
        });
        self.ids.insert(key.clone(), id);
        self.slots[id as usize] = Some((key, value()));
        id
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn holds(&self, id: u32) -> bool {
        self.slots[id as usize].is_some()
    }

    pub(super) fn key(&self, id: u32) -> &K {
        &self.slots[id as usize]
            .as_ref()
            .expect("a number is used only while its key is held")
            .0
    }

    pub(super) fn get(&self, id: u32) -> &V {
        &self.slots[id as usize]
            .as_ref()
            .expect("a number is used only while its key is held")
            .1
    }

    pub(super) fn get_mut(&mut self, id: u32) -> &mut V {
        &mut self.slots[id as usize]
            .as_mut()
            .expect("a number is used only while its key is held")
            .1
    }

    pub(super) fn remove(&mut self, id: u32) -> V {
        let (key, value) = self.slots[id as usize]
            .take()
            .expect("a number is used only while its key is held");
        self.ids.remove(&key);
        self.free.push(id);
        value
    }
}
