//! Counts what happens on streams, and tells those who follow it.

use metrics::{counter, gauge};
use xds::session::Event;
use xds::{Callbacks, Request, ResourceType, StreamInfo};

use crate::admit::Turn;
use crate::modes::{Tell, Told};
use crate::trace::Tracer;

/// Callbacks that count, and tell what proxies acknowledge.
pub(crate) struct Observer {
    /// Absent without identities.
    pub(crate) tell: Option<Tell>,
    /// Absent without a collector of traces.
    pub(crate) tracer: Option<Tracer>,
}

impl Callbacks for Observer {
    fn on_stream_open(&self, _: &StreamInfo) -> Result<(), tonic::Status> {
        gauge!("weft_xds_streams").increment(1.0);
        Ok(())
    }

    fn on_stream_closed(&self, stream: &StreamInfo) {
        gauge!("weft_xds_streams").decrement(1.0);
        if let Some(tracer) = &self.tracer {
            tracer.closed(stream);
        }
    }

    fn on_request(&self, _: &StreamInfo, request: Request<'_>) -> Result<(), tonic::Status> {
        if let Some(ty) = ResourceType::from_type_url(request.type_url()) {
            counter!("weft_xds_requests_total", "type" => acronym(ty)).increment(1);
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
        let ty = acronym(response.ty());
        counter!("weft_xds_responses_total", "type" => ty).increment(1);
        counter!("weft_xds_resources_total", "type" => ty)
            .increment(response.resources().len() as u64);
    }

    fn on_event(&self, stream: &StreamInfo, event: &Event) {
        if let Some(tracer) = &self.tracer {
            tracer.event(stream, event);
        }
        match event {
            Event::Ack { ty, revision } => {
                counter!("weft_xds_acks_total", "type" => acronym(*ty)).increment(1);
                if let (ResourceType::Listener, Some(tell), Some(node)) =
                    (ty, &self.tell, &stream.node)
                {
                    let (node, revision) = (node.clone(), *revision);
                    // Nobody listens while the pusher ends.
                    drop(tell.send(Told::Acknowledged { node, revision }));
                }
            }
            Event::Nack {
                ty,
                revision,
                error,
                ..
            } => {
                counter!("weft_xds_nacks_total", "type" => acronym(*ty)).increment(1);
                let proxy = stream.node.as_ref().map_or("", |node| node.id.as_str());
                tracing::warn!(
                    proxy,
                    ty = acronym(*ty),
                    revision,
                    error,
                    "an Envoy refused its configuration"
                );
            }
            Event::Refused { .. } | Event::Corrected { .. } | Event::Unsupported { .. } => {}
        }
    }
}

/// What the type's discovery service is called.
pub(crate) fn acronym(ty: ResourceType) -> &'static str {
    match ty {
        ResourceType::Cluster => "CDS",
        ResourceType::Endpoint => "EDS",
        ResourceType::Listener => "LDS",
        ResourceType::Route => "RDS",
        ResourceType::ScopedRoute => "SRDS",
        ResourceType::Secret => "SDS",
        ResourceType::Runtime => "RTDS",
        ResourceType::ExtensionConfig => "ECDS",
    }
}
