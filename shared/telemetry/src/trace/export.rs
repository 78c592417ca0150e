//! From the end of a span to the collector: a bounded queue, and one task that empties it in batches.
//!
//! *Invariant:* ending a span never waits. What finds the queue full, or the collector away, is dropped and counted.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use metrics::counter;
use opentelemetry::Context;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How long the end of the process may wait for the last spans.
const LAST: Duration = Duration::from_secs(3);

/// The end of spans, as the SDK tells it.
pub(super) struct Queue(mpsc::Sender<SpanData>);

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Queue")
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.0.try_send(span).is_err() {
            counter!("weft_trace_spans_dropped_total", "reason" => "queue").increment(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The task that exports.
#[derive(Debug)]
pub(super) struct Worker {
    task: JoinHandle<()>,
    ending: CancellationToken,
}

impl Worker {
    /// Exports what is left, and ends.
    pub(super) async fn end(self) {
        let Self { mut task, ending } = self;
        ending.cancel();
        if tokio::time::timeout(LAST, &mut task).await.is_err() {
            warn!("the collector does not take the last spans; they are dropped");
            task.abort();
        }
    }
}

/// Begins to export, by the limits that `OTEL_BSP_*` set.
pub(super) fn start(exporter: impl SpanExporter + 'static) -> (Queue, Worker) {
    let millis = |name, default| Duration::from_millis(number(name, default));
    let size = |name, default| usize::try_from(number(name, default)).unwrap_or(usize::MAX >> 4);
    let queue = size("OTEL_BSP_MAX_QUEUE_SIZE", 2048).max(1);
    let limits = Limits {
        delay: millis("OTEL_BSP_SCHEDULE_DELAY", 5000),
        patience: millis("OTEL_BSP_EXPORT_TIMEOUT", 30_000),
        batch: size("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512).clamp(1, queue),
    };
    start_with(exporter, queue, limits)
}

/// When a batch is exported.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// This long after its first span at the latest.
    pub(super) delay: Duration,
    /// How long the collector may take.
    pub(super) patience: Duration,
    /// Once it has as many spans.
    pub(super) batch: usize,
}

pub(super) fn start_with(
    exporter: impl SpanExporter + 'static,
    queue: usize,
    limits: Limits,
) -> (Queue, Worker) {
    let (ended, spans) = mpsc::channel(queue);
    let ending = CancellationToken::new();
    let task = tokio::spawn(export(exporter, spans, limits, ending.clone()));
    (Queue(ended), Worker { task, ending })
}

async fn export(
    exporter: impl SpanExporter,
    mut spans: mpsc::Receiver<SpanData>,
    limits: Limits,
    ending: CancellationToken,
) {
    let mut batch = Vec::new();
    let mut well = true;
    loop {
        tokio::select! {
            () = fill(&mut spans, &mut batch, limits) => {}
            () = ending.cancelled() => spans.close(),
        }
        while batch.len() < limits.batch
            && let Ok(span) = spans.try_recv()
        {
            batch.push(span);
        }
        if batch.is_empty() {
            // Closed and empty.
            return;
        }
        let count = batch.len() as u64;
        let sent = exporter.export(std::mem::take(&mut batch));
        let failure = match tokio::time::timeout(limits.patience, sent).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {:?}", limits.patience)),
        };
        match &failure {
            None => counter!("weft_trace_spans_exported_total").increment(count),
            Some(_) => {
                counter!("weft_trace_spans_dropped_total", "reason" => "export").increment(count)
            }
        }
        match (well, &failure) {
            (true, Some(error)) => {
                warn!(
                    error,
                    "traces cannot be exported; spans are dropped until they can"
                )
            }
            (false, None) => info!("traces are exported again"),
            _ => {}
        }
        well = failure.is_none();
    }
}

/// Fills a batch until it is full or due. What it took stays in the batch if it is dropped.
async fn fill(spans: &mut mpsc::Receiver<SpanData>, batch: &mut Vec<SpanData>, limits: Limits) {
    let Some(first) = spans.recv().await else {
        return;
    };
    batch.push(first);
    let due = tokio::time::sleep(limits.delay);
    tokio::pin!(due);
    while batch.len() < limits.batch {
        let room = limits.batch - batch.len();
        tokio::select! {
            received = spans.recv_many(batch, room) => if received == 0 { return },
            () = &mut due => return,
        }
    }
}

/// A number from the environment; what is none is named and ignored, as OpenTelemetry has it.
fn number(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else {
        return default;
    };
    match u64::from_str(text.trim()) {
        Ok(number) => number,
        Err(_) if text.is_empty() => default,
        Err(_) => {
            warn!("{name}={text:?} is no number; {default} holds");
            default
        }
    }
}
