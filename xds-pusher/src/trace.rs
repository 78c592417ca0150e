//! What becomes of a write, as spans below the one that wrote it: received, compiled, pushed, answered.
//!
//! The owner of the model says what it compiles and for whom ([`begin`]), streams say what is sent and answered ([`Tracer`]), and
//! one task puts it together ([`run`]). *Invariant:* without a collector, or while no push of a traced write is under way,
//! a stream does nothing for it; and it never waits for it.

mod report;
mod rounds;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use compile::Applied;
use metrics::counter;
use model::{Key, Kind, Revision};
use store::{Author, Change};
use telemetry::trace::{
    self, Carried, Context, KeyValue, Link, SpanContext, SpanKind, TraceContextExt, policy,
};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use xds::session::{Event, Response};
use xds::{StreamInfo, Streams};

pub(crate) use rounds::Expected;
use rounds::{Answer, Origin, Round, Rounds, Sent};

/// How much may be told and not heard yet.
const BACKLOG: usize = 65_536;

/// How long answers to a push are waited for; then its span says whose are missing.
const DEADLINE: Duration = Duration::from_secs(30);

/// How many resources a span names.
const NAMED: usize = 64;

/// One revision that somebody wrote.
pub(crate) struct Write {
    revision: Revision,
    carried: Carried,
    changes: usize,
    /// What it changed, the first of it.
    keys: Vec<Key>,
}

impl Write {
    pub(crate) fn of(revision: Revision, changes: &[Change], authors: &[Author]) -> Self {
        let author = authors.first();
        let carried = author.map(|author| Carried {
            traceparent: author.traceparent.clone(),
            tracestate: author.tracestate.clone(),
        });
        Self {
            revision,
            carried: carried.unwrap_or_default(),
            changes: changes.len(),
            // How it is delivered is written beside what is.
            keys: changes.iter().filter_map(changed).take(NAMED).collect(),
        }
    }
}

impl Write {
    /// What a proxy acknowledged of mutual TLS was stored.
    pub(crate) fn mode(
        revision: Revision,
        (namespace, name): (&str, &str),
        traceparent: String,
    ) -> Self {
        let carried = Carried {
            traceparent: Some(traceparent),
            tracestate: None,
        };
        Self {
            revision,
            carried,
            changes: 1,
            keys: vec![Key::new(Kind::WorkloadEntry, namespace, name)],
        }
    }
}

/// What a workload's proxy was told or acknowledged of mutual TLS is stored: the context to store with it, in the trace that it was
/// compiled in, if that is one.
pub(crate) fn storing(path: &str, cause: &Carried) -> Carried {
    let cause = cause.context();
    let (true, Some((namespace, name))) = (cause.has_active_span(), path.split_once('/')) else {
        return Carried::default();
    };
    let of = policy(Kind::WorkloadEntry.name(), namespace, name);
    let span = trace::span("store mode", SpanKind::Producer).with_attributes(of);
    Carried::of(&trace::start(span, &cause))
}

fn changed(change: &Change) -> Option<Key> {
    match change {
        Change::Put { object, .. } => Some(object.key()),
        Change::Delete { key, .. } => Some(key.clone()),
        Change::Liveness {
            namespace, name, ..
        } => Some(Key::new(
            Kind::WorkloadEntry,
            namespace.clone(),
            name.clone(),
        )),
        Change::Undecodable(value) => value.key.clone(),
        Change::Rollout { .. } => None,
    }
}

/// Which resources of policy something is about.
#[derive(Clone, Default)]
pub(crate) struct Policies {
    /// The only one that the newest write changed.
    one: Option<Key>,
    /// The others.
    more: Vec<Key>,
}

