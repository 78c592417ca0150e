//! Says how long commits take to be acknowledged on streams, and tells those who follow what happens on them. What happens
//! there is counted by [`xds::Metered`].
//!
//! *Invariant:* no label names a proxy or a resource: there are as many series on the largest mesh as on the smallest.

mod commits;
mod lag;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{counter, gauge, histogram};
use xds::session::Event;
use xds::{Callbacks, Request, ResourceType, StreamInfo};

pub(crate) use commits::{Commits, age};
pub(crate) use lag::lag;

use crate::admit::Turn;
use crate::modes::{Tell, Told};
use crate::trace::Tracer;

/// Callbacks that measure, and tell what proxies acknowledge.
pub(crate) struct Observer {
    /// Absent without identities.
    tell: Option<Tell>,
    /// Absent without a collector of traces.
    tracer: Option<Tracer>,
    commits: Commits,
    /// By stream and type.
    under_way: Mutex<HashMap<(u64, ResourceType), UnderWay>>,
}

/// What a stream has of a type.
#[derive(Debug, Default)]
struct UnderWay {
    /// The revision it runs; `None` before the first ACK.
    runs: Option<i64>,
    /// The revision that was sent and not answered yet.
    sent: Option<i64>,
}

/// Begins every series at nothing, so that the first event is a rise and not an appearance.
pub(crate) fn begin() {
    for ty in ResourceType::ALL.map(ResourceType::short) {
        drop(histogram!("weft_commit_ack_seconds", "type" => ty));
    }
    for reason in ["authentication", "authorization"] {
        drop(counter!("weft_pusher_refusals_total", "reason" => reason));
    }
    for outcome in ["passed", "unreachable"] {
        drop(counter!("weft_pusher_passes_total", "outcome" => outcome));
    }
    for name in [
        "weft_pusher_admission_refused_total",
        "weft_pusher_moved_streams_total",
        "weft_trace_pushes_untold_total",
        "weft_units_recompiled_total",
        "weft_resources_recompiled_total",
        "weft_snapshot_updates_total",
    ] {
        drop(counter!(name));
    }
    for name in [
        "weft_compile_seconds",
        "weft_pusher_admission_wait_seconds",
        "weft_watch_delay_seconds",
        "weft_snapshot_resources",
    ] {
        drop(histogram!(name));
    }
    drop(gauge!("weft_pusher_passed_streams"));
    drop(gauge!("weft_pusher_admission_queue"));
}

impl Observer {
    pub(crate) fn new(tell: Option<Tell>, tracer: Option<Tracer>, commits: Commits) -> Self {
        Self {
            tell,
            tracer,
            commits,
            under_way: Mutex::default(),
        }
    }

    fn with<T>(
        &self,
        stream: &StreamInfo,
        ty: ResourceType,
        then: impl FnOnce(&mut UnderWay) -> T,
    ) -> T {
        let mut all = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        then(all.entry((stream.id, ty)).or_default())
    }

    fn acknowledged(&self, stream: &StreamInfo, ty: ResourceType, revision: i64) {
        let (before, sent) =
            self.with(stream, ty, |it| (it.runs.replace(revision), it.sent.take()));
        // Without a response it means that nothing changed for this stream.
        if sent.is_none() {
            return;
        }
        // What a stream gets first has no commit that it waited for.
        if let Some(since) = before.and_then(|before| self.commits.since(before, revision)) {
            histogram!("weft_commit_ack_seconds", "type" => ty.short()).record(since);
        }
    }
}

impl Callbacks for Observer {
    fn on_stream_closed(&self, stream: &StreamInfo) {
        if let Some(tracer) = &self.tracer {
            tracer.closed(stream);
        }
        if let (Some(tell), Some(node)) = (&self.tell, &stream.node) {
            let (node, stream) = (node.id.as_str().into(), stream.id);
            drop(tell.send(Told::Closed { node, stream }));
        }
        let mut all = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for ty in ResourceType::ALL {
            all.remove(&(stream.id, ty));
        }
    }

    fn on_request(&self, stream: &StreamInfo, request: Request<'_>) -> Result<(), tonic::Status> {
        let named = ResourceType::from_type_url(request.type_url());
        if let (Some(ResourceType::Cluster | ResourceType::Listener), Some(tell)) =
            (named.or(stream.only), &self.tell)
        {
            let said = match request {
                Request::Sotw(request) => &request.node,
                Request::Delta(request) => &request.node,
            };
            let node = stream.node.clone().or_else(|| said.clone().map(Arc::new));
            if let Some(node) = node {
                let stream = stream.id;
                drop(tell.send(Told::Opened { node, stream }));
            }
        }
        Ok(())
    }

    fn on_response(&self, stream: &StreamInfo, response: &xds::session::Response) {
        if let Some(tracer) = &self.tracer {
            tracer.sent(stream, response);
        }
        if let Some(turn) = stream.peer.extensions.get::<Turn>() {
            turn.done();
        }
        self.with(stream, response.ty(), |it| {
            it.sent = Some(response.revision());
        });
    }

    fn on_event(&self, stream: &StreamInfo, event: &Event) {
        if let Some(tracer) = &self.tracer {
            tracer.event(stream, event);
        }
        match event {
            Event::Ack { ty, revision } => {
                self.acknowledged(stream, *ty, *revision);
                if let (ResourceType::Listener, Some(tell), Some(node)) =
                    (ty, &self.tell, &stream.node)
                {
                    let (node, revision) = (node.clone(), *revision);
                    let stream = stream.id;
                    // Nobody listens while the pusher ends.
                    drop(tell.send(Told::Acknowledged {
                        node,
                        stream,
                        revision,
                    }));
                }
            }
            Event::Nack {
                ty,
                revision,
                error,
                ..
            } => {
                self.with(stream, *ty, |it| it.sent = None);
                let proxy = stream.node.as_ref().map_or("", |node| node.id.as_str());
                tracing::warn!(
                    proxy,
                    ty = ty.short(),
                    revision,
                    error,
                    "an Envoy refused its configuration"
                );
            }
            Event::Refused { .. } | Event::Corrected { .. } | Event::Unsupported { .. } => {}
        }
    }
}
