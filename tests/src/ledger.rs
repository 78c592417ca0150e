//! Whether what the clients of a store were told can be true.
//!
//! Clients write values that no other write has, read keys and lists, and note what they asked, when, and what they were
//! told. Afterwards the store's own records say which writes happened, in which order. [`check`] holds the two against
//! each other: nothing that was acknowledged is lost, nothing happened that nobody asked for, what was answered without
//! knowing the outcome happened at most once, several writes in one are whole, and every read saw the state of one moment
//! between its question and its answer.
//!
//! *Invariant:* nothing here asks a store or a clock; moments are numbers whose order is all that matters.

mod order;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use order::{Floor, floors};

/// What a write puts under a key: a number that no other write puts there. `None` deletes.
pub type Edits = BTreeMap<String, Option<u64>>;

/// What is there: for each key its value and the revision of its last write.
pub type State = BTreeMap<String, (u64, i64)>;

/// What a client was told of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It happened, at this revision.
    Done(i64),
    /// It happened: what a deletion is answered with.
    Gone,
    /// It did not happen and will not.
    Refused,
    /// Nobody knows: it happened once or not at all.
    Unknown,
}

/// What a client asked, and what it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant says what its fields are")]
pub enum Act {
    /// All of these writes, or none.
    Write { edits: Edits, told: Told },
    /// What is under a key.
    Read {
        key: String,
        seen: Option<(u64, i64)>,
    },
    /// All there is, at one revision.
    List { revision: i64, seen: State },
}

/// One call of one client. A client makes one call at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Who.
    pub client: usize,
    /// The moment before it was sent.
    pub begun: u64,
    /// The moment after its answer came.
    pub ended: u64,
    /// What, and the answer.
    pub act: Act,
}

/// One transaction, as the store recorded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its revision.
    pub revision: i64,
    /// What it wrote.
    pub edits: Edits,
    /// What was there before, of the keys that it wrote.
    pub before: State,
}

/// What cannot be true.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "each variant's message says what its fields are"
)]
pub enum Violation {
    /// An acknowledged write is not in the records, or not in the state.
    Lost { revision: i64, what: String },
    /// Something is there that nobody wrote, or that somebody was told is not.
    Nowhere { revision: i64, what: String },
    /// One write happened more than once.
    Twice { value: u64, revisions: [i64; 2] },
    /// Of several writes in one, some are there and some are not.
    Half { revision: i64, what: String },
    /// A read saw what had been replaced before it was asked.
    Stale { call: Call, known: i64 },
    /// A client saw an older state than the one it had seen before.
    Back { call: Call, known: i64 },
    /// A write began after another was known to have happened, and came before it.
    Order { call: Call, known: i64 },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { revision, what } => write!(f, "lost, revision {revision}: {what}"),
            Self::Nowhere { revision, what } => {
                write!(f, "from nowhere, revision {revision}: {what}")
            }
            Self::Twice { value, revisions } => write!(f, "{value} was written at {revisions:?}"),
            Self::Half { revision, what } => write!(f, "half a batch, revision {revision}: {what}"),
            Self::Stale { call, known } => {
                write!(f, "stale, revision {known} was known before: {call:?}")
            }
            Self::Back { call, known } => {
                write!(f, "went back, it knew revision {known}: {call:?}")
            }
            Self::Order { call, known } => {
                write!(f, "before its time, revision {known} was known: {call:?}")
            }
        }
    }
}

/// How long a key had a value (or none): from a revision until just before another.
struct Span {
    from: i64,
    until: i64,
    value: Option<u64>,
}

/// The records, as questions about them need them.
struct History<'a> {
    records: BTreeMap<i64, &'a Record>,
    /// What each key was, in order.
    spans: BTreeMap<&'a str, Vec<Span>>,
    /// Who wrote each value.
    writers: BTreeMap<u64, &'a Call>,
}

