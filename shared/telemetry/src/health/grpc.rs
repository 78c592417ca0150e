//! gRPC's health protocol: the service as a whole (the empty name) serves while every part is ready.
//!
//! *Invariant:* it never says anything else than `/readyz`.

use axum::Router;
use futures::future::Either;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tonic::server::NamedService;
use tonic::{Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health as Protocol, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// The protocol over a service's readiness.
#[derive(Clone, Debug)]
struct Readiness(watch::Receiver<bool>);

pub(super) fn router(health: &super::Health) -> Router {
    let service = HealthServer::new(Readiness(health.ready()));
    let name = HealthServer::<Readiness>::NAME;
    Router::new().route_service(&format!("/{name}/{{*rest}}"), service)
}

fn said(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

fn of(ready: bool) -> HealthCheckResponse {
    said(match ready {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    })
}

#[tonic::async_trait]
impl Protocol for Readiness {
    async fn check(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match request.get_ref().service.as_str() {
            "" => Ok(Response::new(of(*self.0.borrow()))),
            other => Err(Status::not_found(format!(
                "{other:?} is not told apart; ask for the empty name, which is this whole service"
            ))),
        }
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let known = request.get_ref().service.is_empty();
        let statuses = match known {
            true => Either::Left(WatchStream::new(self.0.clone()).map(of)),
            // As the protocol has it: the stream stays open, in case the service comes to be known.
            false => Either::Right(
                stream::iter([said(ServingStatus::ServiceUnknown)]).chain(stream::pending()),
            ),
        };
        Ok(Response::new(statuses.map(Ok).boxed()))
    }
}
