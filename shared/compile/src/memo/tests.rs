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

#[derive(Clone, PartialEq, Eq, Hash)]
enum Fact {
    Words,
    Number(&'static str),
}

#[derive(Default)]
struct Input {
    words: Vec<&'static str>,
    numbers: BTreeMap<&'static str, u32>,
}

impl Program for Toy {
    type Unit = Unit;
    type Fact = Fact;
    type Value = u32;
    type Input = Input;
    const RANKS: usize = 2;
    fn rank(unit: &Unit) -> usize {
        match unit {
            Unit::Parity(_) => 0,
            Unit::Sum => 1,
        }
    }
    fn compute(unit: &Unit, reader: &mut Reader<'_, Self>) -> u32 {
        match unit {
            Unit::Parity(word) => {
                reader.note(Fact::Number(word));
                reader.input().numbers.get(word).copied().unwrap_or(0) % 2
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
