//! What to send next: the difference between what the client holds and what it should hold.
//!
//! *Invariant:* what is equal to what the client holds is not sent, unless it asked for it anew (rules S14, D3), or
//! endpoints whose cluster is sent again (rule C12).

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::response::Response;
use super::state::{Flight, Good, Held, Part, Trial};
use super::{Absent, Event, Session, Variant};
use crate::{Resource, ResourceType, Snapshot};

/// The order of a push: what is needed before what needs it (rule C1).
const ORDER: [ResourceType; ResourceType::COUNT] = [
    ResourceType::Runtime,
    ResourceType::Secret,
    ResourceType::Cluster,
    ResourceType::Endpoint,
    ResourceType::ExtensionConfig,
    ResourceType::Listener,
    ResourceType::ScopedRoute,
    ResourceType::Route,
];

/// Subscriptions that are answered while earlier answers are unacknowledged (delta only).
const MOST_FLIGHTS: usize = 8;

/// What the client should hold under a name.
enum Want {
    Content(Resource),
    Absent,
    /// What it holds now, whatever that is.
    Same,
}

/// What a look at a type found.
#[derive(Default)]
struct Findings {
    /// To be sent.
    parts: Vec<Part>,
    /// Not to be sent, though the snapshot has something else.
    keep: Vec<(Arc<str>, Held)>,
}

impl Session {
    /// The next response to send, if there is one. To be called until there is none, after every input and when
    /// [`deadline`](Self::deadline) has come.
    pub fn poll(&mut self, now: Instant) -> Option<Response> {
        for state in &mut self.types {
            if state.wake.is_some_and(|wake| wake <= now) {
                state.settled = false;
            }
        }
        loop {
            let mut again = false;
            for ty in ORDER {
                let before = self.types[ty as usize].base.clone();
                if let Some(response) = self.plan(now, ty) {
                    return Some(response);
                }
                // Routes that moved on without a word may have been what kept a cluster.
                let moved = !Arc::ptr_eq(&before, &self.types[ty as usize].base);
                if moved && !self.leaving.is_empty() {
                    self.types[ResourceType::Cluster as usize].settled = false;
                    again |= ty != ResourceType::Cluster;
                }
            }
            if !again {
                return None;
            }
        }
    }

    fn plan(&mut self, now: Instant, ty: ResourceType) -> Option<Response> {
        let target = self.target.clone()?;
        let state = &mut self.types[ty as usize];
        if !state.opened || state.settled {
            return None;
        }
        state.wake = None;
        if !state.flights.is_empty() {
            return self.answer_asked(now, ty, &target);
        }
        if self.gated(now, ty) {
            return None;
        }
        self.prune_trials(ty);
        let Findings {
            mut parts,
            mut keep,
        } = self.look(now, ty, &target);
        let state = &mut self.types[ty as usize];
        let mut trial: Option<Trial> = None;
        if parts.is_empty() || state.trial_next {
            trial = state.trials.pop();
        }
        state.trial_next = trial.is_none() && !state.trials.is_empty();
        if let Some(trial) = &trial {
            let tried: HashSet<&str> = trial.items.iter().map(|r| &**r.name()).collect();
            keep.retain(|(name, _)| !tried.contains(&**name));
            let later = parts
                .into_iter()
                .map(|part| (part.name().clone(), state.held(ty, part.name())));
            keep.extend(later.filter(|(name, _)| !tried.contains(&**name)));
            parts = trial.items.iter().cloned().map(Part::Content).collect();
        }
        if parts.is_empty() && !state.owed {
            state.advance(ty, &target, keep);
            state.settled = true;
            let revision = target.revision();
            if state.reported.replace(revision) != Some(revision) && state.subscribed() {
                self.events.push(Event::Ack { ty, revision });
            }
            return self.heartbeat(now, ty, &target);
        }
        Some(self.launch(
            now,
            ty,
            Flight {
                nonce: String::new(),
                target,
                advance: true,
                parts,
                keep,
                trial,
            },
        ))
    }

    /// Answers what was asked for by name while an earlier response is unanswered (delta, rule D2).
    fn answer_asked(
        &mut self,
        now: Instant,
        ty: ResourceType,
        target: &Arc<Snapshot>,
    ) -> Option<Response> {
        let state = &self.types[ty as usize];
        let crowded = self.variant == Variant::Sotw || state.flights.len() >= MOST_FLIGHTS;
        let asked: BTreeSet<Arc<str>> = state
            .except
            .iter()
            .filter(|(_, held)| held.asked)
            .map(|(name, _)| name.clone())
            .collect();
        if crowded || asked.is_empty() || self.gated(now, ty) {
            self.types[ty as usize].settled = true;
            return None;
        }
        let parts = self.examine(now, ty, target, &asked).parts;
        if parts.is_empty() {
            self.types[ty as usize].settled = true;
            return None;
        }
        let target = target.clone();
        Some(self.launch(
            now,
            ty,
            Flight {
                nonce: String::new(),
                target,
                advance: false,
                parts,
                keep: Vec::new(),
                trial: None,
            },
        ))
    }

