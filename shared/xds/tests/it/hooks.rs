//! What a control plane can hook into, and what it can see.

use std::sync::{Arc, Mutex};

use metrics_exporter_prometheus::PrometheusBuilder;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Channel;
use tonic::{Code, Status};
use xds::pb::envoy::service::discovery::v3::DiscoveryRequest;
use xds::session::{Event, Response, Variant};
use xds::{
    Callbacks, Metered, PeerIdentity, Request, Resource, ResourceType, Server, StreamInfo, make,
};

use crate::envoy::eventually;
use crate::server::{ADS, cache, first, full, serve, sotw};

/// Remembers, and refuses what it is told to.
#[derive(Default)]
struct Hooks {
    seen: Mutex<Vec<String>>,
    refuse_open: bool,
    refuse_requests: bool,
}

impl Hooks {
    fn note(&self, what: String) {
        self.seen.lock().unwrap().push(what);
    }
}

impl Callbacks for Hooks {
    fn on_stream_open(&self, stream: &StreamInfo) -> Result<(), Status> {
        self.note(format!("open {}", stream.variant));
        if self.refuse_open {
            Err(Status::permission_denied("not you"))
        } else {
            Ok(())
        }
    }
    fn on_stream_closed(&self, stream: &StreamInfo) {
        self.note(format!(
            "closed {}",
            stream.node.as_ref().map_or("", |n| &n.id)
        ));
    }
    fn on_request(&self, _: &StreamInfo, request: Request<'_>) -> Result<(), Status> {
        self.note(format!("request {}", request.error().unwrap_or("ok")));
        if self.refuse_requests {
            Err(Status::resource_exhausted("not now"))
        } else {
            Ok(())
        }
    }
    fn on_response(&self, _: &StreamInfo, response: &Response) {
        self.note(format!(
            "response {} {}",
            response.ty(),
            response.revision()
        ));
    }
    fn on_event(&self, _: &StreamInfo, event: &Event) {
        self.note(match event {
            Event::Ack { ty, revision } => format!("ack {ty} {revision}"),
            Event::Nack { ty, error, .. } => format!("nack {ty} {error}"),
            Event::Refused { name, .. } => format!("refused {name}"),
            other => format!("{other:?}"),
        });
    }
}

