//! A delta ADS client that ACKs what it gets, or refuses what it is told to refuse.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse,
};
use envoy_types::pb::google::rpc::Status as RpcStatus;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::fixture::PATIENCE;

pub(crate) struct Client {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
    node: Option<Node>,
    refused: BTreeSet<String>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr, id: &str) -> Self {
        let mut client = AggregatedDiscoveryServiceClient::connect(format!("http://{address}"))
            .await
            .unwrap();
        let (requests, stream) = mpsc::channel(16);
        let responses = client
            .delta_aggregated_resources(ReceiverStream::new(stream))
            .await
            .unwrap()
            .into_inner();
        let node = Some(Node {
            id: id.to_owned(),
            ..Node::default()
        });
        Self {
            requests,
            responses,
            node,
            refused: BTreeSet::new(),
        }
    }

    /// Refuses every response that holds this resource.
    pub(crate) fn refuse(&mut self, name: &str) {
        self.refused.insert(name.to_owned());
    }

    /// Refuses nothing any more.
    pub(crate) fn accept(&mut self) {
        self.refused.clear();
    }

    pub(crate) async fn subscribe(&mut self, type_url: &str, names: &[&str]) {
        let request = DeltaDiscoveryRequest {
            node: self.node.take(),
            type_url: type_url.to_owned(),
            resource_names_subscribe: names.iter().map(ToString::to_string).collect(),
            ..DeltaDiscoveryRequest::default()
        };
        self.requests.send(request).await.unwrap();
    }

    /// The next response of a type that looks like this; all are answered.
    pub(crate) async fn until(
        &mut self,
        type_url: &str,
        like: impl Fn(&DeltaDiscoveryResponse) -> bool,
    ) -> DeltaDiscoveryResponse {
        let wait = async {
            loop {
                let response = self
                    .responses
                    .message()
                    .await
                    .unwrap()
                    .expect("the stream stays open");
                self.answer(&response).await;
                if response.type_url == type_url && like(&response) {
                    return response;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .expect("the response comes in time")
    }

    /// Answers what is there.
    pub(crate) async fn drain(&mut self) {
        let moment = std::time::Duration::from_millis(20);
        while let Ok(response) = tokio::time::timeout(moment, self.responses.message()).await {
            let response = response.unwrap().expect("the stream stays open");
            self.answer(&response).await;
        }
    }

    /// The status the stream ends with.
    pub(crate) async fn failure(&mut self) -> Status {
        tokio::time::timeout(PATIENCE, self.responses.message())
            .await
            .expect("it ends in time")
            .unwrap_err()
    }

    async fn answer(&self, response: &DeltaDiscoveryResponse) {
        let refused = response
            .resources
            .iter()
            .any(|resource| self.refused.contains(&resource.name));
        let request = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: refused.then(|| RpcStatus {
                code: 13,
                message: "refused by the test".into(),
                ..RpcStatus::default()
            }),
            ..DeltaDiscoveryRequest::default()
        };
        self.requests.send(request).await.unwrap();
    }
}
