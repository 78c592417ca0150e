//! What proxies answer to what was uploaded, as spans below its push.
//!
//! *Invariant:* while no proxy that is named owes an answer, a stream does nothing here but look at one flag.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use telemetry::trace::{self, Context, KeyValue, SpanKind, TraceContextExt};
use xds::session::{Event, Response};
use xds::{Request, StreamInfo};

use super::{NAMED, count};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// The proxies that were shown something new, and have not answered; the newest push only.
#[derive(Clone, Default)]
pub(crate) struct Answers {
    open: Arc<AtomicBool>,
    push: Arc<Mutex<Push>>,
}

#[derive(Default)]
struct Push {
    cx: Context,
    until: Option<Instant>,
    /// By node id: what was sent to it, once it was.
    waiting: HashMap<String, Option<Flight>>,
}

struct Flight {
    stream: u64,
    nonce: String,
    at: SystemTime,
    resources: usize,
    bytes: usize,
}

impl Answers {
    /// Something is about to be shown to these.
    pub(crate) fn expect(&self, cx: &Context, nodes: &[&str]) {
        if !trace::is_exported() || !cx.span().span_context().is_sampled() {
            return;
        }
        let named = nodes.iter().take(NAMED);
        *self.push() = Push {
            cx: cx.clone(),
            until: Some(Instant::now() + PATIENCE),
            waiting: named.map(|node| ((*node).to_owned(), None)).collect(),
        };
        self.open.store(true, Ordering::Release);
    }

    /// A response is about to be sent.
    pub(crate) fn sent(&self, stream: &StreamInfo, response: &Response) {
        let Some((mut push, node)) = self.under_way(stream) else {
            return;
        };
        if let Some(flight) = push.waiting.get_mut(&node)
            && !response.resources().is_empty()
        {
            *flight = Some(Flight {
                stream: stream.id,
                nonce: response.nonce().to_owned(),
                at: SystemTime::now(),
                resources: response.resources().len(),
                bytes: response.chunks().iter().map(|chunk| chunk.len()).sum(),
            });
        }
    }

    /// A request came: an acknowledgement, if it refuses nothing.
    pub(crate) fn asked(&self, stream: &StreamInfo, request: Request<'_>) {
        if request.error().is_none() {
            let nonce = Some(request.response_nonce());
            self.answered(stream, nonce, None);
        }
    }

    /// Something happened on a stream: a refusal, perhaps. Its reason is free of what it may have quoted.
    pub(crate) fn event(&self, stream: &StreamInfo, event: &Event) {
        if let Event::Nack { error, .. } = event {
            self.answered(stream, None, Some(error));
        }
    }

    fn answered(&self, stream: &StreamInfo, nonce: Option<&str>, refusal: Option<&str>) {
        let Some((mut push, node)) = self.under_way(stream) else {
            return;
        };
        let of = |flight: &Flight| {
            flight.stream == stream.id && nonce.is_none_or(|nonce| nonce == flight.nonce)
        };
        if push
            .waiting
            .get(&node)
            .and_then(Option::as_ref)
            .is_some_and(of)
            && let Some(Some(flight)) = push.waiting.remove(&node)
        {
            emit(&push.cx, &node, &flight, refusal);
        }
    }

    /// The push and the node of a stream, if there is something to hear.
    fn under_way(&self, stream: &StreamInfo) -> Option<(MutexGuard<'_, Push>, String)> {
        if !self.open.load(Ordering::Acquire) {
            return None;
        }
        let mut push = self.push();
        let over = push.until.is_none_or(|until| until < Instant::now());
        if over || push.waiting.is_empty() {
            *push = Push::default();
            self.open.store(false, Ordering::Release);
            return None;
        }
        Some((push, stream.node.as_ref()?.id.clone()))
    }

    fn push(&self) -> MutexGuard<'_, Push> {
        self.push.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn emit(push: &Context, node: &str, flight: &Flight, refusal: Option<&str>) {
    let about = [
        KeyValue::new("proxy.id", node.to_owned()),
        KeyValue::new("xds.type", "SDS"),
    ];
    let mut attributes = about.to_vec();
    attributes.push(KeyValue::new("xds.resources", count(flight.resources)));
    attributes.push(KeyValue::new("xds.bytes", count(flight.bytes)));
    let span = trace::span("push response", SpanKind::Internal)
        .with_start_time(flight.at)
        .with_attributes(attributes);
    let cx = trace::start(span, push);
    let name = if refusal.is_some() { "NACK" } else { "ACK" };
    let span = trace::span(name, SpanKind::Internal).with_attributes(about);
    let answer = trace::start(span, &cx);
    if let Some(reason) = refusal {
        let reason = KeyValue::new("xds.nack.reason", reason.to_owned());
        answer.span().set_attribute(reason);
        trace::failed(&answer, name);
        trace::failed(&cx, name);
    }
    answer.span().end();
    cx.span().end();
}
