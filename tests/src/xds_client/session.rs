//! One stream's life: subscriptions, acknowledgements, counting.
//!
//! *Invariant:* a response is counted before it is answered.

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::google::rpc::Status;
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tonic::Streaming;

use super::follow::{clock, read};
use super::{Reaction, State, Type, next};

pub(super) struct Session {
    publish: watch::Sender<State>,
    reaction: Reaction,
    /// What each held resource refers to, by its type and name.
    refs: BTreeMap<(Type, String), Vec<String>>,
    /// Names subscribed to, of the types without a wildcard.
    wanted: BTreeMap<Type, BTreeSet<String>>,
    /// The version and nonce of the newest response (SotW).
    newest: BTreeMap<Type, (String, String)>,
    /// The version last acknowledged (SotW).
    acked: BTreeMap<Type, String>,
}

/// The first requests of a SotW stream.
pub(super) fn sotw_opening() -> Vec<DiscoveryRequest> {
    let ask = |ty: Type| DiscoveryRequest {
        type_url: ty.url().into(),
        ..DiscoveryRequest::default()
    };
    vec![ask(Type::Cluster), ask(Type::Listener)]
}

/// The first requests of a delta stream.
pub(super) fn delta_opening() -> Vec<DeltaDiscoveryRequest> {
    let ask = |ty: Type| DeltaDiscoveryRequest {
        type_url: ty.url().into(),
        ..DeltaDiscoveryRequest::default()
    };
    vec![ask(Type::Cluster), ask(Type::Listener)]
}

/// The names that became and ceased to be wanted.
#[derive(Default)]
struct Difference {
    more: Vec<String>,
    fewer: Vec<String>,
}

impl Session {
    pub(super) fn new(publish: watch::Sender<State>, reaction: Reaction) -> Self {
        let (refs, wanted) = Default::default();
        Self {
            publish,
            reaction,
            refs,
            wanted,
            newest: BTreeMap::new(),
            acked: BTreeMap::new(),
        }
    }

    pub(super) async fn sotw(
        mut self,
        requests: mpsc::Sender<DiscoveryRequest>,
        mut responses: Streaming<DiscoveryResponse>,
    ) {
        let reason = loop {
            let response = match next(&mut responses).await {
                Ok(response) => response,
                Err(reason) => break reason,
            };
            let Some(ty) = Type::of(&response.type_url) else {
                break format!("unasked type {}", response.type_url);
            };
            let resources: Vec<_> = response
                .resources
                .iter()
                .map(|any| any.value.as_slice())
                .collect();
            self.count(ty, resources.len(), 0, response.encoded_len());
            self.newest
                .insert(ty, (response.version_info.clone(), response.nonce.clone()));
            let Some(nacked) = self.react(ty, &resources).await else {
                continue;
            };
            let mut difference = Difference::default();
            if !nacked {
                let whole = ty.refers_to().is_some();
                difference = self.take(ty, &resources, &[], whole);
                self.acked.insert(ty, response.version_info);
            }
            let mut answers = vec![self.sotw_request(ty, nacked)];
            if let Some(other) = ty
                .refers_to()
                .filter(|_| !difference.more.is_empty() || !difference.fewer.is_empty())
            {
                answers.push(self.sotw_request(other, false));
            }
            for answer in answers {
                if requests.send(answer).await.is_err() {
                    return;
                }
            }
        };
        self.publish.send_modify(|state| state.ended = Some(reason));
    }

    pub(super) async fn delta(
        mut self,
        requests: mpsc::Sender<DeltaDiscoveryRequest>,
        mut responses: Streaming<DeltaDiscoveryResponse>,
    ) {
        let reason = loop {
            let response = match next(&mut responses).await {
                Ok(response) => response,
                Err(reason) => break reason,
            };
            let Some(ty) = Type::of(&response.type_url) else {
                break format!("unasked type {}", response.type_url);
            };
            let bodies: Vec<_> = response
                .resources
                .iter()
                .filter_map(|r| Some(r.resource.as_ref()?.value.as_slice()))
                .collect();
            let removed = &response.removed_resources;
            self.count(ty, bodies.len(), removed.len(), response.encoded_len());
            let Some(nacked) = self.react(ty, &bodies).await else {
                continue;
            };
            let mut difference = Difference::default();
            if !nacked {
                difference = self.take(ty, &bodies, removed, false);
            }
            let ack = DeltaDiscoveryRequest {
                type_url: ty.url().into(),
                response_nonce: response.nonce,
                error_detail: nacked.then(refusal),
                ..DeltaDiscoveryRequest::default()
            };
            let mut answers = vec![ack];
            if let Some(other) = ty
                .refers_to()
                .filter(|_| !difference.more.is_empty() || !difference.fewer.is_empty())
            {
                answers.push(DeltaDiscoveryRequest {
                    type_url: other.url().into(),
                    resource_names_subscribe: difference.more,
                    resource_names_unsubscribe: difference.fewer,
                    ..DeltaDiscoveryRequest::default()
                });
            }
            for answer in answers {
                if requests.send(answer).await.is_err() {
                    return;
                }
            }
        };
        self.publish.send_modify(|state| state.ended = Some(reason));
    }

