//! The protocol on one stream, as a machine: requests and snapshots go in, responses and events come out.
//!
//! ```text
//! on_request / on_delta_request / on_snapshot  →  Session  →  poll(now): Response, take_events(), deadline()
//! ```
//!
//! Rules are cited by ids: S for state of the world, D for delta, C for both; `tests.rs` has a test for each.
//!
//! *Invariant:* nothing here awaits, reads a clock or knows a socket; `now` is a value like any other.

mod answer;
mod gate;
mod launch;
mod names;
mod plan;
mod progress;
mod request;
mod response;
mod state;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;

pub use self::progress::Progress;
pub use self::response::Response;
use self::state::TypeState;
use crate::{Resource, ResourceType, Snapshot};

/// The two variants of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    /// State of the world.
    Sotw,
    /// Delta, also called incremental.
    Delta,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sotw => "SotW",
            Self::Delta => "delta",
        })
    }
}

/// How a client is told that there is nothing under a name it subscribed to.
#[derive(Clone, Copy, Debug)]
pub enum Absent {
    /// Delta: by `removed_resources`.
    Removed,
    /// Delta: by `removed_resources`, unless it holds something: clients keep that rather than take a removal.
    Unless,
    /// By an empty resource: always in state of the world; in delta if the client holds something, else by
    /// `removed_resources`.
    Empty(fn(&str) -> Resource),
}

/// How absence looks to Envoy, by type (rules S18, D5).
pub fn absent(ty: ResourceType) -> Absent {
    match ty {
        ResourceType::Endpoint => Absent::Empty(|name| {
            Resource::new(&ClusterLoadAssignment {
                cluster_name: name.to_owned(),
                ..Default::default()
            })
        }),
        ResourceType::Secret | ResourceType::ExtensionConfig => Absent::Unless,
        _ => Absent::Removed,
    }
}

/// What can be chosen of a stream's behaviour.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `control_plane.identifier` of every response.
    pub control_plane: Arc<str>,
    /// Makes nonces of different streams differ.
    pub nonce: String,
    /// The only type of the stream; `None`: all, aggregated (ADS).
    pub only: Option<ResourceType>,
    /// Whether clusters and endpoints are removed only when no route or listener uses them any more. Without it,
    /// requests that are under way while a cluster goes are lost; it can be switched off to show just that.
    pub late_removal: bool,
    /// How long new routes and listeners wait for clusters to be ACKed, at most.
    pub route_wait: Duration,
    /// How long a cluster is kept for routes and listeners that the client neither ACKs nor NACKs.
    pub retain: Duration,
    /// How long after the start of a stream clusters of an earlier one are kept, for their users to be asked for.
    pub grace: Duration,
    /// How absence looks, by type.
    pub absent: fn(ResourceType) -> Absent,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            control_plane: "xds".into(),
            nonce: String::new(),
            only: None,
            late_removal: true,
            route_wait: Duration::from_secs(10),
            retain: Duration::from_secs(60),
            grace: Duration::from_millis(500),
            absent,
        }
    }
}

/// What a session has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The client runs this revision of the type: it ACKed it, or nothing it subscribed to changed.
    Ack {
        /// The type.
        ty: ResourceType,
        /// The revision of the snapshot.
        revision: i64,
    },
    /// The client refused a response.
    Nack {
        /// The type.
        ty: ResourceType,
        /// The revision of the snapshot that the response led to.
        revision: i64,
        /// What the client said.
        error: String,
        /// Names and versions that were new in the response; the culprit is among them.
        suspects: Vec<(Arc<str>, Arc<str>)>,
    },
    /// A resource was found to be what the client refuses. This version of it is not sent again on this stream.
    Refused {
        /// The type.
        ty: ResourceType,
        /// The name.
        name: Arc<str>,
        /// The version.
        version: Arc<str>,
        /// What the client said.
        error: String,
    },
    /// Another version of a resource that was refused was ACKed.
    Corrected {
        /// The type.
        ty: ResourceType,
        /// The name.
        name: Arc<str>,
    },
    /// The client asked for a type that this server does not speak; it is not answered.
    Unsupported {
        /// The type URL.
        type_url: String,
    },
}

/// A request that ends the stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The first request of a stream has to say who asks.
    #[error("the first request of a stream needs a `node` with an `id`")]
    NoNode,
    /// On an aggregated stream every request has to say what it asks for.
    #[error("a request on an aggregated stream needs a `type_url`")]
    NoType,
    /// The service is one type's own.
    #[error("`type_url` is {url:?}, but this service is for {} alone", .only.type_url())]
    OtherType {
        /// The type that was asked for.
        url: String,
        /// The type of the service.
        only: ResourceType,
    },
}

/// One stream.
pub struct Session {
    variant: Variant,
    options: Options,
    opened: Instant,
    node: Option<Node>,
    /// Whether the client understands times to live.
    heartbeats: bool,
    /// The newest snapshot.
    target: Option<Arc<Snapshot>>,
    nothing: Arc<Snapshot>,
    types: [TypeState; ResourceType::COUNT],
    /// The newest snapshot that the client was seen to have answered, and how far it was with it.
    seen: Option<(Arc<Snapshot>, Progress)>,
    /// Clusters that are kept for their users, and since when.
    leaving: BTreeMap<Arc<str>, Instant>,
    nonces: u64,
    events: Vec<Event>,
}

impl Session {
    /// A stream that was just opened.
    pub fn new(variant: Variant, options: Options, now: Instant) -> Self {
        let nothing = Arc::new(Snapshot::default());
        Self {
            variant,
            options,
            opened: now,
            node: None,
            heartbeats: false,
            target: None,
            types: std::array::from_fn(|_| TypeState::new(nothing.clone())),
            nothing,
            seen: None,
            leaving: BTreeMap::new(),
            nonces: 0,
            events: Vec::new(),
        }
    }

    /// Who is at the other end, once the first request said so.
    pub fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    /// Takes the newest snapshot; whatever was not sent of earlier ones no longer matters (rule C5).
    pub fn on_snapshot(&mut self, snapshot: Arc<Snapshot>) {
        self.target = Some(snapshot);
        self.types
            .iter_mut()
            .for_each(|state| state.settled = false);
    }

    /// When to call [`poll`](Self::poll) again if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        self.types.iter().filter_map(|state| state.wake).min()
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// What the client subscribed to of a type: whether to everything, and how many names.
    pub fn subscription(&self, ty: ResourceType) -> (bool, usize) {
        let names = &self.types[ty as usize].names;
        (names.wildcard, names.len())
    }

    /// The first request says who asks (rule S16).
    fn open(&mut self, node: Option<&Node>) -> Result<(), Refusal> {
        self.types
            .iter_mut()
            .for_each(|state| state.settled = false);
        if self.node.is_none() {
            let node = node
                .filter(|node| !node.id.is_empty())
                .ok_or(Refusal::NoNode)?;
            self.heartbeats = node
                .client_features
                .iter()
                .any(|f| f == "xds.config.supports-resource-ttl");
            self.node = Some(node.clone());
        }
        Ok(())
    }

    fn nonce(&mut self) -> String {
        self.nonces += 1;
        format!("{}{}", self.options.nonce, self.nonces)
    }
}

#[cfg(test)]
mod tests;
