//! Passing streams: a stream that reaches a replica which does not own its node goes on to the owner as it is. Only its
//! first request is looked at, for the node's id.
//!
//! The owner trusts what is said of the client only if a pusher says it ([`origin`]). When the owner cannot be reached, the
//! stream is served where it landed. When it is lost later, the client's stream ends: the client opens another, and nothing is
//! spliced.
//!
//! *Invariant:* a stream is passed once at most.

pub(crate) mod origin;
mod relay;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use futures::future::join_all;
use metrics::{counter, gauge};
use store::Member;
use tokio::sync::{mpsc, watch};
use tonic::{Code, Status};
use tracing::{debug, warn};
use xds::Peer;

use self::origin::Origin;
use self::relay::{First, Relay};
use crate::admit::{Admission, Arriving};
use crate::guard::{self, Guard};
use crate::link::Links;
use crate::mesh::Command;
use crate::reads::Reads;
use crate::shards::Shards;
use crate::source::Place;

/// Streams that come within this time share a look for room elsewhere.
pub(crate) const ROOM: Duration = Duration::from_millis(100);

/// What passing takes.
#[derive(Clone)]
pub(crate) struct Pass {
    pub(crate) shards: Shards,
    pub(crate) links: Arc<Links>,
    pub(crate) guard: Option<Guard>,
    pub(crate) passing: Passing,
    pub(crate) admission: Admission,
    /// To the owner of the model.
    pub(crate) mesh: mpsc::Sender<Command>,
    /// Whether another replica can take a new stream.
    pub(crate) room: Arc<Reads<bool>>,
}

/// A stream that is passed on.
#[derive(Clone, Debug)]
pub(crate) struct Passed {
    pub(crate) node: Arc<str>,
    pub(crate) peer: Peer,
    close: watch::Sender<Option<Status>>,
}

impl Passed {
    /// Ends it with this status.
    pub(crate) fn close(&self, status: Status) {
        self.close.send_replace(Some(status));
    }
}

/// The streams that are passed on at present. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Passing(Arc<Open>);

#[derive(Default)]
struct Open {
    next: AtomicU64,
    streams: Mutex<BTreeMap<u64, Passed>>,
}

impl Passing {
    /// All of them.
    pub(crate) fn list(&self) -> Vec<Passed> {
        self.open().values().cloned().collect()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.open().len()
    }

    fn add(&self, node: &str, peer: Peer) -> (Entry, watch::Receiver<Option<Status>>) {
        let (close, closed) = watch::channel(None);
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let node = node.into();
        let passed = Passed { node, peer, close };
        self.open().insert(id, passed);
        gauge!("weft_pusher_passed_streams").increment(1.0);
        (Entry(self.clone(), id), closed)
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, Passed>> {
        (self.0.streams.lock()).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes a stream from the list when it ends.
struct Entry(Passing, u64);

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.open().remove(&self.1);
        gauge!("weft_pusher_passed_streams").decrement(1.0);
    }
}

/// Passes streams of nodes that another replica owns, and serves the others here.
pub(crate) async fn pass(State(pass): State<Pass>, mut request: Request, next: Next) -> Response {
    let said = Origin::take(request.headers_mut());
    origin::attach_address(request.extensions_mut());
    let Some(variant) = xds::variant(request.uri().path()) else {
        return next.run(request).await;
    };
    let arriving = pass.admission.arrive();
    if let Some(origin) = said.filter(|_| pass.trusts(&request)) {
        let end = origin.end();
        origin.install(request.extensions_mut());
        let served = pass
            .here(request, next, Elsewhere::WhereItCameFrom, arriving)
            .await;
        return relay::until(served, end);
    }
    if pass.shards.alone() {
        return pass.here(request, next, Elsewhere::Nowhere, arriving).await;
    }
    let (parts, body) = request.into_parts();
    let peeked = match xds::peek(variant, body).await {
        Ok(peeked) => peeked,
        Err(status) => return status.into_http(),
    };
    let mut elsewhere = Elsewhere::AnotherReplica;
    let mut first = First::new(peeked.first, peeked.rest);
    if let Some(node) = &peeked.node
        && let Some(owner) = pass.shards.elsewhere(node)
    {
        match pass.on(&parts, node, &owner, &mut first).await {
            Ok(response) => return response,
            Err(Unpassed::Refused(status)) => return status.into_http(),
            Err(Unpassed::Here(why)) => {
                counter!("weft_pusher_passes_total", "outcome" => "unreachable").increment(1);
                elsewhere = Elsewhere::Nowhere;
                warn!(
                    node,
                    owner = owner.instance,
                    why,
                    "the owner of a node cannot be reached; serving it here"
                );
            }
        }
    }
    let request = Request::from_parts(parts, first.whole());
    pass.here(request, next, elsewhere, arriving).await
}

/// Who else could serve a stream.
enum Elsewhere {
    /// The replica that passed it on.
    WhereItCameFrom,
    /// Any that has room.
    AnotherReplica,
    /// Nobody that is known.
    Nowhere,
}

/// Why a stream was not passed on.
enum Unpassed {
    /// Its peer may not speak for the node.
    Refused(Status),
    /// The owner does not take it, so it is served here.
    Here(String),
}

impl Pass {
    /// Whether the peer is a pusher, whose word for another is good.
    fn trusts(&self, request: &Request) -> bool {
        match &self.guard {
            None => true,
            Some(guard) => guard.pusher(request.extensions().get()),
        }
    }

