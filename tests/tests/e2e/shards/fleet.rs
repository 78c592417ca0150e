//! Simulated Envoys that come again whenever their stream ends, as real ones do, and remember what they have seen.
//!
//! *Invariant:* what a node was shown on one stream counts on all later ones.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use rand::RngExt as _;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::{Channel, Endpoint};
use weft_tests::mesh::Variant;
use weft_tests::wait::{self, PATIENCE};
use weft_tests::xds_client::{Client, Reaction, Settings, State, Type};

/// Many of them.
pub(super) struct Fleet {
    nodes: Vec<Node>,
}

struct Node {
    id: String,
    seen: Arc<Mutex<Seen>>,
    state: watch::Receiver<State>,
    _task: AbortOnDropHandle<()>,
}

/// What a node has been shown, on all of its streams.
#[derive(Clone, Debug, Default)]
struct Seen {
    clock: u32,
    set_back: Option<String>,
    streams: u32,
    /// What streams ended with, in order.
    ends: Vec<String>,
}

impl Fleet {
    /// Starts so many, which call these pushers, each in an order of its own. A channel is shared by `per_channel` of them.
    pub(super) fn start(count: usize, pushers: &[SocketAddr], per_channel: usize) -> Self {
        Self::of(0..count, pushers, per_channel)
    }

    /// The same with these numbers.
    pub(super) fn of(
        numbers: impl Iterator<Item = usize>,
        pushers: &[SocketAddr],
        per_channel: usize,
    ) -> Self {
        Self::by(numbers, pushers, per_channel, |_, pusher| {
            endpoint(pusher).connect_lazy()
        })
    }

    /// The same by these channels: `dial` makes the one of so many (the first is 0) to a pusher.
    pub(super) fn by(
        numbers: impl Iterator<Item = usize>,
        pushers: &[SocketAddr],
        per_channel: usize,
        dial: impl Fn(usize, SocketAddr) -> Channel,
    ) -> Self {
        let channels = |n: usize| -> Vec<Channel> {
            let pushers = pushers.iter().copied();
            pushers
                .map(|pusher| dial(n / per_channel, pusher))
                .collect()
        };
        let mut shared = Vec::new();
        let nodes = (0..).zip(numbers).map(|(n, number)| {
            if n % per_channel == 0 {
                shared = channels(n);
            }
            let mut channels = shared.clone();
            let first = n / per_channel % channels.len();
            channels.rotate_left(first);
            node(number, channels)
        });
        Self {
            nodes: nodes.collect(),
        }
    }

    /// The node id of a number.
    pub(super) fn id(number: usize) -> String {
        format!("sidecar~shop~{}", Self::workload(number))
    }

    /// The workload of a number.
    pub(super) fn workload(number: usize) -> String {
        format!("sim-{number}")
    }

    /// Their node ids.
    pub(super) fn ids(&self) -> impl Iterator<Item = String> {
        self.nodes.iter().map(|node| node.id.clone())
    }

    /// How many streams they have opened.
    pub(super) fn streams(&self) -> u32 {
        self.nodes.iter().map(|node| node.seen().streams).sum()
    }

    /// Waits until each of them has an open stream on which it was shown this time.
    pub(super) async fn see(&self, clock: u32) {
        let late = async || -> Result<()> {
            let late: Vec<_> = self
                .nodes
                .iter()
                .filter(|node| !node.is_at(clock))
                .collect();
            match late.first() {
                None => Ok(()),
                Some(first) => bail!(
                    "{} of {} do not see {clock}, such as {}: {:?}, {:?}",
                    late.len(),
                    self.nodes.len(),
                    first.id,
                    first.seen(),
                    first.state.borrow().ended
                ),
            }
        };
        wait::until("every node to see the time", PATIENCE * 2, late)
            .await
            .unwrap();
    }

    /// What their streams ended with.
    pub(super) fn ends(&self) -> Vec<String> {
        self.nodes
            .iter()
            .flat_map(|node| node.seen().ends)
            .collect()
    }

