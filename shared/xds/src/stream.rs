//! One task per stream: feeds a [`Session`] and sends what it says.
//!
//! *Invariant:* at most one response waits to be sent; a client that does not read costs one response per type, and
//! what changes meanwhile coalesces into the newest snapshot (rule C5).

use std::sync::Arc;
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use tokio::sync::{mpsc, watch};
use tonic::Status;
use tracing::{debug, warn};

use crate::callbacks::{Request, StreamInfo};
use crate::codec::Frame;
use crate::framing::Requests;
use crate::server::Shared;
use crate::session::{Event, Refusal, Session, Variant};
use crate::{ResourceType, Snapshots};

/// How long a client may take for its first request.
pub(crate) const FIRST_REQUEST: Duration = Duration::from_secs(15);

/// A request of one of the variants.
pub(crate) trait AnyRequest: prost::Message + Default + 'static {
    const VARIANT: Variant;
    fn feed(&self, session: &mut Session) -> Result<(), Refusal>;
    fn as_request(&self) -> Request<'_>;
}

impl AnyRequest for DiscoveryRequest {
    const VARIANT: Variant = Variant::Sotw;
    fn feed(&self, session: &mut Session) -> Result<(), Refusal> {
        session.on_request(self)
    }
    fn as_request(&self) -> Request<'_> {
        Request::Sotw(self)
    }
}

impl AnyRequest for DeltaDiscoveryRequest {
    const VARIANT: Variant = Variant::Delta;
    fn feed(&self, session: &mut Session) -> Result<(), Refusal> {
        session.on_delta_request(self)
    }
    fn as_request(&self) -> Request<'_> {
        Request::Delta(self)
    }
}

/// A stream, from its opening to its end.
pub(crate) struct Stream<R> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) info: StreamInfo,
    pub(crate) session: Session,
    pub(crate) inbound: Requests<R>,
    pub(crate) outbound: mpsc::Sender<Result<Frame, Status>>,
    pub(crate) closed: watch::Receiver<Option<Status>>,
}

impl<R: AnyRequest> Stream<R> {
    /// Runs the stream to its end.
    pub(crate) async fn run(mut self) {
        let (mut closed, outbound) = (self.closed.clone(), self.outbound.clone());
        let end = tokio::select! {
            end = self.serve() => end,
            status = asked_to_close(&mut closed) => Err(status),
            // Nobody reads what is sent any more.
            () = outbound.closed() => Ok(()),
        };
        if let Err(status) = end {
            debug!(stream = self.info.id, code = ?status.code(), message = status.message(), "stream ends");
            // The channel may be full of what the client does not read; then it learns by the end itself.
            drop(self.outbound.try_send(Err(status)));
        }
    }

    async fn serve(&mut self) -> Result<(), Status> {
        let first = tokio::time::timeout(FIRST_REQUEST, self.inbound.message());
        let Some(first) = first
            .await
            .map_err(|_| Status::deadline_exceeded("no request came"))??
        else {
            return Ok(());
        };
        self.request(&first)?;
        let mut snapshots = self.identify()?;
        self.load(&mut snapshots).await?;
        loop {
            self.send().await?;
            let deadline = self.session.deadline();
            let tick = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = self.inbound.message() => match message? {
                    Some(request) => self.request(&request)?,
                    None => return Ok(()),
                },
                changed = snapshots.changed() => {
                    changed.map_err(|_| Status::unavailable("the source of snapshots is gone"))?;
                    self.take(&mut snapshots);
                }
                () = tick => {}
            }
        }
    }

    fn request(&mut self, request: &R) -> Result<(), Status> {
        let seen = request.as_request();
        self.shared.callbacks.on_request(&self.info, seen)?;
        debug!(
            stream = self.info.id,
            node = self.node(),
            type_url = seen.type_url(),
            nonce = seen.response_nonce(),
            nack = seen.error().is_some(),
            "request"
        );
        request
            .feed(&mut self.session)
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        if let Some(ty) = ResourceType::from_type_url(seen.type_url()).or(self.info.only) {
            self.shared
                .streams
                .subscribed(self.info.id, ty, self.session.subscription(ty));
        }
        self.events();
        Ok(())
    }

    /// Finds the snapshots of the node that the first request named.
    fn identify(&mut self) -> Result<Snapshots, Status> {
        let node = self
            .session
            .node()
            .cloned()
            .ok_or_else(|| Status::invalid_argument("the first request needs a node"))?;
        let snapshots = self.shared.source.snapshots(&node, &self.info.peer)?;
        self.info.node = Some(Arc::new(node));
        self.shared
            .streams
            .identified(&self.info, snapshots.clone());
        Ok(snapshots)
    }

    /// Waits for the first snapshot: an empty one must never be made up (rule S10).
    async fn load(&mut self, snapshots: &mut Snapshots) -> Result<(), Status> {
        let until = tokio::time::Instant::now() + self.shared.load_timeout;
        while !self.take(snapshots) {
            tokio::select! {
                changed = snapshots.changed() => {
                    changed.map_err(|_| Status::unavailable("the source of snapshots is gone"))?;
                }
                message = self.inbound.message() => match message? {
                    Some(request) => self.request(&request)?,
                    None => return Err(Status::cancelled("the client is gone")),
                },
                () = tokio::time::sleep_until(until) => {
                    return Err(Status::unavailable("there is no configuration for this node yet"));
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, snapshots: &mut Snapshots) -> bool {
        let newest = snapshots.borrow_and_update().clone();
        let some = newest.is_some();
        if let Some(newest) = newest {
            self.session.on_snapshot(newest);
        }
        some
    }

    async fn send(&mut self) -> Result<(), Status> {
        loop {
            // Room first, then the response: what is sent is the newest at that moment.
            let room = self.outbound.clone().reserve_owned().await;
            let room = room.map_err(|_| Status::cancelled("the client is gone"))?;
            let response = self.session.poll(Instant::now());
            self.events();
            let Some(response) = response else {
                self.progress();
                return Ok(());
            };
            debug!(
                stream = self.info.id, node = self.node(), ty = %response.ty(), version = response.version(),
                nonce = response.nonce(), revision = response.revision(), resources = ?response.resources(),
                removed = ?response.removed(), "response"
            );
            self.shared.callbacks.on_response(&self.info, &response);
            self.shared.streams.sent(self.info.id, &response);
            drop(room.send(Ok(Frame(response.into_chunks()))));
        }
    }

    /// Notes how far the client is with the newest snapshot.
    fn progress(&mut self) {
        if let Some((snapshot, progress)) = self.session.progressed() {
            let (id, now) = (self.info.id, Instant::now());
            self.shared.streams.progressed(id, snapshot, progress, now);
        }
    }

    fn events(&mut self) {
        for event in self.session.take_events() {
            if let Event::Nack {
                ty,
                revision,
                error,
                ..
            } = &event
            {
                warn!(stream = self.info.id, node = self.node(), %ty, revision, error, "NACK");
            }
            self.shared.streams.event(self.info.id, &event);
            self.shared.callbacks.on_event(&self.info, &event);
        }
    }

    fn node(&self) -> &str {
        self.session.node().map_or("", |node| &node.id)
    }
}

impl<R> Drop for Stream<R> {
    fn drop(&mut self) {
        self.shared.streams.remove(self.info.id);
        self.shared.callbacks.on_stream_closed(&self.info);
    }
}

async fn asked_to_close(closed: &mut watch::Receiver<Option<Status>>) -> Status {
    loop {
        if let Some(status) = closed.borrow_and_update().clone() {
            return status;
        }
        if closed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
