//! What one memo computed, for another of the same program to take over instead of computing it again.
//!
//! *Invariant:* a value is taken over only where it was computed from the same: no fact that differs, equal values of other
//! units, the same context.

use std::collections::{BTreeSet, HashMap};

use super::{Memo, Program};

/// Units that were computed, and from what.
pub(crate) struct News<P: Program>(HashMap<P::Unit, Computed<P>>);

/// A value, and what it was computed from.
pub(super) struct Computed<P: Program> {
    context: P::Context,
    value: P::Value,
    facts: Vec<P::Fact>,
    units: Vec<(P::Unit, P::Value)>,
}

impl<P: Program> Default for News<P> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<P: Program> News<P> {
    /// Leaves out what depends on facts that differ.
    pub(crate) fn without(mut self, differ: &BTreeSet<P::Fact>) -> Self
    where
        P::Fact: Ord,
    {
        let same = |computed: &Computed<P>| !computed.facts.iter().any(|it| differ.contains(it));
        self.0.retain(|_, computed| same(computed));
        self
    }
}

impl<P: Program> Memo<P> {
    /// From now on keeps what it computes, until [`Memo::news`].
    pub(crate) fn record(&mut self) {
        self.news = Some(News::default());
    }

    /// What was computed since [`Memo::record`].
    pub(crate) fn news(&mut self) -> News<P> {
        self.news.take().unwrap_or_default()
    }

    /// From now on takes over what it can of this, instead of what it was offered before.
    pub(crate) fn offer(&mut self, offered: News<P>) {
        self.offered = offered;
    }

    /// Keeps what was computed, if somebody wants it.
    pub(super) fn tell(
        &mut self,
        input: &P::Input,
        unit: &P::Unit,
        value: &P::Value,
        facts: &BTreeSet<u32>,
        units: &BTreeSet<u32>,
    ) {
        if self.news.is_none() {
            return;
        }
        let of = |id: &u32| {
            (
                self.units.key(*id).clone(),
                self.units.get(*id).value.clone(),
            )
        };
        let computed = Computed {
            context: P::context(unit, input),
            value: value.clone(),
            facts: (facts.iter().map(|id| self.facts.key(*id).clone())).collect(),
            units: units.iter().map(of).collect(),
        };
        if let Some(news) = &mut self.news {
            news.0.insert(unit.clone(), computed);
        }
    }

    /// Takes over a unit, if it is offered and would come out the same: its value, and the facts and units it depends on.
    pub(super) fn take_over(
        &mut self,
        input: &P::Input,
        unit: &P::Unit,
    ) -> Option<(P::Value, BTreeSet<u32>, BTreeSet<u32>)> {
        // Out of the map while its units are looked at, for they may be offered as well.
        let computed = self.offered.0.remove(unit)?;
        let units = self.agree(input, unit, &computed);
        let taken = units.map(|units| {
            let id = |fact: &P::Fact| self.facts.id_or_insert_with(fact.clone(), BTreeSet::new);
            let facts = computed.facts.iter().map(id).collect();
            (computed.value.clone(), facts, units)
        });
        self.offered.0.insert(unit.clone(), computed);
        taken
    }

    /// The units that an offered one was computed from, if all have the same values here.
    fn agree(
        &mut self,
        input: &P::Input,
        unit: &P::Unit,
        computed: &Computed<P>,
    ) -> Option<BTreeSet<u32>> {
        if computed.context != P::context(unit, input) {
            return None;
        }
        let (mut units, mut new) = (BTreeSet::new(), Vec::new());
        let mut all = computed.units.iter();
        let agree = all.all(|(unit, value)| {
            let known = self.units.id(unit);
            if known.is_none() && !self.offered.0.contains_key(unit) {
                return false;
            }
            let id = known.unwrap_or_else(|| self.ensure(input, unit.clone()));
            if known.is_none() {
                new.push(id);
            }
            units.insert(id);
            self.units.get(id).value == *value
        });
        if agree {
            return Some(units);
        }
        // These were computed for nothing. What was known before may be somebody's who is being computed.
        new.into_iter().for_each(|id| self.collect(id));
        None
    }
}
