#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::*;

/// Words with numbers: `Parity` reads one number, `Sum` reads a list of words and demands their parities.
struct Toy;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Unit {
    Parity(&'static str),
    Sum,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Fact {
    Words,
    Number(&'static str),
}

#[derive(Clone, Default)]
struct Input {
    words: Vec<&'static str>,
    /// What is added to each number; noted nowhere.
    more: u32,
    numbers: BTreeMap<&'static str, u32>,
}

impl Program for Toy {
    type Unit = Unit;
    type Fact = Fact;
    type Value = u32;
    type Input = Input;
    type Context = u32;
    const RANKS: usize = 2;
    fn rank(unit: &Unit) -> usize {
        match unit {
            Unit::Parity(_) => 0,
            Unit::Sum => 1,
        }
    }
    fn context(_: &Unit, input: &Input) -> u32 {
        input.more
    }
    fn compute(unit: &Unit, reader: &mut Reader<'_, Self>) -> u32 {
        match unit {
            Unit::Parity(word) => {
                reader.note(Fact::Number(word));
                let input = reader.input();
                (input.numbers.get(word).copied().unwrap_or(0) + input.more) % 2
            }
            Unit::Sum => {
                reader.note(Fact::Words);
                let words = reader.input().words.clone();
                words
                    .into_iter()
                    .map(|word| reader.demand(Unit::Parity(word)))
                    .sum()
            }
        }
    }
}

fn setup() -> (Memo<Toy>, Input) {
    let input = Input {
        words: vec!["a", "b"],
        more: 0,
        numbers: BTreeMap::from([("a", 1), ("b", 2)]),
    };
    let mut memo = Memo::default();
    assert_eq!(memo.pin(&input, Unit::Sum), 1);
    (memo, input)
}

#[test]
fn a_fact_reaches_what_read_it_and_no_more() {
    let (mut memo, mut input) = setup();
    input.numbers.insert("b", 3);
    assert_eq!(memo.update(&input, [Fact::Number("b")]), [Unit::Sum]);
    assert_eq!(memo.get(&Unit::Sum), Some(&2));
    assert_eq!((memo.runs(0), memo.runs(1)), (3, 2));
}

#[test]
fn an_equal_value_stops_the_wave() {
    let (mut memo, mut input) = setup();
    input.numbers.insert("b", 4);
    assert!(memo.update(&input, [Fact::Number("b")]).is_empty());
    assert_eq!((memo.runs(0), memo.runs(1)), (3, 1));
}

#[test]
fn a_lookup_that_found_nothing_is_a_dependency() {
    let (mut memo, mut input) = setup();
    input.words.push("c");
    memo.update(&input, [Fact::Words]);
    input.numbers.insert("c", 1);
    memo.update(&input, [Fact::Number("c")]);
    assert_eq!(memo.get(&Unit::Sum), Some(&2));
}

#[test]
fn what_nobody_needs_is_dropped() {
    let (mut memo, mut input) = setup();
    input.words.pop();
    memo.update(&input, [Fact::Words]);
    assert_eq!((memo.units.len(), memo.facts.len()), (2, 2));
    memo.unpin(&Unit::Sum);
    assert_eq!((memo.units.len(), memo.facts.len()), (0, 0));
}

#[test]
fn a_unit_dropped_while_dirty_does_not_run() {
    let (mut memo, mut input) = setup();
    input.words.pop();
    input.numbers.insert("b", 3);
    input.numbers.insert("a", 2);
    memo.update(&input, [Fact::Words, Fact::Number("b"), Fact::Number("a")]);
    assert_eq!(memo.get(&Unit::Sum), Some(&0));
}

/// A memo and a copy of it that takes over what the memo computes.
fn twins() -> (Memo<Toy>, Memo<Toy>, Input) {
    let (mut memo, mut input) = setup();
    let twin = memo.clone();
    memo.record();
    input.numbers.insert("b", 3);
    memo.update(&input, [Fact::Number("b")]);
    (memo, twin, input)
}

#[test]
fn what_comes_out_the_same_is_computed_once() {
    let (mut memo, mut twin, input) = twins();
    twin.offer(memo.news());
    assert_eq!(twin.update(&input, [Fact::Number("b")]), [Unit::Sum]);
    assert_eq!(twin.get(&Unit::Sum), Some(&2));
    assert_eq!((twin.runs(0), twin.runs(1)), (2, 1));
    // It knows what it took over depends on.
    twin.offer(News::default());
    let mut input = input;
    input.numbers.insert("b", 4);
    twin.update(&input, [Fact::Number("b")]);
    assert_eq!(twin.get(&Unit::Sum), Some(&1));
    twin.unpin(&Unit::Sum);
    assert_eq!((twin.units.len(), twin.facts.len()), (0, 0));
}

#[test]
fn what_is_made_of_something_else_is_not_taken_over() {
    let other = |change: &dyn Fn(&mut Input), facts: &[Fact]| {
        let (mut memo, mut twin, mut input) = twins();
        change(&mut input);
        let differ: BTreeSet<Fact> = facts.iter().cloned().collect();
        twin.offer(memo.news().without(&differ));
        twin.update(&input, [Fact::Number("b")].into_iter().chain(differ));
        *twin.get(&Unit::Sum).unwrap()
    };
    let a = |input: &mut Input| input.numbers.extend([("a", 2)]);
    assert_eq!(other(&a, &[Fact::Number("a")]), 1);
    let b = |input: &mut Input| input.numbers.extend([("b", 6)]);
    assert_eq!(other(&b, &[Fact::Number("b")]), 1);
    let words = |input: &mut Input| input.words = vec!["b"];
    assert_eq!(other(&words, &[Fact::Words]), 1);
    let more = |input: &mut Input| input.more = 1;
    assert_eq!(other(&more, &[Fact::Number("a")]), 0);
}

#[test]
fn what_was_tried_in_vain_leaves_nothing_behind() {
    let (mut memo, mut input) = setup();
    let mut twin = memo.clone();
    let mut theirs = input.clone();
    (theirs.words, theirs.numbers) = (vec!["c", "d"], BTreeMap::from([("c", 1), ("d", 1)]));
    memo.record();
    memo.update(&theirs, [Fact::Words]);
    // One of the two can be taken over, the other not.
    twin.offer(memo.news().without(&BTreeSet::from([Fact::Number("d")])));
    input.words = vec!["b"];
    assert_eq!(twin.update(&input, [Fact::Words]), [Unit::Sum]);
    assert_eq!(twin.get(&Unit::Sum), Some(&0));
    assert_eq!((twin.units.len(), twin.facts.len()), (2, 2));
}
