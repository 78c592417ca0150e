//! Making a response, and noting that it is under way.
//!
//! *Invariant:* what a response holds was decided in `plan`; nothing is compared here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::response::{Entry, Response};
use super::state::{Flight, Good, Held, Part};
use super::{Session, Variant};
use crate::{Resource, ResourceType, Snapshot};

impl Session {
    /// Makes the response and notes that it is under way.
    pub(super) fn launch(
        &mut self,
        now: Instant,
        ty: ResourceType,
        mut flight: Flight,
    ) -> Response {
        flight.nonce = self.nonce();
        let (entries, removed) = self.entries(ty, &flight);
        let mut view = view(&flight);
        view.retain(|name, content| flight.target.get(ty, name) != content.as_ref());
        let version = version(&flight.target, ty, &view);
        let state = &mut self.types[ty as usize];
        for part in &flight.parts {
            if let Some(held) = state.except.get_mut(part.name()) {
                held.asked = false;
            }
            state.beats.remove(part.name());
        }
        state.owed = false;
        state.settled = true;
        state.nonce.clone_from(&flight.nonce);
        if self.heartbeats {
            let ttl = entries
                .iter()
                .filter_map(|e| e.resource().and_then(|r| Some((r, r.ttl()?))));
            for (resource, ttl) in ttl {
                state.beats.insert(resource.name().clone(), now + ttl / 2);
            }
        }
        if ty == ResourceType::Cluster {
            self.endpoints_again(&flight.parts);
        }
        let revision = flight.target.revision();
        let response = Response::new(
            &self.options,
            self.variant,
            ty,
            revision,
            &version,
            &flight.nonce,
            &entries,
            removed,
        );
        self.types[ty as usize].flights.push(flight);
        response
    }

    /// The resources of a response, and the names it removes.
    fn entries(&self, ty: ResourceType, flight: &Flight) -> (Vec<Entry>, Vec<Arc<str>>) {
        let entry = |resource: &Resource| Entry::new(resource, self.heartbeats);
        if self.variant == Variant::Delta || !ty.is_full_state() {
            let mut entries = Vec::with_capacity(flight.parts.len());
            let mut removed = Vec::new();
            for part in &flight.parts {
                match part {
                    Part::Content(resource) => entries.push(entry(resource)),
                    Part::Removed(name) => removed.push(name.clone()),
                }
            }
            return (entries, removed);
        }
        let names = &self.types[ty as usize].names;
        let view = view(flight);
        let hold = |name: &str| {
            let held = flight.keep.iter().find(|(kept, _)| &**kept == name);
            held.is_some_and(|(_, held)| matches!(held.good, Good::Reported(_)))
        };
        let mut entries: Vec<Entry> = flight
            .target
            .iter(ty)
            .filter(|resource| names.contains(resource.name()))
            .filter_map(|resource| match view.get(resource.name()) {
                None => Some(entry(resource)),
                Some(Some(other)) => Some(entry(other)),
                Some(None) => hold(resource.name()).then(|| entry(resource)),
            })
            .collect();
        let kept = view
            .iter()
            .filter(|(name, _)| flight.target.get(ty, name).is_none());
        entries.extend(kept.filter_map(|(_, content)| content.as_ref()).map(entry));
        (entries, Vec::new())
    }

    /// A cluster that is sent again gets its endpoints again (rule C12).
    fn endpoints_again(&mut self, parts: &[Part]) {
        let ty = ResourceType::Endpoint;
        let state = &mut self.types[ty as usize];
        for part in parts {
            let Part::Content(cluster) = part else {
                continue;
            };
            for name in cluster.refs_to(ty) {
                if !state.opened {
                    // Only what the client says it holds from an earlier stream might be left unsent then.
                    if self.variant == Variant::Sotw {
                        return;
                    }
                    state.resend.insert(name.clone());
                } else if state.names.contains(name) {
                    let held = state.held(ty, name);
                    state.except.insert(
                        name.clone(),
                        Held {
                            doubt: true,
                            asked: true,
                            ..held
                        },
                    );
                    state.settled = false;
                }
            }
        }
    }

    /// Heartbeats that are due (rule C8).
    pub(super) fn heartbeat(
        &mut self,
        now: Instant,
        ty: ResourceType,
        target: &Arc<Snapshot>,
    ) -> Option<Response> {
        let state = &mut self.types[ty as usize];
        state
            .beats
            .retain(|name, _| target.get(ty, name).is_some_and(|r| r.ttl().is_some()));
        let due: Vec<Resource> = state
            .beats
            .iter_mut()
            .filter(|(_, at)| **at <= now)
            .filter_map(|(name, at)| {
                let resource = target.get(ty, name)?;
                *at = now + resource.ttl()? / 2;
                Some(resource.clone())
            })
            .collect();
        if let Some(next) = state.beats.values().min().copied() {
            state.wake_at(next);
        }
        if due.is_empty() {
            return None;
        }
        let nonce = self.nonce();
        let version = version(target, ty, &BTreeMap::new());
        let entries: Vec<Entry> = due.into_iter().map(Entry::Heartbeat).collect();
        let revision = target.revision();
        let response = Response::new(
            &self.options,
            self.variant,
            ty,
            revision,
            &version,
            &nonce,
            &entries,
            Vec::new(),
        );
        let state = &mut self.types[ty as usize];
        state.nonce.clone_from(&nonce);
        let (parts, keep) = (Vec::new(), Vec::new());
        state.flights.push(Flight {
            nonce,
            target: target.clone(),
            advance: false,
            parts,
            keep,
            trial: None,
        });
        Some(response)
    }
}

/// Where the client will hold something else than the snapshot has, or where it is known anew what it holds.
fn view(flight: &Flight) -> BTreeMap<Arc<str>, Option<Resource>> {
    let kept = flight
        .keep
        .iter()
        .map(|(name, held)| (name.clone(), held.good.content().cloned()));
    let parts = flight.parts.iter().map(|part| match part {
        Part::Content(resource) => (resource.name().clone(), Some(resource.clone())),
        Part::Removed(name) => (name.clone(), None),
    });
    kept.chain(parts).collect()
}

/// The version of a type: the caller's, or a hash of all its content, as the client sees it (rules S1, S7).
fn version(
    target: &Snapshot,
    ty: ResourceType,
    view: &BTreeMap<Arc<str>, Option<Resource>>,
) -> String {
    let mut digest = target.digest(ty);
    for (name, content) in view {
        digest = digest.wrapping_sub(target.get(ty, name).map_or(0, Resource::digest));
        digest = digest.wrapping_add(content.as_ref().map_or(0, Resource::digest));
    }
    match target.version() {
        Some(version) if view.is_empty() => version.to_string(),
        Some(version) => format!("{version}~{digest:016x}"),
        None => format!("{digest:016x}"),
    }
}
