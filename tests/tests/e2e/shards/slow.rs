//! Clients that ask for everything and read nothing, and what a server spends on them.
//!
//! *Invariant:* a reader here never takes a byte of a response.

use std::net::SocketAddr;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;
use weft_tests::wait::{self, PATIENCE};
use xds::pb::envoy::config::core::v3::Node;
use xds::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use xds::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};

/// A stream that nobody reads.
pub(super) struct Reader {
    _responses: Streaming<DiscoveryResponse>,
    _requests: mpsc::Sender<DiscoveryRequest>,
}

/// So many, in turn at one server and the other.
pub(super) async fn readers(servers: [SocketAddr; 2], count: usize) -> Vec<Reader> {
    let mut readers = Vec::new();
    for n in 0..count {
        let server = servers[n % 2];
        let open = async || open(server, &format!("sidecar~shop~slow-{n}")).await;
        readers.push(wait::until("a stream", PATIENCE, open).await.unwrap());
    }
    readers
}

async fn open(server: SocketAddr, id: &str) -> anyhow::Result<Reader> {
    let endpoint = Endpoint::from_shared(format!("http://{server}"))?;
    let endpoint = endpoint.initial_stream_window_size(1024);
    let mut ads = AggregatedDiscoveryServiceClient::new(endpoint.connect().await?);
    let (requests, outgoing) = mpsc::channel(1);
    requests
        .send(DiscoveryRequest {
            node: Some(Node {
                id: id.into(),
                ..Node::default()
            }),
            type_url: "type.googleapis.com/envoy.config.cluster.v3.Cluster".into(),
            ..DiscoveryRequest::default()
        })
        .await?;
    let responses = ads.stream_aggregated_resources(ReceiverStream::new(outgoing));
    Ok(Reader {
        _responses: responses.await?.into_inner(),
        _requests: requests,
    })
}

/// The most memory that a process has held, in bytes.
pub(super) fn peak_rss(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}
