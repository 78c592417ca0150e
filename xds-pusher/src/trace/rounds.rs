//! Pushes under way: who must answer, who did and how, class by class; and what is remembered of single proxies.
//!
//! *Invariant:* what is kept of a push is bounded by who has not answered yet, its classes, and a few named proxies.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use telemetry::trace::{Context, Link};
use tokio::time::Instant;
use xds::pb::envoy::config::core::v3::Node;

use super::Policies;

/// How many pushes may be under way; the oldest is reported as it is when there is one more.
const MOST_OPEN: usize = 64;

/// A push to as many proxies names them all.
const NAMES_ALL: usize = 10;

/// How many of the slowest are named of a larger one.
const SLOWEST: usize = 3;

/// How many that did not ACK are told of one by one; of the others only how they ended is.
const MOST_FAILED: usize = 250;

/// What is pushed, and where that belongs.
#[derive(Default)]
pub(crate) struct Origin {
    pub(crate) revision: i64,
    pub(crate) policies: Policies,
    pub(crate) parent: Context,
    pub(crate) links: Vec<Link>,
}

/// A proxy whose snapshot is about to change.
pub(crate) struct Expected {
    pub(crate) node: Arc<str>,
    /// Its class.
    pub(crate) class: u64,
    /// The revision of its snapshot.
    pub(crate) revision: i64,
}

/// A response that is about to be sent.
pub(crate) struct Sent {
    pub(crate) node: Arc<Node>,
    pub(crate) ty: &'static str,
    pub(crate) revision: i64,
    pub(crate) version: String,
    pub(crate) resources: usize,
    pub(crate) removed: usize,
    pub(crate) bytes: usize,
    pub(crate) at: SystemTime,
}

/// What came of a stream: an ACK, a NACK with its reason, or, with nothing given, its end.
pub(crate) struct Answer {
    pub(crate) stream: u64,
    pub(crate) node: Arc<Node>,
    pub(crate) given: Option<(&'static str, i64, Option<String>)>,
    pub(crate) at: SystemTime,
}

/// What was sent to one proxy of one type, and what it said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pushed {
    pub(crate) ty: &'static str,
    pub(crate) version: String,
    pub(crate) responses: usize,
    pub(crate) resources: usize,
    pub(crate) removed: usize,
    pub(crate) bytes: usize,
    pub(crate) sent: SystemTime,
    pub(crate) answered: Option<SystemTime>,
    pub(crate) refusal: Option<String>,
}

/// How a push to one proxy ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    Acked,
    Nacked,
    /// Its streams ended before.
    Gone,
    /// It said nothing in time.
    Missing,
    /// It had not answered yet when too many other pushes were under way.
    CutShort,
}

/// A proxy that is named.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Named {
    pub(crate) node: Arc<str>,
    pub(crate) class: u64,
    pub(crate) end: End,
    pub(crate) at: SystemTime,
    pub(crate) pushed: Vec<Pushed>,
}

/// What proxies of a class were sent of one type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OfType {
    pub(crate) proxies: usize,
    pub(crate) responses: usize,
    pub(crate) resources: usize,
    pub(crate) removed: usize,
    pub(crate) bytes: usize,
    pub(crate) refused: usize,
    pub(crate) first: SystemTime,
    pub(crate) last: SystemTime,
}

/// The proxies of a class.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Class {
    /// How many ended how, by [`End`].
    pub(crate) ended: [usize; 5],
    pub(crate) last: Option<SystemTime>,
    pub(crate) types: BTreeMap<&'static str, OfType>,
}

/// A proxy that has not answered everything.
struct Waiting {
    class: u64,
    revision: i64,
    /// How many streams it has.
    streams: usize,
    done: Vec<u64>,
    gone: bool,
    pushed: Vec<Pushed>,
}

/// One push: what one compilation changed, to all whom it concerns.
pub(crate) struct Round {
    waiting: HashMap<Arc<str>, Waiting>,
    slowest: VecDeque<Named>,
    failed: Vec<Named>,
    report: Report,
    due: Option<Instant>,
}