    /// Compares all that may differ.
    fn look(&mut self, now: Instant, ty: ResourceType, target: &Arc<Snapshot>) -> Findings {
        let state = &self.types[ty as usize];
        let mut names: BTreeSet<Arc<str>> = state.except.keys().cloned().collect();
        if !state.base.same(target, ty) {
            let changed = state.base.diff(target, ty);
            names.extend(
                changed
                    .into_iter()
                    .filter(|name| state.names.contains(name)),
            );
        }
        self.examine(now, ty, target, &names)
    }

    fn examine(
        &mut self,
        now: Instant,
        ty: ResourceType,
        target: &Snapshot,
        names: &BTreeSet<Arc<str>>,
    ) -> Findings {
        let kept = if ty == ResourceType::Cluster {
            self.kept_clusters(now, target, names)
        } else {
            BTreeSet::new()
        };
        let state = &self.types[ty as usize];
        let on_trial: HashSet<Arc<str>> = state
            .trials
            .iter()
            .flat_map(|trial| trial.items.iter().chain(trial.others.iter().flatten()))
            .map(|r| r.name().clone())
            .collect();
        let mut found = Findings::default();
        for name in names {
            let held = self.types[ty as usize].held(ty, name);
            if on_trial.contains(name) {
                found.keep.push((name.clone(), held));
                continue;
            }
            let content = target.get(ty, name);
            let stuck = held.is_stuck(content);
            let want = match content {
                _ if stuck => Want::Same,
                Some(resource) => self.want(now, ty, resource, &held),
                None if kept.contains(name) => Want::Same,
                None if ty == ResourceType::Endpoint
                    && held.good != Good::Nothing
                    && self.keeps_endpoints(target, name) =>
                {
                    Want::Same
                }
                None => Want::Absent,
            };
            let part = match want {
                Want::Same => None,
                Want::Content(resource) if !held.doubt && held.good.is(&resource) => None,
                Want::Content(resource) => Some(Part::Content(resource)),
                Want::Absent => self.absent(ty, target, name, &held),
            };
            match part {
                Some(part) => found.parts.push(part),
                None if content.is_some_and(|resource| !held.doubt && held.good.is(resource)) => {}
                // Nothing can be told, so it is settled: state of the world has no word for a route that is gone.
                None => found.keep.push((
                    name.clone(),
                    Held {
                        doubt: stuck && held.doubt,
                        asked: false,
                        ..held
                    },
                )),
            }
        }
        found
    }

    fn want(&mut self, now: Instant, ty: ResourceType, resource: &Resource, held: &Held) -> Want {
        if self.types[ty as usize].refused.get(resource.name()) == Some(resource.version()) {
            return match &held.good {
                Good::Content(good) => Want::Content(good.clone()),
                Good::Reported(_) => Want::Same,
                // It exists: to say otherwise would be wrong where no word has to be said.
                Good::Nothing if self.variant == Variant::Sotw && !ty.is_full_state() => Want::Same,
                Good::Nothing => Want::Absent,
            };
        }
        if self.blocked(now, resource) {
            Want::Same
        } else {
            Want::Content(resource.clone())
        }
    }

    /// How the client is told that there is nothing under a name, if it has to be told.
    fn absent(
        &self,
        ty: ResourceType,
        target: &Snapshot,
        name: &Arc<str>,
        held: &Held,
    ) -> Option<Part> {
        let removed = Some(Part::Removed(name.clone()));
        let known = held.good == Good::Nothing && !held.doubt;
        match ((self.options.absent)(ty), self.variant) {
            _ if known => None,
            (Absent::Empty(make), _) => {
                let empty = make(name);
                let used = match &held.good {
                    Good::Content(content) => *content != empty,
                    Good::Reported(_) => target.refers(ResourceType::Cluster, ty, name),
                    Good::Nothing => false,
                };
                match self.variant {
                    Variant::Delta if used => Some(Part::Content(empty)),
                    Variant::Delta if held.doubt || held.good.content().is_none() => removed,
                    Variant::Sotw if used || held.doubt || held.good.content().is_none() => {
                        Some(Part::Content(empty))
                    }
                    _ => None,
                }
            }
            (_, Variant::Sotw) if ty.is_full_state() => removed,
            (_, Variant::Sotw) => None,
            (Absent::Removed, Variant::Delta) => removed,
            (Absent::Unless, Variant::Delta) => {
                (held.good == Good::Nothing).then_some(Part::Removed(name.clone()))
            }
        }
    }
}
