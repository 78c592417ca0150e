//! The services over real sockets, with a client that shares no code with them: tonic's codec for Envoy's messages.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use xds::pb::envoy::config::core::v3::Node;
use xds::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use xds::{Resource, ResourceType, Server, Snapshot, SnapshotCache, make};

pub(crate) const ADS: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService";

/// Serves, and connects.
pub(crate) async fn serve(server: &Server) -> Channel {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = xds::keepalive(tonic::transport::Server::builder()).add_routes(server.routes());
    tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
    Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap()
}

fn node() -> Option<Node> {
    Some(Node {
        id: "n".into(),
        ..Default::default()
    })
}

pub(crate) fn first(ty: ResourceType) -> DiscoveryRequest {
    DiscoveryRequest {
        node: node(),
        type_url: ty.type_url().into(),
        ..Default::default()
    }
}

pub(crate) type Pair<R, A> = (mpsc::Sender<R>, Streaming<A>);

async fn open<R, A>(channel: &Channel, path: &str, request: R) -> Result<Pair<R, A>, Status>
where
    R: prost::Message + Clone + 'static,
    A: prost::Message + Default + 'static,
{
    let mut grpc = tonic::client::Grpc::new(channel.clone()).max_decoding_message_size(1 << 30);
    grpc.ready().await.unwrap();
    let (sender, requests) = mpsc::channel(16);
    sender.send(request).await.unwrap();
    let codec = tonic_prost::ProstCodec::<R, A>::default();
    let path = path.parse().unwrap();
    let answer = grpc
        .streaming(
            tonic::Request::new(ReceiverStream::new(requests)),
            path,
            codec,
        )
        .await?;
    Ok((sender, answer.into_inner()))
}

pub(crate) async fn sotw(
    channel: &Channel,
    path: &str,
    request: DiscoveryRequest,
) -> Result<Pair<DiscoveryRequest, DiscoveryResponse>, Status> {
    open(channel, path, request).await
}

pub(crate) fn cache(snapshot: Snapshot) -> Arc<SnapshotCache> {
    let cache = Arc::new(SnapshotCache::by_id());
    cache.set("n", snapshot);
    cache
}

pub(crate) fn full() -> Snapshot {
    let mut snapshot = Snapshot::of(
        1,
        [
            Resource::new(&make::eds_cluster("a")),
            Resource::new(&make::endpoints("a", &[("127.0.0.1", 1)])),
            Resource::new(&make::http_listener("l", "127.0.0.1", 1, make::rds("r"))),
            Resource::new(&make::routes("r", vec![make::route("/", "a")])),
            Resource::new(&make::ca_secret("s", "PEM", None)),
        ],
    );
    for (ty, json) in [
        (
            ResourceType::Runtime,
            serde_json::json!({"name": "rt", "layer": {"x": 1}}),
        ),
        (
            ResourceType::ScopedRoute,
            serde_json::json!({"name": "sc", "route_configuration_name": "r"}),
        ),
        (
            ResourceType::ExtensionConfig,
            serde_json::json!({"name": "ec"}),
        ),
    ] {
        snapshot.insert(Resource::from_json(ty, &json).unwrap());
    }
    snapshot
}

#[tokio::test]
async fn every_type_has_its_own_service_in_all_three_forms() {
    let snapshot = full();
    let server = Server::new(cache(snapshot.clone()));
    let channel = serve(&server).await;
    for (ty, service, noun) in [
        (
            ResourceType::Cluster,
            "cluster.v3.ClusterDiscoveryService",
            "Clusters",
        ),
        (
            ResourceType::Endpoint,
            "endpoint.v3.EndpointDiscoveryService",
            "Endpoints",
        ),
        (
            ResourceType::Listener,
            "listener.v3.ListenerDiscoveryService",
            "Listeners",
        ),
        (
            ResourceType::Route,
            "route.v3.RouteDiscoveryService",
            "Routes",
        ),
        (
            ResourceType::ScopedRoute,
            "route.v3.ScopedRoutesDiscoveryService",
            "ScopedRoutes",
        ),
        (
            ResourceType::Secret,
            "secret.v3.SecretDiscoveryService",
            "Secrets",
        ),
        (
            ResourceType::Runtime,
            "runtime.v3.RuntimeDiscoveryService",
            "Runtime",
        ),
        (
            ResourceType::ExtensionConfig,
            "extension.v3.ExtensionConfigDiscoveryService",
            "ExtensionConfigs",
        ),
    ] {
        let path = |form: &str| format!("/envoy.service.{service}/{form}{noun}");
        let resource = snapshot.iter(ty).next().unwrap();
        let names = vec![resource.name().to_string()];
        let request = DiscoveryRequest {
            node: node(),
            resource_names: names.clone(),
            ..Default::default()
        };
        let (_keep, mut answers) = sotw(&channel, &path("Stream"), request.clone())
            .await
            .unwrap();
        assert_eq!(
            answers.message().await.unwrap().unwrap().resources,
            [resource.to_any()]
        );

        let delta = DeltaDiscoveryRequest {
            node: node(),
            resource_names_subscribe: names,
            ..Default::default()
        };
        let (_keep, mut answers): (_, Streaming<DeltaDiscoveryResponse>) =
            open(&channel, &path("Delta"), delta).await.unwrap();
        assert_eq!(
            answers.message().await.unwrap().unwrap().resources[0].resource,
            Some(resource.to_any())
        );

        let mut grpc = tonic::client::Grpc::new(channel.clone());
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<DiscoveryRequest, DiscoveryResponse>::default();
        let fetched = grpc
            .unary(
                tonic::Request::new(request),
                path("Fetch").parse().unwrap(),
                codec,
            )
            .await
            .unwrap();
        assert_eq!(fetched.into_inner().resources, [resource.to_any()]);
    }
}