/// What is told of a push.
pub(crate) struct Report {
    pub(crate) origin: Origin,
    pub(crate) began: SystemTime,
    pub(crate) ended: SystemTime,
    pub(crate) classes: BTreeMap<u64, Class>,
    pub(crate) named: Vec<Named>,
    /// Those that did not ACK beyond the named ones.
    pub(crate) others: BTreeMap<End, Vec<Arc<str>>>,
}

impl Round {
    pub(crate) fn new(origin: Origin, began: SystemTime, expected: Vec<Expected>) -> Self {
        let mut waiting: HashMap<Arc<str>, Waiting> = HashMap::new();
        for Expected {
            node,
            class,
            revision,
        } in expected
        {
            let of = waiting.entry(node).or_insert(Waiting {
                class,
                revision,
                streams: 0,
                done: Vec::new(),
                gone: false,
                pushed: Vec::new(),
            });
            of.streams += 1;
            of.revision = of.revision.max(revision);
        }
        Self {
            waiting,
            slowest: VecDeque::new(),
            failed: Vec::new(),
            report: Report {
                origin,
                began,
                ended: began,
                classes: BTreeMap::new(),
                named: Vec::new(),
                others: BTreeMap::new(),
            },
            due: None,
        }
    }

    fn sent(&mut self, sent: &Sent) {
        let Some(waiting) = self.waiting.get_mut(&*sent.node.id) else {
            return;
        };
        if sent.revision < waiting.revision {
            return;
        }
        let at = waiting.pushed.iter().position(|it| it.ty == sent.ty);
        let at = at.unwrap_or_else(|| {
            waiting.pushed.push(Pushed {
                ty: sent.ty,
                version: String::new(),
                responses: 0,
                resources: 0,
                removed: 0,
                bytes: 0,
                sent: sent.at,
                answered: None,
                refusal: None,
            });
            waiting.pushed.len() - 1
        });
        let pushed = &mut waiting.pushed[at];
        pushed.version.clone_from(&sent.version);
        pushed.responses += 1;
        pushed.resources += sent.resources;
        pushed.removed += sent.removed;
        pushed.bytes += sent.bytes;
    }

    fn answer(&mut self, answer: &Answer, acked: Option<i64>) {
        let Some((node, waiting)) = self.waiting.get_key_value(&*answer.node.id) else {
            return;
        };
        let (node, wanted) = (node.clone(), waiting.revision);
        let Some(waiting) = self.waiting.get_mut(&node) else {
            return;
        };
        match &answer.given {
            None => {
                waiting.gone = true;
                waiting.done.push(answer.stream);
            }
            Some((ty, revision, refusal)) if *revision >= wanted => {
                if let Some(pushed) = waiting.pushed.iter_mut().find(|it| it.ty == *ty) {
                    pushed.answered = Some(answer.at);
                    if pushed.refusal.is_none() {
                        pushed.refusal.clone_from(refusal);
                    }
                }
                let ran = acked.is_some_and(|acked| acked >= wanted);
                if ran && !waiting.done.contains(&answer.stream) {
                    waiting.done.push(answer.stream);
                }
            }
            Some(_) => {}
        }
        if waiting.done.len() >= waiting.streams {
            let refused = waiting.pushed.iter().any(|it| it.refusal.is_some());
            let end = match (refused, waiting.gone) {
                (true, _) => End::Nacked,
                (false, true) => End::Gone,
                (false, false) => End::Acked,
            };
            self.finish(&node, end, answer.at);
        }
    }

    fn finish(&mut self, node: &Arc<str>, end: End, at: SystemTime) {
        let Some(waiting) = self.waiting.remove(node) else {
            return;
        };
        let report = &mut self.report;
        report.ended = report.ended.max(at);
        let class = report.classes.entry(waiting.class).or_default();
        class.ended[end as usize] += 1;
        class.last = class.last.max(Some(at));
        for pushed in &waiting.pushed {
            class.add(pushed);
        }
        let named = Named {
            node: node.clone(),
            class: waiting.class,
            end,
            at,
            pushed: waiting.pushed,
        };
        match end {
            End::Acked => {
                // Who ends last is slowest.
                self.slowest.push_back(named);
                if self.slowest.len() > NAMES_ALL {
                    self.slowest.pop_front();
                }
            }
            _ if self.failed.len() < MOST_FAILED => self.failed.push(named),
            _ => report.others.entry(end).or_default().push(named.node),
        }
    }

