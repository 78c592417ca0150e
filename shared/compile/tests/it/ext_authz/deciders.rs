//! Services that decide: who says `x-ok: yes` gets through, and is Alice.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use xds::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use xds::pb::envoy::service::auth::v3::authorization_server::{Authorization, AuthorizationServer};
use xds::pb::envoy::service::auth::v3::check_response::HttpResponse;
use xds::pb::envoy::service::auth::v3::{
    CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
};
use xds::pb::google::rpc::Status;

type Seen = Arc<Mutex<Vec<String>>>;

fn runtime() -> (Runtime, tokio::net::TcpListener, u16) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let listener = {
        let _in = runtime.enter();
        tokio::net::TcpListener::from_std(listener).unwrap()
    };
    (runtime, listener, port)
}

/// One asked over HTTP; gone when dropped.
pub(super) struct OverHttp {
    pub(super) port: u16,
    /// The requests it was asked about.
    pub(super) seen: Seen,
    _runtime: Runtime,
}

impl OverHttp {
    pub(super) fn start() -> Self {
        let (runtime, listener, port) = runtime();
        let seen = Seen::default();
        let heard = seen.clone();
        let decide = move |request: Request| {
            let heard = heard.clone();
            async move {
                let headers = request.headers();
                let ok = headers.get("x-ok").is_some_and(|it| it == "yes");
                let lines = headers
                    .iter()
                    .map(|(name, value)| format!("\n{name}: {}", value.to_str().unwrap()));
                let lines: String = lines.collect();
                let asked = format!("{} {}{lines}", request.method(), request.uri());
                heard.lock().unwrap().push(asked);
                if ok {
                    (StatusCode::OK, [("x-user", "alice")])
                } else {
                    (StatusCode::FORBIDDEN, [("x-why", "because")])
                }
            }
        };
        runtime.spawn(async move {
            let app = Router::new().fallback(decide);
            axum::serve(listener, app).await.unwrap();
        });
        Self {
            port,
            seen,
            _runtime: runtime,
        }
    }
}

/// One asked over gRPC; gone when dropped.
pub(super) struct OverGrpc {
    pub(super) port: u16,
    /// The requests it was asked about.
    pub(super) seen: Seen,
    connections: Arc<AtomicBool>,
    _runtime: Runtime,
}

struct Decides {
    seen: Seen,
    connections: Arc<AtomicBool>,
}

impl OverGrpc {
    pub(super) fn start() -> Self {
        let (runtime, listener, port) = runtime();
        let (seen, connections) = (Seen::default(), Arc::new(AtomicBool::new(false)));
        let service = AuthorizationServer::new(Decides {
            seen: seen.clone(),
            connections: connections.clone(),
        });
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Self {
            port,
            seen,
            connections,
            _runtime: runtime,
        }
    }

    /// Whether it lets connections through.
    pub(super) fn connections(&self, through: bool) {
        self.connections.store(through, Ordering::SeqCst);
    }
}

#[tonic::async_trait]
impl Authorization for Decides {
    async fn check(
        &self,
        request: tonic::Request<CheckRequest>,
    ) -> Result<tonic::Response<CheckResponse>, tonic::Status> {
        let attributes = request.into_inner().attributes.unwrap();
        let http = attributes.request.and_then(|it| it.http);
        let ok = match &http {
            Some(http) => {
                let line = format!("{} {}", http.method, http.path);
                self.seen.lock().unwrap().push(line);
                http.headers.get("x-ok").is_some_and(|it| it == "yes")
            }
            None => self.connections.load(Ordering::SeqCst),
        };
        let header = |key: &str, value: &str| HeaderValueOption {
            header: Some(HeaderValue {
                key: key.into(),
                value: value.into(),
                ..Default::default()
            }),
            append_action: 2,
            ..Default::default()
        };
        let response = if ok {
            HttpResponse::OkResponse(OkHttpResponse {
                headers: vec![header("x-user", "alice")],
                ..Default::default()
            })
        } else {
            HttpResponse::DeniedResponse(DeniedHttpResponse {
                headers: vec![header("x-why", "because")],
                ..Default::default()
            })
        };
        Ok(tonic::Response::new(CheckResponse {
            status: Some(Status {
                code: if ok { 0 } else { 7 },
                ..Default::default()
            }),
            http_response: Some(response),
            ..Default::default()
        }))
    }
}