/// What of these calls, records and of the last state cannot be true together. The calls are all that were made, the
/// records all that there are, and before the first of them there was nothing.
pub fn check(calls: &[Call], records: &[Record], last: &State) -> Vec<Violation> {
    let mut found = Vec::new();
    let history = History::new(calls, records, last, &mut found);
    history.explained(calls, &mut found);
    for (call, floor) in calls.iter().zip(floors(calls)) {
        match &call.act {
            Act::Write { edits, told } => {
                history.written(call, edits, *told, floor.all, &mut found);
            }
            Act::Read { key, seen } => history.read(call, key, *seen, floor, &mut found),
            Act::List { revision, seen } => {
                history.listed(call, *revision, seen, floor, &mut found);
            }
        }
    }
    found
}

impl<'a> History<'a> {
    /// Goes through the records: each begins where the one before ended, and the last ends in the state that is there.
    fn new(
        calls: &'a [Call],
        records: &'a [Record],
        last: &State,
        found: &mut Vec<Violation>,
    ) -> Self {
        let records: BTreeMap<i64, &Record> = records
            .iter()
            .map(|record| (record.revision, record))
            .collect();
        let mut writers = BTreeMap::new();
        for call in calls {
            if let Act::Write { edits, .. } = &call.act {
                writers.extend(edits.values().flatten().map(|value| (*value, call)));
            }
        }
        let mut state = State::new();
        let mut spans: BTreeMap<&str, Vec<Span>> = BTreeMap::new();
        let mut written: BTreeMap<u64, i64> = BTreeMap::new();
        for record in records.values() {
            let revision = record.revision;
            for (key, value) in &record.edits {
                let (before, present) = (record.before.get(key), state.get(key));
                if before != present {
                    let what = format!("{key} was {present:?}, and its record says {before:?}");
                    found.push(Violation::Lost { revision, what });
                }
                let of_key = spans.entry(key).or_insert_with(|| vec![Span::first()]);
                of_key.last_mut().expect("there is a first").until = revision;
                of_key.push(Span {
                    from: revision,
                    until: i64::MAX,
                    value: *value,
                });
                match value {
                    Some(value) => drop(state.insert(key.clone(), (*value, revision))),
                    None => drop(state.remove(key)),
                }
            }
            // A batch puts one value under many keys.
            let values: BTreeSet<u64> = record.edits.values().flatten().copied().collect();
            for value in values {
                if let Some(first) = written.insert(value, revision) {
                    let revisions = [first, revision];
                    found.push(Violation::Twice { value, revisions });
                }
            }
        }
        let revision = records.keys().last().copied().unwrap_or_default();
        for key in state.keys().chain(last.keys()) {
            if state.get(key) != last.get(key) {
                let what = format!("{key} is {:?}, not {:?}", last.get(key), state.get(key));
                found.push(Violation::Lost { revision, what });
            }
        }
        Self {
            records,
            spans,
            writers,
        }
    }

    /// Every record is what somebody asked for, all of it.
    fn explained(&self, calls: &[Call], found: &mut Vec<Violation>) {
        // A deletion bears no name: of each kind there are no fewer than were acknowledged, no more than were asked for.
        let mut deletions: BTreeMap<&Edits, (usize, usize)> = BTreeMap::new();
        for call in calls {
            if let Act::Write { edits, told } = &call.act
                && edits.values().all(Option::is_none)
            {
                let (least, most) = deletions.entry(edits).or_default();
                *least += usize::from(matches!(told, Told::Done(_) | Told::Gone));
                *most += usize::from(*told != Told::Refused);
            }
        }
        for record in self.records.values() {
            let (revision, edits) = (record.revision, &record.edits);
            let nowhere = |what: String| Violation::Nowhere { revision, what };
            let Some(value) = edits.values().flatten().next() else {
                let (least, most) = deletions.entry(edits).or_default();
                if *most == 0 {
                    found.push(nowhere(format!("nobody deleted {edits:?}")));
                }
                (*least, *most) = (least.saturating_sub(1), most.saturating_sub(1));
                continue;
            };
            let Some(Call {
                act: Act::Write { edits: asked, told },
                ..
            }) = self.writers.get(value)
            else {
                found.push(nowhere(format!("nobody wrote {edits:?}")));
                continue;
            };
            if asked != edits {
                let what = format!("{edits:?} of {asked:?}");
                found.push(Violation::Half { revision, what });
            }
            if matches!(told, Told::Refused) {
                found.push(nowhere(format!("{edits:?} was said to be refused")));
            }
        }
        for (edits, (missing, _)) in deletions.into_iter().filter(|(_, (least, _))| *least > 0) {
            let what = format!("{missing} acknowledged deletions of {edits:?} are missing");
            let revision = 0;
            found.push(Violation::Lost { revision, what });
        }
    }