    /// What is to be told; who has not answered ended so, or refused what it did answer.
    fn report(mut self, now: SystemTime, rest: End) -> Report {
        let mut left: Vec<Arc<str>> = self.waiting.keys().cloned().collect();
        left.sort_unstable();
        for node in left {
            let refused = |it: &Waiting| it.pushed.iter().any(|it| it.refusal.is_some());
            let end = match self.waiting.get(&node) {
                Some(waiting) if refused(waiting) => End::Nacked,
                _ => rest,
            };
            self.finish(&node, end, now);
        }
        let mut report = self.report;
        let total = report.total();
        let kept = if total > NAMES_ALL {
            SLOWEST
        } else {
            NAMES_ALL
        };
        let skipped = self.slowest.len().saturating_sub(kept);
        report.named = self.failed;
        report.named.extend(self.slowest.into_iter().skip(skipped));
        report
    }
}

impl Class {
    fn add(&mut self, pushed: &Pushed) {
        let answered = pushed.answered.unwrap_or(pushed.sent);
        let of = self.types.entry(pushed.ty).or_insert(OfType {
            proxies: 0,
            responses: 0,
            resources: 0,
            removed: 0,
            bytes: 0,
            refused: 0,
            first: pushed.sent,
            last: answered,
        });
        of.proxies += 1;
        of.responses += pushed.responses;
        of.resources += pushed.resources;
        of.removed += pushed.removed;
        of.bytes += pushed.bytes;
        of.refused += usize::from(pushed.refusal.is_some());
        of.first = of.first.min(pushed.sent);
        of.last = of.last.max(answered);
    }
}

impl Report {
    /// How many proxies ended so.
    pub(crate) fn ended(&self, end: End) -> usize {
        let classes = self.classes.values();
        classes.map(|class| class.ended[end as usize]).sum()
    }

    /// How many proxies there are.
    pub(crate) fn total(&self) -> usize {
        let classes = self.classes.values();
        classes.flat_map(|class| class.ended).sum()
    }
}

/// The pushes under way, the oldest first.
#[derive(Default)]
pub(crate) struct Rounds(VecDeque<Round>);

impl Rounds {
    /// One more; the reports of those that there is no room for any more.
    pub(crate) fn open(&mut self, mut round: Round, due: Instant) -> Vec<Report> {
        round.due = Some(due);
        self.0.push_back(round);
        let mut reports = Vec::new();
        while self.0.len() > MOST_OPEN {
            let oldest = self.0.pop_front();
            reports.extend(oldest.map(|round| round.report(SystemTime::now(), End::CutShort)));
        }
        reports
    }

    pub(crate) fn sent(&mut self, sent: &Sent) {
        self.0.iter_mut().for_each(|round| round.sent(sent));
    }

    /// `acked` is the revision that the stream's client runs of everything. The reports of those that nobody is missing of.
    pub(crate) fn answer(&mut self, answer: &Answer, acked: Option<i64>) -> Vec<Report> {
        let rounds = self.0.iter_mut();
        rounds.for_each(|round| round.answer(answer, acked));
        self.take(answer.at, |round| round.waiting.is_empty())
    }

    /// When the next one is given up.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.0.iter().filter_map(|round| round.due).min()
    }

    /// The reports of those that are given up.
    pub(crate) fn expire(&mut self, now: Instant, at: SystemTime) -> Vec<Report> {
        self.take(at, |round| round.due.is_some_and(|due| due <= now))
    }

    /// The reports of all.
    pub(crate) fn end(mut self, at: SystemTime) -> Vec<Report> {
        self.take(at, |_| true)
    }

    fn take(&mut self, at: SystemTime, which: impl Fn(&Round) -> bool) -> Vec<Report> {
        if !self.0.iter().any(&which) {
            return Vec::new();
        }
        let rounds = std::mem::take(&mut self.0);
        let (taken, left): (VecDeque<_>, _) = rounds.into_iter().partition(which);
        self.0 = left;
        let reports = taken.into_iter().map(|it| it.report(at, End::Missing));
        reports.collect()
    }
}
