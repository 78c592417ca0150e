//! What is counted of callers: every call and its outcome, and what becomes of secrets on streams.

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use envoy_types::pb::google::rpc::Status;
use issuer_api::v1::GetBundleRequest;
use issuer_api::v1::issuer_client::IssuerClient;
use store::testing::Etcd;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use xds::ResourceType;

use crate::callers::ORDERS;
use crate::fixture::{Issuer, credential, until};

/// The sum of the series that begin so.
async fn value(issuer: &Issuer, series: &str) -> f64 {
    let metrics = issuer.admin("/metrics").await.unwrap();
    let lines = metrics.lines().filter(|line| line.starts_with(series));
    let values = lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
    values.sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_and_refused_secrets_are_counted() {
    let etcd = Etcd::start().await;
    let issuer = Issuer::start(&etcd, &[]).await;
    let token = credential(&etcd.store(), ORDERS, "orders-v1").await;
    let channel = issuer.channel().await;

    // Who asks whether it serves need not be known, and does not count.
    let mut health = HealthClient::new(channel.clone());
    until("the issuer to serve", async || {
        let whole = HealthCheckRequest::default();
        let answer = health.check(whole).await.unwrap().into_inner();
        answer.status == ServingStatus::Serving as i32
    })
    .await;
    let metrics = issuer.admin("/metrics").await.unwrap();
    assert!(!metrics.contains("grpc.health"), "{metrics}");

    let mut stranger = IssuerClient::new(channel.clone());
    stranger.get_bundle(GetBundleRequest {}).await.unwrap_err();
    let refused = "weft_grpc_requests_total{method=\"/weft.issuer.v1.Issuer/GetBundle\",code=\"UNAUTHENTICATED\"}";
    assert!(value(&issuer, refused).await > 0.0);
    assert!(issuer.admin("/bundle").await.is_some());
    let bundle = "weft_http_requests_total{method=\"GET\",route=\"/bundle\",code=\"200\"}";
    assert!(value(&issuer, bundle).await > 0.0);

    let bearer: MetadataValue<_> = format!("Bearer {}", token.expose()).parse().unwrap();
    let proven = move |mut request: tonic::Request<()>| {
        let metadata = request.metadata_mut();
        metadata.insert("authorization", bearer.clone());
        Ok(request)
    };
    let mut client = SecretDiscoveryServiceClient::with_interceptor(channel, proven);
    let node = Node {
        id: "sidecar~shop~orders-v1".into(),
        ..Node::default()
    };
    let ask = DiscoveryRequest {
        node: Some(node),
        type_url: ResourceType::Secret.type_url().into(),
        resource_names: vec!["default".into()],
        ..DiscoveryRequest::default()
    };
    let (requests, sent) = mpsc::channel(4);
    requests.send(ask.clone()).await.unwrap();
    let answers = client.stream_secrets(ReceiverStream::new(sent)).await;
    let mut answers = answers.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    let nacks = "weft_xds_nacks_total{type=\"SDS\"}";
    let before = value(&issuer, nacks).await;
    let error = Status {
        message: "not this one".into(),
        ..Status::default()
    };
    let refusal = DiscoveryRequest {
        response_nonce: answer.nonce,
        error_detail: Some(error),
        ..ask
    };
    requests.send(refusal).await.unwrap();
    until("the refusal to be counted", async || {
        value(&issuer, nacks).await > before
    })
    .await;
    assert!(value(&issuer, "weft_xds_streams").await > 0.0);
    assert!(value(&issuer, "weft_xds_answer_seconds_count{type=\"SDS\"}").await > 0.0);
    let over = "weft_grpc_requests_total{method=\"/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets\",code=";
    let before = value(&issuer, over).await;
    // Who goes away before the end has cancelled it; which of both the issuer sees first is not ours to say.
    drop((requests, answers));
    until("the stream to be over", async || {
        value(&issuer, over).await > before
    })
    .await;
    issuer.stop().await;
}