#[tokio::test]
async fn s10_a_state_that_is_not_loaded_is_unavailable() {
    let server =
        Server::new(Arc::new(SnapshotCache::by_id())).load_timeout(Duration::from_millis(50));
    let channel = serve(&server).await;
    for path in [format!("{ADS}/StreamAggregatedResources")] {
        let (_keep, mut answers) = sotw(&channel, &path, first(ResourceType::Cluster))
            .await
            .unwrap();
        assert_eq!(
            answers.message().await.unwrap_err().code(),
            Code::Unavailable
        );
    }
}

#[tokio::test]
async fn s10_a_state_that_loads_in_time_is_served() {
    let cache = Arc::new(SnapshotCache::by_id());
    let channel = serve(&Server::new(cache.clone())).await;
    let path = format!("{ADS}/StreamAggregatedResources");
    let (_keep, mut answers) = sotw(&channel, &path, first(ResourceType::Cluster))
        .await
        .unwrap();
    cache.set("n", full());
    assert_eq!(answers.message().await.unwrap().unwrap().resources.len(), 1);
}

#[tokio::test]
async fn s16_no_node_or_no_type_is_an_invalid_argument() {
    let channel = serve(&Server::new(cache(full()))).await;
    let path = format!("{ADS}/StreamAggregatedResources");
    let no_node = DiscoveryRequest {
        node: None,
        ..first(ResourceType::Cluster)
    };
    let no_type = DiscoveryRequest {
        type_url: String::new(),
        ..first(ResourceType::Cluster)
    };
    for request in [no_node, no_type] {
        let (_keep, mut answers) = sotw(&channel, &path, request).await.unwrap();
        assert_eq!(
            answers.message().await.unwrap_err().code(),
            Code::InvalidArgument
        );
    }
}

#[tokio::test]
async fn c6_a_request_may_exceed_four_mebibytes() {
    let channel = serve(&Server::new(cache(full()))).await;
    let versions = (0..60_000)
        .map(|i| (format!("{i:0100}"), "0123456789abcdef".to_owned()))
        .collect();
    let request = DeltaDiscoveryRequest {
        node: node(),
        type_url: ResourceType::Cluster.type_url().into(),
        initial_resource_versions: versions,
        ..Default::default()
    };
    assert!(prost::Message::encoded_len(&request) > 5 << 20);
    let (_keep, mut answers): (_, Streaming<DeltaDiscoveryResponse>) = open(
        &channel,
        &format!("{ADS}/DeltaAggregatedResources"),
        request,
    )
    .await
    .unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().resources.len(), 1);
}

#[tokio::test]
async fn c5_a_client_that_does_not_read_gets_the_newest_in_the_end() {
    let cache = cache(full());
    let server = Server::new(cache.clone());
    let channel = serve(&server).await;
    let (requests, mut answers) = sotw(
        &channel,
        &format!("{ADS}/StreamAggregatedResources"),
        first(ResourceType::Cluster),
    )
    .await
    .unwrap();
    for revision in 2..200 {
        let mut next = full();
        next.set_revision(revision);
        next.insert(Resource::new(&make::dns_cluster(
            "b",
            &format!("host-{revision}"),
            1,
        )));
        cache.set("n", next);
    }
    let mut count = 0;
    loop {
        let answer = answers.message().await.unwrap().unwrap();
        count += 1;
        let ack = DiscoveryRequest {
            node: None,
            response_nonce: answer.nonce,
            ..first(ResourceType::Cluster)
        };
        requests.send(ack).await.unwrap();
        if String::from_utf8_lossy(&answer.resources.last().unwrap().value).contains("host-199") {
            break;
        }
    }
    assert!(count <= 3, "{count} responses");
}

#[tokio::test]
async fn c4_a_stalled_stream_holds_nobody_up() {
    // More than the windows of HTTP/2 take, so that sending stands still in the middle of a response.
    let mut large = full();
    for i in 0..2_000 {
        let name = format!("{i:0200}");
        large.insert(Resource::new(&make::dns_cluster(&name, &name, 1)));
    }
    let cache = cache(large.clone());
    let server = Server::new(cache.clone());
    let (stalled, channel) = (serve(&server).await, serve(&server).await);
    let path = format!("{ADS}/StreamAggregatedResources");
    let _never_read = sotw(&stalled, &path, first(ResourceType::Cluster))
        .await
        .unwrap();

    let (requests, mut answers) = sotw(&channel, &path, first(ResourceType::Cluster))
        .await
        .unwrap();
    let answer = answers.message().await.unwrap().unwrap();
    let ack = DiscoveryRequest {
        node: None,
        response_nonce: answer.nonce,
        ..first(ResourceType::Cluster)
    };
    requests.send(ack).await.unwrap();
    large.set_revision(2);
    large.insert(Resource::new(&make::dns_cluster("new", "new", 1)));
    cache.set("n", large);
    let update = answers.message().await.unwrap().unwrap();
    assert_eq!(update.resources.len(), answer.resources.len() + 1);
    assert_eq!(server.streams().list().len(), 2);
}