    fn written(
        &self,
        call: &Call,
        edits: &Edits,
        told: Told,
        known: i64,
        found: &mut Vec<Violation>,
    ) {
        let Told::Done(revision) = told else { return };
        match self.records.get(&revision) {
            Some(record) if record.edits == *edits => {}
            other => {
                let there = other.map(|record| &record.edits);
                let what = format!("{edits:?} was acknowledged; there is {there:?}");
                found.push(Violation::Lost { revision, what });
            }
        }
        if revision <= known {
            let call = call.clone();
            found.push(Violation::Order { call, known });
        }
    }

    fn read(
        &self,
        call: &Call,
        key: &str,
        seen: Option<(u64, i64)>,
        floor: Floor,
        found: &mut Vec<Violation>,
    ) {
        let nothing = [Span::first()];
        let spans = self.spans.get(key).map_or(&nothing[..], Vec::as_slice);
        let matching = |span: &&Span| match seen {
            None => span.value.is_none(),
            Some((value, revision)) => span.value == Some(value) && span.from == revision,
        };
        let Some(span) = spans.iter().rfind(matching) else {
            let revision = seen.map_or(0, |(_, revision)| revision);
            let what = format!("{call:?}");
            found.push(Violation::Nowhere { revision, what });
            return;
        };
        if let Some((value, revision)) = seen {
            self.not_early(call, value, revision, found);
        }
        self.recent(call, span.until - 1, floor, found);
    }

    fn listed(
        &self,
        call: &Call,
        revision: i64,
        seen: &State,
        floor: Floor,
        found: &mut Vec<Violation>,
    ) {
        let mut wrong = Vec::new();
        for (key, spans) in &self.spans {
            let then = spans
                .iter()
                .find(|span| span.from <= revision && revision < span.until)
                .and_then(|span| Some((span.value?, span.from)));
            if then.as_ref() != seen.get(*key) {
                wrong.push((*key, then, seen.get(*key)));
            }
        }
        let unknown = seen
            .keys()
            .filter(|key| !self.spans.contains_key(key.as_str()));
        wrong.extend(unknown.map(|key| (key.as_str(), None, seen.get(key))));
        // What is missing belongs to a batch of which another part is there.
        let half = wrong.iter().any(|(key, then, _)| {
            then.is_some_and(|(_, at)| {
                self.records[&at].edits.iter().any(|(other, value)| {
                    other != key && value.is_some_and(|value| seen.get(other) == Some(&(value, at)))
                })
            })
        });
        if !wrong.is_empty() {
            let what = format!("listed (key, then, seen): {wrong:?}");
            found.push(match half {
                true => Violation::Half { revision, what },
                false => Violation::Nowhere { revision, what },
            });
        }
        for (value, at) in seen.values() {
            self.not_early(call, *value, *at, found);
        }
        self.recent(call, revision, floor, found);
    }

    /// Nobody sees a value before somebody asked to write it.
    fn not_early(&self, call: &Call, value: u64, revision: i64, found: &mut Vec<Violation>) {
        if (self.writers.get(&value)).is_some_and(|writer| writer.begun > call.ended) {
            let what = format!("seen before it was written: {call:?}");
            found.push(Violation::Nowhere { revision, what });
        }
    }

    /// What was seen still held at `until`; what was known when it was asked for is no newer.
    fn recent(&self, call: &Call, until: i64, floor: Floor, found: &mut Vec<Violation>) {
        let call = || call.clone();
        if until < floor.own {
            found.push(Violation::Back {
                call: call(),
                known: floor.own,
            });
        } else if until < floor.all {
            found.push(Violation::Stale {
                call: call(),
                known: floor.all,
            });
        }
    }
}

impl Span {
    /// Before anything was written.
    const fn first() -> Self {
        Self {
            from: 0,
            until: i64::MAX,
            value: None,
        }
    }
}

#[cfg(test)]
mod tests;
