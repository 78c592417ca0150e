//! A simulated xDS client: one ADS stream that subscribes, follows references and acknowledges like an Envoy does, and
//! counts. Thousands fit into one process.
//!
//! *Invariant:* it shares no code with the server it measures.

mod follow;
mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, bail};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::Streaming;
use tonic::transport::Channel;

use self::session::Session;
use crate::mesh::Variant;

/// The types it subscribes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    /// CDS, with the wildcard.
    Cluster,
    /// EDS, for the clusters that ask for it.
    Endpoint,
    /// LDS, with the wildcard.
    Listener,
    /// RDS, for the routes that listeners name.
    Route,
}

/// What it does with a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reaction {
    /// Acknowledges at once.
    #[default]
    Ack,
    /// Refuses every resource of this type, acknowledges the others.
    Nack(Type),
    /// Refuses every response with a resource in which this text is, acknowledges the others.
    Poisoned(&'static str),
    /// Reads and never answers.
    Silent,
    /// Acknowledges after this time.
    Slow(Duration),
}

/// Who it is and how it behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node id, such as `sidecar~shop~web`.
    pub node: String,
    /// SotW or delta.
    pub variant: Variant,
    /// What it does with responses.
    pub reaction: Reaction,
}

/// What one type's responses came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Responses.
    pub responses: u64,
    /// Resources in them, repetitions included.
    pub resources: u64,
    /// Names in `removed_resources` (delta).
    pub removed: u64,
    /// Their encoded size.
    pub bytes: u64,
}

/// What a client has seen and holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// By type.
    pub tallies: BTreeMap<Type, Tally>,
    /// The names of the resources it holds.
    pub held: BTreeMap<Type, BTreeSet<String>>,
    /// How many responses it refused.
    pub refused: u64,
    /// What the service `clock` shows: the port of its first endpoint; 0 before it was seen.
    pub clock: u32,
    /// What it showed before and after, when it was first set back.
    pub set_back: Option<(u32, u32)>,
    /// Why its stream ended, if it did.
    pub ended: Option<String>,
}

impl State {
    /// What a type's responses came to.
    pub fn tally(&self, ty: Type) -> Tally {
        self.tallies.get(&ty).copied().unwrap_or_default()
    }

    /// How many resources of a type it holds.
    pub fn holds(&self, ty: Type) -> usize {
        self.held.get(&ty).map_or(0, BTreeSet::len)
    }
}

/// A client with an open stream; closes it when dropped.
#[derive(Debug)]
pub struct Client {
    state: watch::Receiver<State>,
    _task: AbortOnDropHandle<()>,
}

impl Client {
    /// Opens a stream and subscribes to clusters and listeners.
    ///
    /// # Errors
    /// If the stream cannot be opened.
    pub async fn open(channel: Channel, settings: Settings) -> Result<Self> {
        let mut ads =
            AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(256 << 20);
        let (publish, state) = watch::channel(State::default());
        let session = Session::new(publish, settings.reaction);
        let node = core::Node {
            id: settings.node,
            cluster: "simulated".into(),
            ..core::Node::default()
        };
        // The server may answer with headers only after the first request: the opening requests go ahead of the call.
        let task = match settings.variant {
            Variant::Sotw => {
                let (requests, outgoing) = mpsc::channel::<DiscoveryRequest>(64);
                let mut opening = session::sotw_opening();
                opening[0].node = Some(node);
                for request in opening {
                    requests.send(request).await?;
                }
                let responses = ads
                    .stream_aggregated_resources(ReceiverStream::new(outgoing))
                    .await?
                    .into_inner();
                tokio::spawn(session.sotw(requests, responses))
            }
            Variant::Delta => {
                let (requests, outgoing) = mpsc::channel::<DeltaDiscoveryRequest>(64);
                let mut opening = session::delta_opening();
                opening[0].node = Some(node);
                for request in opening {
                    requests.send(request).await?;
                }
                let responses = ads
                    .delta_aggregated_resources(ReceiverStream::new(outgoing))
                    .await?
                    .into_inner();
                tokio::spawn(session.delta(requests, responses))
            }
        };
        Ok(Self {
            state,
            _task: AbortOnDropHandle::new(task),
        })
    }

    /// What it has seen up to now.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// What it sees from now on.
    pub fn states(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Waits until its state satisfies a condition.
    ///
    /// # Errors
    /// If it does not in time or the stream ends; the message holds the state.
    pub async fn until(
        &self,
        what: &str,
        limit: Duration,
        accept: impl Fn(&State) -> bool,
    ) -> Result<State> {
        let mut state = self.state.clone();
        let reached =
            tokio::time::timeout(limit, state.wait_for(|s| accept(s) || s.ended.is_some())).await;
        match reached {
            Ok(Ok(state)) if accept(&state) => Ok(state.clone()),
            _ => bail!("waited {limit:?} for {what}: {:?}", self.state()),
        }
    }
}

/// Ends a response stream's story in one sentence.
async fn next<T>(responses: &mut Streaming<T>) -> Result<T, String> {
    match responses.message().await {
        Ok(Some(response)) => Ok(response),
        Ok(None) => Err("the server closed the stream".into()),
        Err(status) => Err(format!("{:?}: {}", status.code(), status.message())),
    }
}
