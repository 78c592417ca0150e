//! What happens on streams, counted by type.
//!
//! *Invariant:* no label names a client or a resource: there are as many series for many of them as for one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use metrics::{counter, gauge, histogram};
use tonic::Status;

use crate::session::{Event, Response};
use crate::{Callbacks, Peer, Request, Resource, ResourceType, StreamInfo};

/// Callbacks that count what happens on streams, through the `metrics` facade, and leave the rest to others: streams that
/// are open (`weft_xds_streams`), and by `type` requests, responses, their bytes and resources, ACKs, NACKs, and how long a
/// question waits for its answer.
pub struct Metered<C> {
    inner: Arc<C>,
    /// By stream and type.
    under_way: Mutex<HashMap<(u64, ResourceType), UnderWay>>,
}

/// What a stream has of a type.
#[derive(Debug, Default)]
struct UnderWay {
    /// When something was asked for that was not answered yet.
    asked: Option<Instant>,
    /// Whether anything was ever sent.
    answered: bool,
    /// Whether what was sent last is neither ACKed nor refused yet.
    pending: bool,
}

impl<C: Callbacks> Metered<C> {
    /// Counts for a server of these types. Every series begins at nothing, so that the first event is a rise and not an
    /// appearance.
    pub fn new(inner: Arc<C>, types: &[ResourceType]) -> Self {
        for ty in types.iter().map(|ty| ty.short()) {
            for name in [
                "weft_xds_requests_total",
                "weft_xds_responses_total",
                "weft_xds_response_bytes_total",
                "weft_xds_resources_total",
                "weft_xds_acks_total",
                "weft_xds_nacks_total",
            ] {
                drop(counter!(name, "type" => ty));
            }
            drop(histogram!("weft_xds_answer_seconds", "type" => ty));
        }
        drop(gauge!("weft_xds_streams"));
        Self {
            inner,
            under_way: Mutex::default(),
        }
    }

    fn with<T>(
        &self,
        stream: &StreamInfo,
        ty: ResourceType,
        then: impl FnOnce(&mut UnderWay) -> T,
    ) -> T {
        let mut all = (self.under_way.lock()).unwrap_or_else(PoisonError::into_inner);
        then(all.entry((stream.id, ty)).or_default())
    }
}

impl<C: Callbacks> Callbacks for Metered<C> {
    fn on_stream_open(&self, stream: &StreamInfo) -> Result<(), Status> {
        self.inner.on_stream_open(stream)?;
        gauge!("weft_xds_streams").increment(1.0);
        Ok(())
    }

    fn on_stream_closed(&self, stream: &StreamInfo) {
        gauge!("weft_xds_streams").decrement(1.0);
        self.inner.on_stream_closed(stream);
        let mut all = (self.under_way.lock()).unwrap_or_else(PoisonError::into_inner);
        for ty in ResourceType::ALL {
            all.remove(&(stream.id, ty));
        }
    }

    fn on_request(&self, stream: &StreamInfo, request: Request<'_>) -> Result<(), Status> {
        let named = ResourceType::from_type_url(request.type_url());
        if let Some(ty) = named.or(stream.only) {
            counter!("weft_xds_requests_total", "type" => ty.short()).increment(1);
            self.with(stream, ty, |it| {
                let asks = match request {
                    Request::Sotw(request) => request.response_nonce.is_empty(),
                    Request::Delta(request) => {
                        !it.answered || !request.resource_names_subscribe.is_empty()
                    }
                };
                if asks {
                    it.asked.get_or_insert_with(Instant::now);
                }
            });
        }
        self.inner.on_request(stream, request)
    }

    fn on_response(&self, stream: &StreamInfo, response: &Response) {
        self.inner.on_response(stream, response);
        let ty = response.ty().short();
        let bytes: usize = response.chunks().iter().map(|chunk| chunk.len()).sum();
        let resources = response.resources().len();
        counter!("weft_xds_responses_total", "type" => ty).increment(1);
        counter!("weft_xds_response_bytes_total", "type" => ty).increment(bytes as u64);
        counter!("weft_xds_resources_total", "type" => ty).increment(resources as u64);
        let asked = self.with(stream, response.ty(), |it| {
            (it.answered, it.pending) = (true, true);
            it.asked.take()
        });
        if let Some(asked) = asked {
            histogram!("weft_xds_answer_seconds", "type" => ty).record(asked.elapsed());
        }
    }

    fn on_event(&self, stream: &StreamInfo, event: &Event) {
        self.inner.on_event(stream, event);
        match event {
            // Without a response it means that nothing changed for this stream.
            Event::Ack { ty, .. } => {
                let answers = self.with(stream, *ty, |it| {
                    it.asked.take_if(|_| !it.pending);
                    std::mem::take(&mut it.pending)
                });
                if answers {
                    counter!("weft_xds_acks_total", "type" => ty.short()).increment(1);
                }
            }
            Event::Nack { ty, .. } => {
                self.with(stream, *ty, |it| it.pending = false);
                counter!("weft_xds_nacks_total", "type" => ty.short()).increment(1);
            }
            Event::Refused { .. } | Event::Corrected { .. } | Event::Unsupported { .. } => {}
        }
    }

    fn on_fetch_request(&self, peer: &Peer, request: &DiscoveryRequest) -> Result<(), Status> {
        self.inner.on_fetch_request(peer, request)
    }

    fn on_fetch_response(&self, peer: &Peer, request: &DiscoveryRequest, resources: &[Resource]) {
        self.inner.on_fetch_response(peer, request, resources);
    }
}
