//! What a control plane can hook into: streams, requests, responses, and what clients make of them.
//!
//! *Invariant:* callbacks are called on the stream's own task and must not block; none is called with a lock held.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use tonic::Status;

use crate::session::{Event, Response, Variant};
use crate::{Peer, Resource, ResourceType};

/// A stream, as callbacks see it.
#[derive(Clone, Debug)]
pub struct StreamInfo {
    /// Unique within the server.
    pub id: u64,
    /// The variant of the protocol.
    pub variant: Variant,
    /// The only type of the stream; `None`: aggregated.
    pub only: Option<ResourceType>,
    /// When it was opened.
    pub opened: std::time::SystemTime,
    /// Who opened it.
    pub peer: Peer,
    /// Who it says it is, once the first request came.
    pub node: Option<Arc<Node>>,
}

/// A request of either variant.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// State of the world.
    Sotw(&'a DiscoveryRequest),
    /// Delta.
    Delta(&'a DeltaDiscoveryRequest),
}

impl Request<'_> {
    /// What it asks for.
    pub fn type_url(&self) -> &str {
        match self {
            Self::Sotw(request) => &request.type_url,
            Self::Delta(request) => &request.type_url,
        }
    }
    /// The response it answers, if any.
    pub fn response_nonce(&self) -> &str {
        match self {
            Self::Sotw(request) => &request.response_nonce,
            Self::Delta(request) => &request.response_nonce,
        }
    }
    /// Why the client refused that response, if it did; as it said it, which may quote key material. ([`Event::Nack`] is
    /// free of that.)
    pub fn error(&self) -> Option<&str> {
        let detail = match self {
            Self::Sotw(request) => &request.error_detail,
            Self::Delta(request) => &request.error_detail,
        };
        detail.as_ref().map(|status| status.message.as_str())
    }
}

/// Hooks; each does nothing unless implemented. Streams and requests can be refused.
// A status is what a stream ends with; boxing it would only move it.
#[allow(clippy::result_large_err)]
pub trait Callbacks: Send + Sync + 'static {
    /// A stream was opened; nothing was received yet.
    ///
    /// # Errors
    /// The stream is refused with this status.
    fn on_stream_open(&self, stream: &StreamInfo) -> Result<(), Status> {
        let _ = stream;
        Ok(())
    }
    /// A stream ended, for whatever reason.
    fn on_stream_closed(&self, stream: &StreamInfo) {
        let _ = stream;
    }
    /// A request was received, and not yet acted upon.
    ///
    /// # Errors
    /// The stream ends with this status.
    fn on_request(&self, stream: &StreamInfo, request: Request<'_>) -> Result<(), Status> {
        let _ = (stream, request);
        Ok(())
    }
    /// A response is about to be sent.
    fn on_response(&self, stream: &StreamInfo, response: &Response) {
        let _ = (stream, response);
    }
    /// The client ACKed or NACKed, or the culprit of a NACK was found.
    fn on_event(&self, stream: &StreamInfo, event: &Event) {
        let _ = (stream, event);
    }
    /// A request for a single answer was received, by gRPC `Fetch…` or by REST.
    ///
    /// # Errors
    /// It is answered with this status.
    fn on_fetch_request(&self, peer: &Peer, request: &DiscoveryRequest) -> Result<(), Status> {
        let _ = (peer, request);
        Ok(())
    }
    /// The single answer is about to be sent.
    fn on_fetch_response(&self, peer: &Peer, request: &DiscoveryRequest, resources: &[Resource]) {
        let _ = (peer, request, resources);
    }
}

/// No hooks.
impl Callbacks for () {}
