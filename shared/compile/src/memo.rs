//! Demand-driven memoisation with recorded dependencies: what makes a change cost what depends on it, not the mesh.
//!
//! A *unit* is something that is computed; its value is kept with the *facts* and the other units that were read while
//! computing it. When facts change, exactly the units that read them run again; if a value comes out equal, whoever
//! depends on it does not run. Units have ranks: one may only demand units of a lower rank, so there are no cycles and
//! dirty units can be run in order.
//!
//! *Invariant:* a computation has no way to the input except through its [`Reader`], so no dependency is forgotten.

mod news;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::Hash;

pub(crate) use news::News;
use slots::Slots;

/// What a memo computes: units, from facts of an input and from each other.
pub(crate) trait Program: Sized {
    /// The name of something computed.
    type Unit: Clone + Eq + Hash + Debug;
    /// The name of something read from the input.
    type Fact: Clone + Eq + Hash;
    /// What a computation yields. Equality decides whether dependents run again.
    type Value: Clone + PartialEq;
    /// Where facts are read from.
    type Input;
    /// What a computation reads besides, which never changes while the unit is known.
    type Context: PartialEq;
    /// How many ranks there are.
    const RANKS: usize;
    /// The rank of a unit; it may demand only units of a lower one.
    fn rank(unit: &Self::Unit) -> usize;
    /// What computing a unit reads that is noted nowhere.
    fn context(unit: &Self::Unit, input: &Self::Input) -> Self::Context;
    /// Computes a unit. Must be a function of what it reads.
    fn compute(unit: &Self::Unit, reader: &mut Reader<'_, Self>) -> Self::Value;
}

#[derive(Clone)]
struct Node<V> {
    value: V,
    facts: Box<[u32]>,
    units: Box<[u32]>,
    dependents: BTreeSet<u32>,
    pinned: bool,
}

/// The computed units, and who read what.
pub(crate) struct Memo<P: Program> {
    units: Slots<P::Unit, Node<P::Value>>,
    facts: Slots<P::Fact, BTreeSet<u32>>,
    /// How often a unit of each rank was computed.
    runs: Vec<u64>,
    /// What was computed lately, if somebody wants it.
    news: Option<News<P>>,
    /// What another memo computed lately.
    offered: News<P>,
}

/// What a computation sees: the input, through facts, and other units. Notes what is read.
pub(crate) struct Reader<'a, P: Program> {
    input: &'a P::Input,
    memo: &'a mut Memo<P>,
    rank: usize,
    facts: BTreeSet<u32>,
    units: BTreeSet<u32>,
}

impl<'a, P: Program> Reader<'a, P> {
    /// Notes that a fact is read.
    pub(crate) fn note(&mut self, fact: P::Fact) {
        let id = self.memo.facts.id_or_insert_with(fact, BTreeSet::new);
        self.facts.insert(id);
    }

    /// The input. For the one place that wraps it so that every read is noted.
    pub(crate) fn input(&self) -> &'a P::Input {
        self.input
    }

    /// The facts that were read so far.
    pub(crate) fn noted(&self) -> impl Iterator<Item = &P::Fact> {
        self.facts.iter().map(|id| self.memo.facts.key(*id))
    }

    /// The value of another unit, computed now if it is not known.
    pub(crate) fn demand(&mut self, unit: P::Unit) -> P::Value {
        debug_assert!(
            P::rank(&unit) < self.rank,
            "{unit:?} is demanded by a unit of no higher rank"
        );
        let id = self.memo.ensure(self.input, unit);
        self.units.insert(id);
        self.memo.units.get(id).value.clone()
    }
}

impl<P: Program> Default for Memo<P> {
    fn default() -> Self {
        Self {
            units: Slots::default(),
            facts: Slots::default(),
            runs: vec![0; P::RANKS],
            news: None,
            offered: News::default(),
        }
    }
}

impl<P: Program> Clone for Memo<P> {
    fn clone(&self) -> Self {
        Self {
            units: self.units.clone(),
            facts: self.facts.clone(),
            runs: self.runs.clone(),
            news: None,
            offered: News::default(),
        }
    }
}

impl<P: Program> Memo<P> {
    /// Computes a unit, if it is not known, and keeps it until [`Memo::unpin`].
    pub(crate) fn pin(&mut self, input: &P::Input, unit: P::Unit) -> P::Value {
        let id = self.ensure(input, unit);
        let node = self.units.get_mut(id);
        node.pinned = true;
        node.value.clone()
    }

    /// Drops a pinned unit, and what only it depended on, unless another unit depends on it.
    pub(crate) fn unpin(&mut self, unit: &P::Unit) {
        if let Some(id) = self.units.id(unit) {
            self.units.get_mut(id).pinned = false;
            self.collect(id);
        }
    }

