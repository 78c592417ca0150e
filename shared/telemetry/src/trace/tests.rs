#![allow(clippy::unwrap_used)]

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry::trace::{TraceFlags, TraceId};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};

use super::export::{Limits, start_with};
use super::*;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn a_context_survives_its_way_through_headers() {
    let carried = Carried {
        traceparent: Some(PARENT.into()),
        tracestate: Some("vendor=1".into()),
    };
    let cx = carried.context();
    let span = cx.span().span_context().clone();
    assert_eq!(
        span.trace_id(),
        TraceId::from_hex("4bf92f3577b34da6a3ce929d0e0e4736").unwrap()
    );
    assert_eq!(span.trace_flags(), TraceFlags::SAMPLED);
    assert!(span.is_remote());
    assert_eq!(Carried::of(&cx), carried);
}

#[test]
fn what_is_no_context_is_none() {
    for text in ["", "00-4bf92f3577b34da6a3ce929d0e0e4736", "x"] {
        let carried = Carried {
            traceparent: Some(text.into()),
            tracestate: None,
        };
        assert!(!carried.context().has_active_span(), "{text}");
    }
    assert_eq!(Carried::of(&Context::new()), Carried::default());
}

/// Takes batches, or never answers.
#[derive(Clone, Debug, Default)]
struct Collector {
    batches: Arc<Mutex<Vec<Vec<String>>>>,
    stuck: bool,
}

impl SpanExporter for Collector {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        if self.stuck {
            pending::<()>().await;
        }
        let names = batch.iter().map(|span| span.name.to_string()).collect();
        self.batches.lock().unwrap().push(names);
        Ok(())
    }
}

/// Only full batches.
const LIMITS: Limits = Limits {
    delay: Duration::from_secs(3600),
    patience: Duration::from_secs(3600),
    batch: 2,
};

impl Collector {
    fn batches(&self) -> Vec<Vec<String>> {
        self.batches.lock().unwrap().clone()
    }

    async fn until(&self, batches: &[&[&str]]) {
        let come = async {
            while self.batches() != batches {
                tokio::task::yield_now().await;
            }
        };
        let patience = Duration::from_secs(60);
        let in_time = tokio::time::timeout(patience, come).await;
        assert!(in_time.is_ok(), "{:?} and not {batches:?}", self.batches());
    }
}

fn tracer(queue: export::Queue) -> (SdkTracerProvider, impl Fn(&'static str)) {
    let provider = SdkTracerProvider::builder()
        .with_span_processor(queue)
        .build();
    let tracer = opentelemetry::trace::TracerProvider::tracer(&provider, "test");
    (provider, move |name| tracer.start(name).end())
}

#[tokio::test]
async fn batches_are_full_and_the_end_takes_the_rest() {
    let collector = Collector::default();
    let (queue, worker) = start_with(collector.clone(), 16, LIMITS);
    let (_provider, end) = tracer(queue);
    ["a", "b", "c"].into_iter().for_each(&end);
    collector.until(&[&["a", "b"]]).await;
    ["d", "e", "f"].into_iter().for_each(&end);
    worker.end().await;
    assert_eq!(collector.batches().concat(), ["a", "b", "c", "d", "e", "f"]);
}

#[tokio::test]
async fn a_batch_that_is_not_full_is_due_after_a_while() {
    let collector = Collector::default();
    let limits = Limits {
        delay: Duration::from_millis(10),
        ..LIMITS
    };
    let (queue, _worker) = start_with(collector.clone(), 16, limits);
    let (_provider, end) = tracer(queue);
    end("a");
    collector.until(&[&["a"]]).await;
}

#[tokio::test]
async fn a_collector_that_never_answers_holds_nobody_up() {
    let collector = Collector {
        stuck: true,
        ..Collector::default()
    };
    let (queue, worker) = start_with(collector, 4, LIMITS);
    let (_provider, end) = tracer(queue);
    for _ in 0..1000 {
        end("span");
        tokio::task::yield_now().await;
    }
    let ended = tokio::time::timeout(Duration::from_secs(60), worker.end()).await;
    assert!(ended.is_ok(), "the end waits for the collector");
}