    /// Leaves out of [`Fleet::ends`] what ended until now.
    pub(super) fn forget_ends(&self) {
        for node in &self.nodes {
            node.seen.lock().unwrap().ends.clear();
        }
    }

    /// Whether a stream of one of them ended like this.
    pub(super) fn ended_with(&self, reason: &str) -> bool {
        self.ends().iter().any(|end| end.contains(reason))
    }

    /// That no node was ever shown something older than before.
    pub(super) fn not_set_back(&self) -> Result<()> {
        for node in &self.nodes {
            if let Some(set_back) = node.seen().set_back {
                bail!("{}: {set_back}", node.id);
            }
        }
        Ok(())
    }

    /// The same, and that all come to hold the same; streams that just moved are still being told.
    pub(super) async fn agree(&self) -> Result<()> {
        let held = |node: &Node| node.state.borrow().held.clone();
        let same = async || -> Result<()> {
            let first = held(&self.nodes[0]);
            for node in &self.nodes {
                ensure!(
                    held(node) == first,
                    "{} holds {:?}, others {first:?}",
                    node.id,
                    held(node)
                );
            }
            Ok(())
        };
        wait::until("all nodes to hold the same", PATIENCE, same).await?;
        self.not_set_back()
    }
}

impl Node {
    fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    fn is_at(&self, clock: u32) -> bool {
        let state = self.state.borrow();
        state.ended.is_none() && state.clock == clock && state.holds(Type::Cluster) > 0
    }
}

/// Connections that notice a server which is stopped.
pub(super) fn endpoint(pusher: SocketAddr) -> Endpoint {
    Endpoint::from_shared(format!("http://{pusher}"))
        .unwrap()
        .connect_timeout(Duration::from_secs(2))
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(2))
}

fn node(n: usize, channels: Vec<Channel>) -> Node {
    let id = Fleet::id(n);
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let (publish, state) = watch::channel(State::default());
    let variant = Variant::ALL[n % 2];
    let life = live(id.clone(), variant, channels, seen.clone(), publish);
    Node {
        id,
        seen,
        state,
        _task: AbortOnDropHandle::new(tokio::spawn(life)),
    }
}

/// Opens streams one after the other, at the next pusher when one fails.
async fn live(
    id: String,
    variant: Variant,
    mut channels: Vec<Channel>,
    seen: Arc<Mutex<Seen>>,
    publish: watch::Sender<State>,
) {
    loop {
        let settings = Settings {
            node: id.clone(),
            variant,
            reaction: Reaction::Ack,
        };
        match Client::open(channels[0].clone(), settings).await {
            Ok(client) => {
                seen.lock().unwrap().streams += 1;
                follow(&client, &seen, &publish).await;
            }
            Err(refused) => seen.lock().unwrap().ends.push(format!("{refused:#}")),
        }
        channels.rotate_left(1);
        let pause = rand::rng().random_range(0.1..1.0);
        tokio::time::sleep(Duration::from_secs_f64(pause)).await;
    }
}

/// Takes over what a stream shows until its end.
async fn follow(client: &Client, seen: &Mutex<Seen>, publish: &watch::Sender<State>) {
    let mut states = client.states();
    loop {
        let state = states.borrow_and_update().clone();
        {
            let mut seen = seen.lock().unwrap();
            let across =
                (state.clock != 0 && state.clock < seen.clock).then_some((seen.clock, state.clock));
            if let Some((before, after)) = state.set_back.or(across) {
                let stream = seen.streams;
                seen.set_back.get_or_insert(format!(
                    "set back from {before} to {after} on stream {stream}"
                ));
            }
            seen.clock = seen.clock.max(state.clock);
            seen.ends.extend(state.ended.clone());
        }
        let ended = state.ended.is_some();
        publish.send_replace(state);
        if ended || states.changed().await.is_err() {
            return;
        }
    }
}