#[tokio::test]
async fn callbacks_see_everything_and_statuses_tell_it() {
    let cache = cache(full());
    let hooks = Arc::new(Hooks::default());
    let recorder = PrometheusBuilder::new().build_recorder();
    // The server's tasks run on this test's thread.
    let _counting = metrics::set_default_local_recorder(&recorder);
    let metered = Metered::new(hooks.clone(), &ResourceType::ALL);
    let server = Server::new(cache.clone()).callbacks(Arc::new(metered));
    let channel = serve(&server).await;
    let (requests, mut answers) = sotw(
        &channel,
        &format!("{ADS}/StreamAggregatedResources"),
        first(ResourceType::Cluster),
    )
    .await
    .unwrap();
    let answer = answers.message().await.unwrap().unwrap();
    let ack = DiscoveryRequest {
        node: None,
        response_nonce: answer.nonce,
        ..first(ResourceType::Cluster)
    };
    requests.send(ack).await.unwrap();
    let mut next = full();
    next.set_revision(2);
    next.insert(Resource::new(&make::eds_cluster("bad")));
    eventually("the first is acknowledged", async || {
        server.streams().of_node("n")[0].types[&ResourceType::Cluster].acked == Some(1)
    })
    .await;
    cache.set("n", next);
    let answer = answers.message().await.unwrap().unwrap();
    let error = xds::pb::google::rpc::Status {
        code: 3,
        message: "no".into(),
        ..Default::default()
    };
    let nack = DiscoveryRequest {
        node: None,
        response_nonce: answer.nonce,
        error_detail: Some(error),
        ..first(ResourceType::Cluster)
    };
    requests.send(nack).await.unwrap();
    let answer = answers.message().await.unwrap().unwrap();
    assert_eq!(answer.resources.len(), 1);
    let status = server.streams().of_node("n").remove(0);
    assert_eq!(
        (status.stream.variant, status.revision),
        (Variant::Sotw, Some(2))
    );
    let clusters = &status.types[&ResourceType::Cluster];
    assert!(clusters.wildcard && clusters.nacks == 1 && clusters.responses == 3);
    assert_eq!(clusters.nack, Some((2, "no".to_owned())));
    assert_eq!(
        clusters.refused.keys().map(|k| &**k).collect::<Vec<_>>(),
        ["bad"]
    );
    assert_eq!(
        server
            .streams()
            .snapshot(status.stream.id)
            .unwrap()
            .revision(),
        2
    );

    // A stream can be ended from outside.
    assert!(
        server
            .streams()
            .close(status.stream.id, Status::unavailable("moved"))
    );
    let end = loop {
        match answers.message().await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert_eq!(end.unwrap_err().message(), "moved");
    eventually("the stream is forgotten", async || {
        server.streams().is_empty() && hooks.seen.lock().unwrap().last().unwrap() == "closed n"
    })
    .await;
    let seen = hooks.seen.lock().unwrap().clone();
    let expected = [
        "open SotW",
        "request ok",
        "response CDS 1",
        "request ok",
        "ack CDS 1",
        "response CDS 2",
        "request no",
        "nack CDS no",
        "refused bad",
        "response CDS 2",
        "closed n",
    ];
    assert_eq!(seen, expected);
    let counted = recorder.handle().render();
    for series in [
        "weft_xds_streams 0",
        "weft_xds_requests_total{type=\"CDS\"} 3",
        "weft_xds_responses_total{type=\"CDS\"} 3",
        "weft_xds_acks_total{type=\"CDS\"} 1",
        "weft_xds_nacks_total{type=\"CDS\"} 1",
        "weft_xds_answer_seconds_count{type=\"CDS\"} 1",
        "weft_xds_nacks_total{type=\"SDS\"} 0",
    ] {
        let has = counted.lines().any(|line| line == series);
        assert!(has, "no {series} in\n{counted}");
    }
}

#[tokio::test]
async fn streams_and_requests_can_be_refused() {
    let path = format!("{ADS}/StreamAggregatedResources");
    for (refuse_open, code) in [
        (true, Code::PermissionDenied),
        (false, Code::ResourceExhausted),
    ] {
        let hooks = Hooks {
            refuse_open,
            refuse_requests: !refuse_open,
            ..Hooks::default()
        };
        let channel = serve(&Server::new(cache(full())).callbacks(Arc::new(hooks))).await;
        let refused = match sotw(&channel, &path, first(ResourceType::Cluster)).await {
            Ok((_keep, mut answers)) => answers.message().await.unwrap_err(),
            Err(status) => status,
        };
        assert_eq!(refused.code(), code);
    }
}

#[tokio::test]
async fn c10_the_verified_identity_reaches_those_who_decide() {
    #[derive(Default)]
    struct Who(Mutex<Option<PeerIdentity>>);
    impl Callbacks for Who {
        fn on_stream_open(&self, stream: &StreamInfo) -> Result<(), Status> {
            *self.0.lock().unwrap() = stream.peer.identity().cloned();
            assert!(stream.peer.address.is_some());
            Ok(())
        }
    }
    let who = Arc::new(Who::default());
    let server = Server::new(cache(full())).callbacks(who.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let layer = tonic::service::InterceptorLayer::new(|mut request: tonic::Request<()>| {
        request
            .extensions_mut()
            .insert(PeerIdentity("spiffe://td/ns/x/sa/y".into()));
        Ok(request)
    });
    let router = tonic::transport::Server::builder()
        .layer(layer)
        .add_routes(server.routes());
    tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
    let channel = Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let path = format!("{ADS}/StreamAggregatedResources");
    let (_keep, mut answers) = sotw(&channel, &path, first(ResourceType::Cluster))
        .await
        .unwrap();
    answers.message().await.unwrap();
    assert_eq!(
        *who.0.lock().unwrap(),
        Some(PeerIdentity("spiffe://td/ns/x/sa/y".into()))
    );
}