impl Policies {
    /// Of a write, and of those that were compiled together with it.
    fn of<'a>(main: &'a Write, others: impl Iterator<Item = &'a Write>) -> Self {
        let (one, more) = match &main.keys[..] {
            [one] => (Some(one.clone()), &[][..]),
            more => (None, more),
        };
        let others = others.flat_map(|write| &write.keys);
        let more = more.iter().chain(others).take(NAMED).cloned();
        Self {
            one,
            more: more.collect(),
        }
    }

    /// The one, as attributes.
    pub(crate) fn attributes(&self) -> Vec<KeyValue> {
        let one = self.one.iter();
        let named = one.flat_map(|key| policy(key.kind.name(), &key.namespace, &key.name));
        named.collect()
    }

    /// Names the others, each in an event.
    pub(crate) fn name(&self, cx: &Context) {
        for key in &self.more {
            let named = policy(key.kind.name(), &key.namespace, &key.name);
            cx.span().add_event("policy", named.to_vec());
        }
    }
}

/// Writes that are compiled together.
pub(crate) struct Compiling {
    /// The span of each write's arrival, in their own traces.
    watches: Vec<Context>,
    /// Where the rest belongs: the arrival of the newest write that is sampled.
    main: Context,
    compile: Context,
    links: Vec<Link>,
    policies: Policies,
}

/// Begins the spans of writes that have arrived; nothing if there are none.
pub(crate) fn begin(writes: &[Write]) -> Option<Compiling> {
    let watches: Vec<Context> = writes.iter().map(arrival).collect();
    let sampled = |cx: &Context| cx.span().span_context().is_sampled();
    let main = (watches.iter().rposition(sampled)).unwrap_or(watches.len().checked_sub(1)?);
    let links: Vec<Link> = (writes.iter().zip(&watches).enumerate())
        .filter(|(index, _)| *index != main)
        .map(|(_, (write, watch))| link(&write.carried.context(), watch))
        .collect();
    let others = writes.iter().enumerate().filter(|(at, _)| *at != main);
    let policies = Policies::of(&writes[main], others.map(|(_, write)| write));
    let span = trace::span("compile", SpanKind::Internal)
        .with_links(links.clone())
        .with_attributes(policies.attributes());
    let compile = trace::start(span, &watches[main]);
    policies.name(&compile);
    for (index, watch) in watches.iter().enumerate() {
        if index != main {
            let to = compile.span().span_context().clone();
            watch.span().add_link(to, Vec::new());
        }
    }
    Some(Compiling {
        main: watches[main].clone(),
        watches,
        compile,
        links,
        policies,
    })
}

fn arrival(write: &Write) -> Context {
    let mut attributes = vec![
        KeyValue::new("mesh.revision", write.revision.0),
        KeyValue::new("policy.count", count(write.changes)),
    ];
    let policies = Policies::of(write, std::iter::empty());
    attributes.extend(policies.attributes());
    let span = trace::span("watch", SpanKind::Consumer).with_attributes(attributes);
    let cx = trace::start(span, &write.carried.context());
    policies.name(&cx);
    cx
}

/// A link to who wrote, or to the arrival where that is not known.
fn link(written: &Context, watch: &Context) -> Link {
    let valid = |cx: &Context| Some(cx.span().span_context().clone()).filter(SpanContext::is_valid);
    let to = valid(written).or_else(|| valid(watch));
    Link::with_context(to.unwrap_or(SpanContext::NONE))
}

impl Compiling {
    /// The context of what is done meanwhile.
    pub(crate) fn context(&self) -> Context {
        self.compile.clone()
    }

    /// The compilation is done.
    pub(crate) fn compiled(&self, applied: &Applied) {
        let counters = &applied.counters;
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.compile.span().set_attributes([
            KeyValue::new("mesh.revision", applied.revision.0),
            KeyValue::new("compile.units", number(counters.units_recompiled)),
            KeyValue::new("compile.resources", number(counters.resources_changed)),
            KeyValue::new("proxies.changed", count(applied.changed.len())),
        ]);
        self.compile.span().end();
    }

