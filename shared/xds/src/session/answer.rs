//! What an ACK and a NACK change, and how the culprit of a NACK is found: what was refused together is tried apart, half
//! by half, so that the good ones get through and only the bad one stays out.
//!
//! *Invariant:* a NACK changes nothing of any other type, nor of any resource that was not in the response.

use super::state::{Good, Held, Part, Stuck, Trial, TypeState};
use super::{Event, Session, Variant};
use crate::{Resource, ResourceType};

impl Session {
    /// The client answered the response at `index`.
    pub(super) fn answered(&mut self, ty: ResourceType, index: usize, error: Option<&str>) {
        let state = &mut self.types[ty as usize];
        let flight = state.flights.remove(index);
        let revision = flight.target.revision();
        let before: Vec<Held> = match error {
            Some(_) => flight
                .parts
                .iter()
                .map(|part| state.held(ty, part.name()))
                .collect(),
            None => Vec::new(),
        };
        if flight.advance {
            state.advance(ty, &flight.target, flight.keep);
        }
        let Some(error) = error else {
            state.resumed &= !flight.advance;
            for part in &flight.parts {
                state.acked(ty, part);
                let wanted = flight.target.get(ty, part.name()).map(Resource::version);
                if state
                    .refused
                    .get(part.name())
                    .is_some_and(|refused| wanted != Some(refused))
                {
                    self.events.push(Event::Corrected {
                        ty,
                        name: part.name().clone(),
                    });
                }
            }
            if let Some(Trial {
                others: Some(others),
                error,
                ..
            }) = flight.trial
            {
                self.isolate(ty, others, &error);
            }
            if self.types[ty as usize].reported.replace(revision) != Some(revision) {
                self.events.push(Event::Ack { ty, revision });
            }
            return;
        };
        let suspects: Vec<Resource> = flight.parts.iter().filter_map(content).collect();
        self.events.push(Event::Nack {
            ty,
            revision,
            error: error.to_owned(),
            suspects: suspects
                .iter()
                .map(|r| (r.name().clone(), r.version().clone()))
                .collect(),
        });
        let whole = self.variant == Variant::Sotw && ty.is_full_state();
        if whole
            && before
                .iter()
                .any(|held| matches!(held.good, Good::Reported(_)))
        {
            return self.blame(ty, suspects, error);
        }
        let wanted = |part: &Part| flight.target.get(ty, part.name());
        // Only what it was to go back to, and nothing new: to refuse that convicts nobody. To say it again, or to try what
        // was refused before once more, would go on for ever.
        let stuck = flight
            .parts
            .iter()
            .all(|part| content(part).is_none_or(|content| wanted(part) != Some(&content)));
        let state = &mut self.types[ty as usize];
        for (part, before) in flight.parts.iter().zip(before) {
            let held = Held {
                good: before.good,
                doubt: true,
                maybe: if stuck { before.maybe } else { content(part) },
                asked: false,
                stuck: stuck.then(|| Stuck::at(wanted(part))),
            };
            state.answered(ty, part, held);
        }
        if stuck {
            return;
        }
        if let Some(Trial {
            others: Some(items),
            error,
            ..
        }) = flight.trial
        {
            state.trials.push(Trial {
                items,
                others: None,
                error,
            });
        }
        self.isolate(ty, suspects, error);
    }

    /// One of these is bad: the one that is left alone is it; more are split.
    fn isolate(&mut self, ty: ResourceType, mut suspects: Vec<Resource>, error: &str) {
        if suspects.len() <= 1 {
            if let Some(culprit) = suspects.pop() {
                self.refuse(ty, &culprit, error);
            }
            return;
        }
        // Envoy names those at fault: a good hint at where to cut, though no more than that.
        let (mut others, mut items): (Vec<_>, Vec<_>) = suspects
            .into_iter()
            .partition(|r| error.contains(&**r.name()));
        if items.is_empty() || others.is_empty() {
            items.append(&mut others);
            others = items.split_off(items.len() / 2);
        }
        self.types[ty as usize].trials.push(Trial {
            items,
            others: Some(others),
            error: error.into(),
        });
    }

    fn refuse(&mut self, ty: ResourceType, culprit: &Resource, error: &str) {
        let (name, version) = (culprit.name().clone(), culprit.version().clone());
        self.types[ty as usize]
            .refused
            .insert(name.clone(), version.clone());
        self.events.push(Event::Refused {
            ty,
            name,
            version,
            error: error.to_owned(),
        });
    }

    /// A full set was refused of which the client had resources from an earlier stream. Nothing can be left out of it
    /// to try the rest apart: the client would delete that. So those that the error names count as refused (all, if it
    /// names none), and the rest as applied: clients apply what is good in a response that they refuse.
    fn blame(&mut self, ty: ResourceType, suspects: Vec<Resource>, error: &str) {
        let named: Vec<bool> = suspects
            .iter()
            .map(|r| error.contains(&**r.name()))
            .collect();
        let any = named.contains(&true);
        for (resource, named) in suspects.into_iter().zip(named) {
            let state = &mut self.types[ty as usize];
            if named || !any {
                let good = Good::Reported("".into());
                state.set(
                    ty,
                    &resource.name().clone(),
                    Held {
                        maybe: Some(resource.clone()),
                        ..Held::good(good)
                    },
                );
                self.refuse(ty, &resource, error);
            } else {
                state.acked(ty, &Part::Content(resource));
            }
        }
    }

    /// What changed since, or is no longer wanted, is no suspect any more. A group that lost one proves nothing about
    /// the rest: it may have been the bad one.
    pub(super) fn prune_trials(&mut self, ty: ResourceType) {
        let Some(target) = &self.target else { return };
        let state = &mut self.types[ty as usize];
        let names = &state.names;
        let wanted = |r: &Resource| target.get(ty, r.name()) == Some(r) && names.contains(r.name());
        for Trial {
            mut items,
            others,
            error,
        } in std::mem::take(&mut state.trials)
        {
            let mut others = others.unwrap_or_default();
            let before = items.len() + others.len();
            items.retain(wanted);
            others.retain(wanted);
            let proves = items.len() + others.len() == before && !others.is_empty();
            if !proves && !others.is_empty() {
                state.trials.push(Trial {
                    items: std::mem::take(&mut others),
                    others: None,
                    error: error.clone(),
                });
            }
            if !items.is_empty() {
                state.trials.push(Trial {
                    items,
                    others: proves.then_some(others),
                    error,
                });
            }
        }
    }
}

fn content(part: &Part) -> Option<Resource> {
    match part {
        Part::Content(resource) => Some(resource.clone()),
        Part::Removed(_) => None,
    }
}

impl TypeState {
    fn acked(&mut self, ty: ResourceType, part: &Part) {
        let good = match part {
            Part::Content(resource) => Good::Content(resource.clone()),
            Part::Removed(_) => Good::Nothing,
        };
        self.answered(ty, part, Held::good(good));
    }

    fn answered(&mut self, ty: ResourceType, part: &Part, held: Held) {
        if !self.names.contains(part.name()) {
            return;
        }
        match self.except.get_mut(part.name()) {
            // Asked for once more since: it is sent once more.
            Some(now) if now.asked => now.good = held.good,
            _ => self.set(ty, part.name(), held),
        }
    }
}