    /// Serves a stream here, when its turn comes. It is answered at once, or whoever passed it on would give up.
    async fn here(
        &self,
        mut request: Request,
        next: Next,
        elsewhere: Elsewhere,
        arriving: Arriving,
    ) -> Response {
        let others = async {
            match elsewhere {
                Elsewhere::WhereItCameFrom => true,
                Elsewhere::AnotherReplica => self.room().await,
                Elsewhere::Nowhere => false,
            }
        };
        if self.admission.full() && others.await {
            return Admission::refuse().into_http();
        }
        let (admission, mesh) = (self.admission.clone(), self.mesh.clone());
        relay::later(async move {
            let turn = admission.turn().await;
            request.extensions_mut().insert(turn);
            if let Some(place) = Place::wait(&mesh).await {
                request.extensions_mut().insert(place);
            }
            let served = next.run(request).await;
            drop(arriving);
            served
        })
    }

    /// Whether another replica answers, asked after this stream came, and fewer wait there than here.
    async fn room(&self) -> bool {
        let look = || {
            let (links, others) = (self.links.clone(), self.shards.others());
            let admission = self.admission.clone();
            async move {
                let asked = others.iter().map(|member| links.ask(member));
                let mut answers = join_all(asked).await.into_iter().flatten();
                answers.any(|replica| (replica.queued as usize) < admission.waiting())
            }
        };
        self.room.fresh(look).await.unwrap_or(false)
    }

    /// Passes a stream on to the owner of its node.
    async fn on(
        &self,
        parts: &http::request::Parts,
        node: &str,
        owner: &Member,
        first: &mut First,
    ) -> Result<Response, Unpassed> {
        let peer = xds::peer(parts.extensions.clone());
        if let Some(guard) = &self.guard {
            guard
                .speaks(node, &peer)
                .inspect_err(|status| guard::report(node, status))
                .map_err(Unpassed::Refused)?;
        }
        let (body, go_on) = first.apart();
        let mut request = http::Request::new(tonic::body::Body::new(body));
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = parts.uri.clone();
        *request.headers_mut() = parts.headers.clone();
        Origin::of(&peer).put(request.headers_mut());
        let (link, response) = self
            .links
            .send(owner, request)
            .await
            .map_err(Unpassed::Here)?;
        let (head, body) = response.into_parts();
        // An owner that cannot serve says so before anything else.
        if let Some(status) = Status::from_header_map(&head.headers)
            && matches!(status.code(), Code::Unavailable | Code::ResourceExhausted)
        {
            return Err(Unpassed::Here(status.message().to_owned()));
        }
        // The link is gone already if nobody waits for it; then the answer ends as well.
        drop(go_on.send(first.take_rest()));
        counter!("weft_pusher_passes_total", "outcome" => "passed").increment(1);
        debug!(node, owner = owner.instance, "passed a stream on");
        let (entry, closed) = self.passing.add(node, peer);
        let relay = Relay::new(
            Body::new(body),
            relay::asked_to_close(closed),
            (entry, link),
        );
        Ok(Response::from_parts(head, Body::new(relay)))
    }
}