    /// It is about to be pushed to these.
    pub(crate) fn push(
        &self,
        tracer: Option<&Tracer>,
        revision: Revision,
        expected: impl FnOnce() -> Vec<Expected>,
    ) {
        let sampled = self.main.span().span_context().is_sampled();
        let expected = match tracer {
            Some(_) if sampled => expected(),
            _ => Vec::new(),
        };
        if let (Some(tracer), false) = (tracer, expected.is_empty()) {
            let origin = Origin {
                revision: revision.0,
                policies: self.policies.clone(),
                parent: self.main.clone(),
                links: self.links.clone(),
            };
            tracer.open(Round::new(origin, SystemTime::now(), expected));
        }
        for watch in &self.watches {
            watch.span().end();
        }
    }
}

/// Where pushes of traced writes are told.
#[derive(Clone)]
pub(crate) struct Tracer {
    told: mpsc::Sender<Told>,
    /// How many pushes are under way.
    open: Arc<AtomicUsize>,
}

/// What is told.
pub(crate) enum Told {
    Round(Box<Round>),
    Sent(Sent),
    Answer(Answer),
}

impl Tracer {
    /// Nothing without a collector.
    pub(crate) fn new() -> Option<(Self, mpsc::Receiver<Told>)> {
        let (told, heard) = mpsc::channel(BACKLOG);
        let tracer = Self {
            told,
            open: Arc::default(),
        };
        trace::is_exported().then_some((tracer, heard))
    }

    fn open(&self, round: Round) {
        self.open.fetch_add(1, Ordering::Relaxed);
        if !self.tell(Told::Round(Box::new(round))) {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn tell(&self, told: Told) -> bool {
        let taken = self.told.try_send(told).is_ok();
        if !taken {
            counter!("weft_trace_pushes_untold_total").increment(1);
        }
        taken
    }

    fn listens(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    /// A response is about to be sent.
    pub(crate) fn sent(&self, stream: &StreamInfo, response: &Response) {
        if let (true, Some(node)) = (self.listens(), &stream.node) {
            self.tell(Told::Sent(Sent {
                node: node.clone(),
                ty: response.ty().short(),
                revision: response.revision(),
                version: response.version().into(),
                resources: response.resources().len(),
                removed: response.removed().len(),
                bytes: response.chunks().iter().map(|chunk| chunk.len()).sum(),
                at: SystemTime::now(),
            }));
        }
    }

    /// Something happened on a stream.
    pub(crate) fn event(&self, stream: &StreamInfo, event: &Event) {
        if !self.listens() {
            return;
        }
        let (ty, revision, refusal) = match event {
            Event::Ack { ty, revision } => (*ty, *revision, None),
            Event::Nack {
                ty,
                revision,
                error,
                ..
            } => (*ty, *revision, Some(error.clone())),
            _ => return,
        };
        if let Some(node) = &stream.node {
            self.tell(Told::Answer(Answer {
                stream: stream.id,
                node: node.clone(),
                given: Some((ty.short(), revision, refusal)),
                at: SystemTime::now(),
            }));
        }
    }

    /// A stream ended.
    pub(crate) fn closed(&self, stream: &StreamInfo) {
        if let (true, Some(node)) = (self.listens(), &stream.node) {
            self.tell(Told::Answer(Answer {
                stream: stream.id,
                node: node.clone(),
                given: None,
                at: SystemTime::now(),
            }));
        }
    }
}

/// Puts together what is told, and makes spans of it, until the shutdown.
pub(crate) async fn run(
    tracer: Tracer,
    mut heard: mpsc::Receiver<Told>,
    streams: Streams,
    shutdown: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    let mut rounds = Rounds::default();
    loop {
        let due = rounds.due();
        let reports = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(told) = heard.recv() => match told {
                Told::Round(round) => rounds.open(*round, Instant::now() + DEADLINE),
                Told::Sent(sent) => { rounds.sent(&sent); Vec::new() }
                Told::Answer(answer) => rounds.answer(&answer, streams.acked(answer.stream)),
            },
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                rounds.expire(Instant::now(), SystemTime::now())
            }
        };
        for report in reports {
            tracer.open.fetch_sub(1, Ordering::Relaxed);
            report::emit(&report);
        }
    }
    for report in rounds.end(SystemTime::now()) {
        report::emit(&report);
    }
    Ok(())
}

fn count(of: usize) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}
