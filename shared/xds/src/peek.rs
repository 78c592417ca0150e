//! Looking at the first request of a stream before anybody serves it: for who passes streams on to another replica.
//!
//! *Invariant:* what was read is given back, byte for byte.

use axum::body::Body;
use bytes::Bytes;
use tonic::Status;

use crate::framing::Requests;
use crate::server;
use crate::session::Variant;
use crate::stream::FIRST_REQUEST;

/// The beginning of a stream.
pub struct Peeked {
    /// The node id that the first request names, if any.
    pub node: Option<String>,
    /// What was read: the first request, and perhaps more.
    pub first: Bytes,
    /// What was not.
    pub rest: Body,
}

/// The variant that a path of this library's streams speaks; `None` for every other path.
pub fn variant(path: &str) -> Option<Variant> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let noun = server::noun(service)?;
    match method.strip_suffix(noun)? {
        "Stream" => Some(Variant::Sotw),
        "Delta" => Some(Variant::Delta),
        _ => None,
    }
}

/// Reads the first request of a stream, for as long as a stream has for that, and no more of it than its node's id.
///
/// # Errors
/// If there is none, or it cannot be decoded.
#[allow(clippy::result_large_err, reason = "it is what a stream ends with")]
pub async fn peek(variant: Variant, body: Body) -> Result<Peeked, Status> {
    let node = |node: Option<Node>| node.map(|node| node.id);
    let peeking = async {
        match variant {
            Variant::Sotw => {
                let (request, first, rest) = Requests::<Sotw>::new(body).first().await?;
                let node = node(request.node);
                Ok(Peeked { node, first, rest })
            }
            Variant::Delta => {
                let (request, first, rest) = Requests::<Delta>::new(body).first().await?;
                let node = node(request.node);
                Ok(Peeked { node, first, rest })
            }
        }
    };
    let peeked = tokio::time::timeout(FIRST_REQUEST, peeking).await;
    peeked.unwrap_or_else(|_| Err(Status::deadline_exceeded("no request came")))
}

/// Of a `Node`.
#[derive(Clone, PartialEq, prost::Message)]
struct Node {
    #[prost(string, tag = "1")]
    id: String,
}

/// Of a `DiscoveryRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct Sotw {
    #[prost(message, optional, tag = "2")]
    node: Option<Node>,
}

/// Of a `DeltaDiscoveryRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct Delta {
    #[prost(message, optional, tag = "1")]
    node: Option<Node>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::BytesMut;
    use envoy_types::pb::envoy::config::core::v3 as core;
    use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
    use futures::StreamExt as _;
    use http_body_util::BodyExt as _;
    use prost::Message;

    use super::*;

    fn framed(message: &impl Message) -> Vec<u8> {
        let message = message.encode_to_vec();
        let mut frame = vec![0];
        frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        frame.extend(message);
        frame
    }

    fn requests() -> [(Variant, Vec<u8>); 2] {
        let node = Some(core::Node {
            id: "sidecar~shop~web".into(),
            cluster: "web.shop".into(),
            ..core::Node::default()
        });
        let sotw = DiscoveryRequest {
            version_info: "7".into(),
            node: node.clone(),
            ..DiscoveryRequest::default()
        };
        let delta = DeltaDiscoveryRequest {
            node,
            resource_names_subscribe: vec!["*".into()],
            ..DeltaDiscoveryRequest::default()
        };
        let second = framed(&DiscoveryRequest::default());
        [
            (Variant::Sotw, [framed(&sotw), second.clone()].concat()),
            (Variant::Delta, [framed(&delta), second].concat()),
        ]
    }

    #[tokio::test]
    async fn the_node_is_read_and_every_byte_given_back_however_it_was_cut() {
        for (variant, bytes) in requests() {
            for size in [1, 7, bytes.len()] {
                let pieces: Vec<_> = bytes.chunks(size).map(<[u8]>::to_vec).collect();
                let body = futures::stream::iter(pieces).map(Ok::<_, std::io::Error>);
                let peeked = peek(variant, Body::from_stream(body)).await.unwrap();
                assert_eq!(peeked.node.as_deref(), Some("sidecar~shop~web"));
                let mut whole = BytesMut::from(&peeked.first[..]);
                whole.extend_from_slice(&peeked.rest.collect().await.unwrap().to_bytes());
                assert_eq!(whole, bytes, "{variant:?} in pieces of {size}");
            }
        }
    }

    #[tokio::test]
    async fn a_stream_without_a_request_is_refused() {
        assert!(peek(Variant::Sotw, Body::empty()).await.is_err());
        let cut = Body::from(requests()[0].1[..9].to_vec());
        assert!(peek(Variant::Sotw, cut).await.is_err());
    }

    #[test]
    fn streams_are_known_by_their_paths() {
        for (path, expected) in [
            (
                "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
                Some(Variant::Sotw),
            ),
            (
                "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
                Some(Variant::Delta),
            ),
            (
                "/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters",
                Some(Variant::Delta),
            ),
            (
                "/envoy.service.cluster.v3.ClusterDiscoveryService/FetchClusters",
                None,
            ),
            (
                "/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaEndpoints",
                None,
            ),
            ("/weft.pusher.v1.Pusher/ListProxies", None),
            ("/v3/discovery:clusters", None),
        ] {
            assert_eq!(variant(path), expected, "{path}");
        }
    }
}
