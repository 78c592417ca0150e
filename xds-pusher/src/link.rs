//! Links to the other replicas: HTTP/2 connections, each for a hundred streams at most, watched by pings of their own.
//!
//! *Invariant:* no call waits longer than [`ANSWER`]; a replica that did not answer is left alone for [`REST`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::response::Response;
use model::SpiffeId;
use pusher_api::v1::pusher_client::PusherClient;
use pusher_api::v1::{GetReplicaRequest, Replica};
use store::Member;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tower::{Service as _, ServiceExt as _};

/// How many streams share a connection: what is lost with it.
const STREAMS: usize = 100;
/// How long a replica may take to answer a new stream, connecting included.
const ANSWER: Duration = Duration::from_secs(2);
/// How long a replica that did not answer is asked nothing more.
const REST: Duration = Duration::from_secs(2);
/// How often a connection is pinged, and how long the answer may take.
const PING: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(3));
/// What one stream may have under way; a connection takes that of all of its streams, so that one whose client does not
/// read holds up no other.
const WINDOW: u32 = 128 << 10;

/// How other replicas are reached.
pub(crate) enum Transport {
    /// In plaintext, on loopback.
    Plaintext,
    /// By identities: our own, and the one a pusher must have.
    Mutual(mtls::Current, SpiffeId),
}

/// The links to all other replicas.
pub(crate) struct Links {
    transport: Transport,
    members: watch::Receiver<Vec<Member>>,
    peers: Mutex<HashMap<String, Peer>>,
}

/// The links to one replica.
#[derive(Default)]
struct Peer {
    links: Vec<Link>,
    /// Until when it is left alone.
    rests: Option<Instant>,
}

struct Link {
    channel: Channel,
    /// What the connection was made with; a later one needs a new connection.
    material: Option<Arc<mtls::Material>>,
    streams: Streams,
}

/// A stream's share of its link. The link counts those that live.
#[derive(Clone, Default)]
pub(crate) struct Streams(Arc<()>);