    fn count(&self, ty: Type, resources: usize, removed: usize, bytes: usize) {
        self.publish.send_modify(|state| {
            let tally = state.tallies.entry(ty).or_default();
            tally.responses += 1;
            tally.resources += resources as u64;
            tally.removed += removed as u64;
            tally.bytes += bytes as u64;
        });
    }

    /// Brings what is held up to date, and returns what that changes in the other type's names.
    fn take(&mut self, ty: Type, bodies: &[&[u8]], removed: &[String], whole: bool) -> Difference {
        let read: Vec<_> = bodies.iter().filter_map(|body| read(ty, body)).collect();
        self.publish.send_modify(|state| {
            let held = state.held.entry(ty).or_default();
            if whole {
                held.clear();
            }
            held.extend(read.iter().map(|(name, _)| name.clone()));
            for name in removed {
                held.remove(name);
            }
            for now in bodies.iter().filter_map(|body| clock(ty, body)) {
                if now < state.clock {
                    state.set_back.get_or_insert((state.clock, now));
                }
                state.clock = now;
            }
        });
        let Some(other) = ty.refers_to() else {
            return Difference::default();
        };
        if whole {
            self.refs.retain(|(t, _), _| *t != ty);
        }
        for name in removed {
            self.refs.remove(&(ty, name.clone()));
        }
        self.refs
            .extend(read.into_iter().map(|(name, refs)| ((ty, name), refs)));
        let now: BTreeSet<String> = self
            .refs
            .iter()
            .filter(|((t, _), _)| *t == ty)
            .flat_map(|(_, refs)| refs)
            .cloned()
            .collect();
        let before = self.wanted.insert(other, now.clone()).unwrap_or_default();
        let gone: Vec<String> = before.difference(&now).cloned().collect();
        self.publish.send_modify(|state| {
            let held = state.held.entry(other).or_default();
            held.retain(|name| now.contains(name));
        });
        Difference {
            more: now.difference(&before).cloned().collect(),
            fewer: gone,
        }
    }

    /// Waits if it is slow; whether it refuses, or `None` if it says nothing at all.
    async fn react(&self, ty: Type, resources: &[&[u8]]) -> Option<bool> {
        let refused = match self.reaction {
            Reaction::Ack => Some(false),
            Reaction::Nack(refused) => Some(refused == ty && !resources.is_empty()),
            Reaction::Poisoned(text) => {
                let poison = text.as_bytes();
                let has = |body: &&[u8]| body.windows(poison.len()).any(|it| it == poison);
                Some(resources.iter().any(has))
            }
            Reaction::Silent => None,
            Reaction::Slow(pause) => {
                tokio::time::sleep(pause).await;
                Some(false)
            }
        };
        if refused == Some(true) {
            self.publish.send_modify(|state| state.refused += 1);
        }
        refused
    }

    fn sotw_request(&self, ty: Type, nacked: bool) -> DiscoveryRequest {
        let nonce = self
            .newest
            .get(&ty)
            .map(|(_, nonce)| nonce.clone())
            .unwrap_or_default();
        DiscoveryRequest {
            type_url: ty.url().into(),
            version_info: self.acked.get(&ty).cloned().unwrap_or_default(),
            response_nonce: nonce,
            resource_names: self
                .wanted
                .get(&ty)
                .map(|names| names.iter().cloned().collect())
                .unwrap_or_default(),
            error_detail: nacked.then(refusal),
            ..DiscoveryRequest::default()
        }
    }
}

fn refusal() -> Status {
    Status {
        code: 3,
        message: "refused by a simulated client".into(),
        details: Vec::new(),
    }
}
