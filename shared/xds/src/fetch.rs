//! Single answers: the gRPC `Fetch…` methods, and REST polling over HTTP/1.1 (rule C9).
//!
//! *Invariant:* nothing is remembered between two requests.

use std::time::Instant;

use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};
use axum::routing::post;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use prost::Message as _;
use tonic::{Code, Status};
use tracing::debug;

use crate::server::{Server, peer};
use crate::session::{Options, Response, Session, Variant};
use crate::{Peer, ResourceType, json};

const REQUEST: &str = "envoy.service.discovery.v3.DiscoveryRequest";
const RESPONSE: &str = "envoy.service.discovery.v3.DiscoveryResponse";

/// The largest body of a REST request.
const LARGEST_BODY: usize = 8 << 20;

impl Server {
    /// REST polling: `POST /v3/discovery:clusters` and its kin, JSON in and out. It can be served by axum, alone or
    /// beside others, over HTTP/1.1.
    pub fn rest(&self) -> axum::Router {
        let paths = [
            (ResourceType::Cluster, "clusters"),
            (ResourceType::Listener, "listeners"),
            (ResourceType::Route, "routes"),
            (ResourceType::Endpoint, "endpoints"),
            (ResourceType::Secret, "secrets"),
            (ResourceType::Runtime, "runtime"),
        ];
        let mut router = axum::Router::new();
        for (ty, noun) in paths {
            let server = self.clone();
            let poll = move |extensions: http::Extensions, body: Bytes| async move {
                server
                    .poll(ty, &peer(extensions), &body)
                    .await
                    .unwrap_or_else(|status| refused(&status))
            };
            router = router.route(&format!("/v3/discovery:{noun}"), post(poll));
        }
        router.layer(axum::extract::DefaultBodyLimit::max(LARGEST_BODY))
    }

    async fn poll(
        &self,
        ty: ResourceType,
        peer: &Peer,
        body: &[u8],
    ) -> Result<HttpResponse, Status> {
        let bytes = json::lenient(REQUEST, body)
            .map_err(|e| Status::invalid_argument(format!("{REQUEST}: {e}")))?;
        let request = DiscoveryRequest::decode(bytes.as_slice())
            .map_err(|e| Status::internal(format!("the request cannot be read again: {e}")))?;
        let response = self.fetch(ty, peer, &request).await?;
        if !request.version_info.is_empty() && request.version_info == response.version() {
            return Ok(StatusCode::NOT_MODIFIED.into_response());
        }
        let json = json::plain(RESPONSE, &response.into_chunks().concat()).ok_or_else(|| {
            Status::internal("a resource holds a message that cannot be shown as JSON")
        })?;
        Ok((
            [(header::CONTENT_TYPE, "application/json")],
            json.to_string(),
        )
            .into_response())
    }

    /// One answer to one request: what there is of what it asks for.
    pub(crate) async fn fetch(
        &self,
        ty: ResourceType,
        peer: &Peer,
        request: &DiscoveryRequest,
    ) -> Result<Response, Status> {
        let shared = self.shared();
        shared.callbacks.on_fetch_request(peer, request)?;
        let now = Instant::now();
        let options = Options {
            only: Some(ty),
            nonce: "fetch-".into(),
            ..shared.options.clone()
        };
        let mut session = Session::new(Variant::Sotw, options, now);
        // Each request stands alone: what the client holds plays no part in what it is answered.
        let alone = DiscoveryRequest {
            version_info: String::new(),
            error_detail: None,
            ..request.clone()
        };
        session
            .on_request(&alone)
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        let node = request
            .node
            .as_ref()
            .ok_or_else(|| Status::invalid_argument("the request needs a node"))?;
        let mut snapshots = shared.source.snapshots(node, peer)?;
        let loaded =
            tokio::time::timeout(shared.load_timeout, snapshots.wait_for(Option::is_some)).await;
        let snapshot = match loaded {
            Ok(Ok(snapshot)) => snapshot.clone(),
            _ => {
                return Err(Status::unavailable(
                    "there is no configuration for this node yet",
                ));
            }
        };
        if let Some(snapshot) = snapshot {
            session.on_snapshot(snapshot);
        }
        let response = session
            .poll(now)
            .ok_or_else(|| Status::internal("the first request is always answered"))?;
        debug!(node = node.id, %ty, version = response.version(), resources = ?response.resources(), "fetch");
        shared
            .callbacks
            .on_fetch_response(peer, request, response.resources());
        Ok(response)
    }
}

fn refused(status: &Status) -> HttpResponse {
    let code = match status.code() {
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (code, status.message().to_owned()).into_response()
}