impl Streams {
    fn open(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

impl Links {
    pub(crate) fn new(transport: Transport, members: watch::Receiver<Vec<Member>>) -> Self {
        Self {
            transport,
            members,
            peers: Mutex::default(),
        }
    }

    /// Sends a request, and returns the answer's beginning.
    ///
    /// # Errors
    /// If there is none, why.
    pub(crate) async fn send(
        &self,
        to: &Member,
        request: http::Request<tonic::body::Body>,
    ) -> Result<(Streams, Response<tonic::body::Body>), String> {
        let (address, mut channel, streams) = self.link(to)?;
        let answer = async {
            let ready = channel.ready().await.map_err(|error| chain(&error))?;
            ready.call(request).await.map_err(|error| chain(&error))
        };
        let answer = self.answered(&address, answer).await?;
        Ok((streams, answer))
    }

    /// Asks a replica how it is.
    ///
    /// # Errors
    /// If it does not say, why.
    pub(crate) async fn ask(&self, member: &Member) -> Result<Replica, String> {
        let (address, channel, _streams) = self.link(member)?;
        let answer = async {
            let mut pusher = PusherClient::new(channel);
            let answer = pusher.get_replica(GetReplicaRequest {});
            answer.await.map_err(|status| chain(&status))
        };
        Ok(self.answered(&address, answer).await?.into_inner())
    }

    async fn answered<T>(
        &self,
        address: &str,
        answer: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        let answer = tokio::time::timeout(ANSWER, answer).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {ANSWER:?}")));
        let rests = answer.is_err().then(|| Instant::now() + REST);
        let mut peers = self.peers();
        if let Some(peer) = peers.get_mut(address) {
            peer.rests = rests;
        }
        answer
    }

    /// A link to a replica that has room for one more stream.
    fn link(&self, member: &Member) -> Result<(String, Channel, Streams), String> {
        let address = member.addresses.get("grpc");
        let address = address.ok_or("it registered no grpc address")?;
        let material = match &self.transport {
            Transport::Plaintext => None,
            Transport::Mutual(current, _) => {
                let material = current.borrow().clone();
                Some(material.ok_or("this service has no certificate yet")?)
            }
        };
        let mut peers = self.peers();
        let members = self.members.borrow();
        let known = |address: &String| {
            (members.iter()).any(|member| member.addresses.get("grpc") == Some(address))
        };
        peers.retain(|at, peer| at == address || known(at) || peer.links.iter().any(Link::used));
        let peer = peers.entry(address.clone()).or_default();
        if peer.rests.is_some_and(|until| Instant::now() < until) {
            return Err("it did not answer a moment ago".into());
        }
        let current = |link: &Link| match (&link.material, &material) {
            (Some(used), Some(held)) => Arc::ptr_eq(used, held),
            (used, held) => used.is_none() && held.is_none(),
        };
        peer.links.retain(|link| link.used() || current(link));
        let free = |link: &&Link| current(link) && link.streams.open() < STREAMS;
        if let Some(link) = peer.links.iter().find(free) {
            return Ok((address.clone(), link.channel.clone(), link.streams.clone()));
        }
        let channel = self.connect(address, material.as_deref())?;
        let streams = Streams::default();
        peer.links.push(Link {
            channel: channel.clone(),
            material,
            streams: streams.clone(),
        });
        Ok((address.clone(), channel, streams))
    }

    fn connect(&self, address: &str, material: Option<&mtls::Material>) -> Result<Channel, String> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"));
        let endpoint = endpoint.map_err(|error| format!("{address:?}: {error}"))?;
        let (interval, timeout) = PING;
        let all = WINDOW.saturating_mul(u32::try_from(STREAMS).unwrap_or(u32::MAX));
        let endpoint = endpoint
            .connect_timeout(ANSWER)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(interval)
            .keep_alive_timeout(timeout)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(all);
        match (&self.transport, material) {
            (Transport::Mutual(_, pusher), Some(material)) => {
                let config = material.client(pusher.clone());
                let config = config.map_err(|error| error.to_string())?;
                Ok(mtls::channel_to(&endpoint, config.into()))
            }
            _ => Ok(endpoint.connect_lazy()),
        }
    }

    fn peers(&self) -> std::sync::MutexGuard<'_, HashMap<String, Peer>> {
        let peers = self.peers.lock();
        peers.expect("no code panics while it holds this lock")
    }
}

impl Link {
    fn used(&self) -> bool {
        self.streams.open() > 0
    }
}

/// An error and what is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn member(address: &str) -> Member {
        Member {
            instance: "a".into(),
            addresses: [("grpc".to_owned(), address.to_owned())].into(),
            since: model::Revision::default(),
        }
    }

    #[tokio::test]
    async fn a_link_takes_a_hundred_streams_and_the_next_gets_another() {
        let member = member("127.0.0.1:1");
        let links = Links::new(Transport::Plaintext, watch::channel(vec![member.clone()]).1);
        let count = |links: &Links| links.peers()["127.0.0.1:1"].links.len();
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            streams.push(links.link(&member).unwrap().2);
        }
        assert_eq!(count(&links), 1);
        streams.push(links.link(&member).unwrap().2);
        assert_eq!(count(&links), 2);
        streams.remove(0);
        streams.push(links.link(&member).unwrap().2);
        assert_eq!(count(&links), 2, "what became free is used again");
    }

    #[tokio::test]
    async fn who_does_not_answer_is_left_alone_for_a_while() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let member = member(&listener.local_addr().unwrap().to_string());
        drop(listener);
        let links = Links::new(Transport::Plaintext, watch::channel(vec![member.clone()]).1);
        let first = links.ask(&member).await.unwrap_err();
        assert!(!first.contains("a moment ago"), "{first}");
        let second = links.ask(&member).await.unwrap_err();
        assert!(second.contains("a moment ago"), "{second}");
    }
}