    /// The value of a unit, if it is known.
    pub(crate) fn get(&self, unit: &P::Unit) -> Option<&P::Value> {
        self.units.id(unit).map(|id| &self.units.get(id).value)
    }

    /// Runs what depends on facts that changed, in order of rank. Returns the pinned units whose value changed.
    pub(crate) fn update(
        &mut self,
        input: &P::Input,
        changed: impl IntoIterator<Item = P::Fact>,
    ) -> Vec<P::Unit> {
        let mut dirty: Vec<BTreeSet<u32>> = vec![BTreeSet::new(); P::RANKS];
        for fact in changed {
            if let Some(id) = self.facts.id(&fact) {
                for &unit in self.facts.get(id) {
                    dirty[P::rank(self.units.key(unit))].insert(unit);
                }
            }
        }
        let mut moved = Vec::new();
        for rank in 0..P::RANKS {
            while let Some(id) = dirty[rank].pop_first() {
                // A run before this one may have dropped the unit, or given its slot to one computed since.
                if !self.units.holds(id) || !self.run(input, id) {
                    continue;
                }
                let node = self.units.get(id);
                for &dependent in &node.dependents {
                    dirty[P::rank(self.units.key(dependent))].insert(dependent);
                }
                if node.pinned {
                    moved.push(self.units.key(id).clone());
                }
            }
        }
        moved
    }

    /// How many units there are.
    pub(crate) fn len(&self) -> usize {
        self.units.len()
    }

    /// How often a unit of this rank was computed.
    pub(crate) fn runs(&self, rank: usize) -> u64 {
        self.runs[rank]
    }

    fn ensure(&mut self, input: &P::Input, unit: P::Unit) -> u32 {
        if let Some(id) = self.units.id(&unit) {
            return id;
        }
        let (value, facts, units) = self.compute(input, &unit);
        let node = Node {
            value,
            facts: Box::default(),
            units: Box::default(),
            dependents: BTreeSet::new(),
            pinned: false,
        };
        let id = self.units.id_or_insert_with(unit, || node);
        self.link(id, &facts, &units);
        id
    }

    /// Computes a known unit again; whether its value changed.
    fn run(&mut self, input: &P::Input, id: u32) -> bool {
        let unit = self.units.key(id).clone();
        let (value, facts, units) = self.compute(input, &unit);
        self.link(id, &facts, &units);
        let node = self.units.get_mut(id);
        let changed = node.value != value;
        node.value = value;
        changed
    }

    fn compute(
        &mut self,
        input: &P::Input,
        unit: &P::Unit,
    ) -> (P::Value, BTreeSet<u32>, BTreeSet<u32>) {
        if let Some(taken) = self.take_over(input, unit) {
            return taken;
        }
        let rank = P::rank(unit);
        self.runs[rank] += 1;
        let mut reader = Reader {
            input,
            memo: self,
            rank,
            facts: BTreeSet::new(),
            units: BTreeSet::new(),
        };
        let value = P::compute(unit, &mut reader);
        let (facts, units) = (reader.facts, reader.units);
        self.tell(input, unit, &value, &facts, &units);
        (value, facts, units)
    }

    /// Replaces what a unit depends on, and drops what nobody needs any more.
    fn link(&mut self, id: u32, facts: &BTreeSet<u32>, units: &BTreeSet<u32>) {
        for &fact in facts {
            self.facts.get_mut(fact).insert(id);
        }
        for &unit in units {
            self.units.get_mut(unit).dependents.insert(id);
        }
        let node = self.units.get_mut(id);
        let old_facts = std::mem::replace(&mut node.facts, facts.iter().copied().collect());
        let old_units = std::mem::replace(&mut node.units, units.iter().copied().collect());
        self.release(
            id,
            old_facts.into_iter().filter(|f| !facts.contains(f)),
            &old_units,
            units,
        );
    }

    fn release(
        &mut self,
        id: u32,
        facts: impl Iterator<Item = u32>,
        old: &[u32],
        kept: &BTreeSet<u32>,
    ) {
        for fact in facts {
            let readers = self.facts.get_mut(fact);
            readers.remove(&id);
            if readers.is_empty() {
                self.facts.remove(fact);
            }
        }
        for unit in old.iter().copied().filter(|u| !kept.contains(u)) {
            self.units.get_mut(unit).dependents.remove(&id);
            self.collect(unit);
        }
    }

    /// Drops a unit that is neither pinned nor depended on, and then what only it needed.
    fn collect(&mut self, id: u32) {
        let node = self.units.get(id);
        if node.pinned || !node.dependents.is_empty() {
            return;
        }
        let node = self.units.remove(id);
        self.release(id, node.facts.into_iter(), &node.units, &BTreeSet::new());
    }
}
