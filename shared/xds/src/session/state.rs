//! What one stream knows of one type: what was asked for, what the client holds, what it has not answered yet.
//!
//! What the client holds is a reference to a snapshot plus the names where it holds something else, so that a stream
//! in step with its snapshot costs the same for ten resources and for ten thousand.
//!
//! *Invariant:* nothing is held by the client before it ACKed it (rule D8).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::names::Names;
use crate::{Resource, ResourceType, Snapshot};

/// The last thing under a name that the client is known to run.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Good {
    /// Nothing.
    Nothing,
    /// This, ACKed on this stream.
    Content(Resource),
    /// This version, from an earlier stream. An empty version: something, perhaps.
    Reported(Arc<str>),
}

impl Good {
    pub(super) fn is(&self, resource: &Resource) -> bool {
        match self {
            Self::Nothing => false,
            Self::Content(content) => content == resource,
            Self::Reported(version) => version == resource.version(),
        }
    }
    pub(super) fn content(&self) -> Option<&Resource> {
        match self {
            Self::Content(content) => Some(content),
            _ => None,
        }
    }
}

/// What the client holds under a name.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) good: Good,
    /// Whether it may hold something else: it asked anew, or it NACKed a response with that name.
    pub(super) doubt: bool,
    /// What it may hold, after a NACK.
    pub(super) maybe: Option<Resource>,
    /// Whether it asked by name and was not answered yet.
    pub(super) asked: bool,
    /// Set once the client refused even what it was to go back to: it is left alone until something else is wanted.
    pub(super) stuck: Option<Stuck>,
}

/// What was wanted under a name when the client got stuck: a version, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stuck(Option<Arc<str>>);

impl Stuck {
    pub(super) fn at(wanted: Option<&Resource>) -> Self {
        Self(wanted.map(|resource| resource.version().clone()))
    }
}

impl Held {
    pub(super) fn good(good: Good) -> Self {
        Self {
            good,
            doubt: false,
            maybe: None,
            asked: false,
            stuck: None,
        }
    }
    pub(super) fn asked(good: Good) -> Self {
        Self {
            good,
            doubt: true,
            maybe: None,
            asked: true,
            stuck: None,
        }
    }
    /// Whether the client has to be left alone while this is wanted.
    pub(super) fn is_stuck(&self, wanted: Option<&Resource>) -> bool {
        !self.asked && self.stuck.as_ref() == Some(&Stuck::at(wanted))
    }
    /// Whether anything that the client may run refers to this.
    pub(super) fn refers(&self, ty: ResourceType, name: &str) -> bool {
        let any = |resource: &Resource| resource.refs_to(ty).any(|to| &**to == name);
        self.good.content().is_some_and(any) || self.maybe.as_ref().is_some_and(any)
    }
}

/// One name in a response.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// The content it was given.
    Content(Resource),
    /// It was removed, or left out of a full set.
    Removed(Arc<str>),
}

impl Part {
    pub(super) fn name(&self) -> &Arc<str> {
        match self {
            Self::Content(resource) => resource.name(),
            Self::Removed(name) => name,
        }
    }
}

/// Resources of which at least one was refused, and that are tried apart.
#[derive(Debug)]
pub(super) struct Trial {
    pub(super) items: Vec<Resource>,
    /// Those among which the culprit is if `items` turn out to be good.
    pub(super) others: Option<Vec<Resource>>,
    /// What the client said when it refused them together.
    pub(super) error: Arc<str>,
}

/// A response that was not answered yet.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) nonce: String,
    pub(super) target: Arc<Snapshot>,
    /// Whether the client is in step with `target` once it ACKs; not so for an answer to a mere subscription.
    pub(super) advance: bool,
    pub(super) parts: Vec<Part>,
    /// Names where it then holds something else than `target` has.
    pub(super) keep: Vec<(Arc<str>, Held)>,
    pub(super) trial: Option<Trial>,
}

/// One type on one stream.
pub(super) struct TypeState {
    /// Whether a request of this type was seen.
    pub(super) opened: bool,
    pub(super) names: Names,
    /// Whether names were ever sent: an empty list is a wildcard only before (rule S9).
    pub(super) named: bool,
    /// State of the world: whether the client said it holds a version from before.
    pub(super) resumed: bool,
    /// What the client holds …
    pub(super) base: Arc<Snapshot>,
    /// … except for these names.
    pub(super) except: BTreeMap<Arc<str>, Held>,
    pub(super) flights: Vec<Flight>,
    /// The nonce of the last response.
    pub(super) nonce: String,
    /// Whether a response is owed even if nothing is in it (rule S3).
    pub(super) owed: bool,
    /// Per name, the version that was last refused.
    pub(super) refused: BTreeMap<Arc<str>, Arc<str>>,
    /// Groups that are still to be tried; the last one is next.
    pub(super) trials: Vec<Trial>,
    /// Whether the next response is a trial even if there is something new.
    pub(super) trial_next: bool,
    /// Since when this type waits for clusters.
    pub(super) waiting: Option<Instant>,
    /// When each resource that has a time to live needs its next heartbeat.
    pub(super) beats: BTreeMap<Arc<str>, Instant>,
    /// Endpoints: those whose cluster was sent before anyone subscribed to them.
    pub(super) resend: BTreeSet<Arc<str>>,
    /// Since when routes wait for a cluster that was refused.
    pub(super) blocked: Option<Instant>,
    /// Whether it was looked at, and nothing can be sent until something happens …
    pub(super) settled: bool,
    /// … or this time comes.
    pub(super) wake: Option<Instant>,
    /// The revision last reported as ACKed.
    pub(super) reported: Option<i64>,
}

impl TypeState {
    pub(super) fn new(base: Arc<Snapshot>) -> Self {
        Self {
            opened: false,
            names: Names::default(),
            named: false,
            resumed: false,
            base,
            except: BTreeMap::new(),
            flights: Vec::new(),
            nonce: String::new(),
            owed: false,
            refused: BTreeMap::new(),
            trials: Vec::new(),
            trial_next: false,
            waiting: None,
            beats: BTreeMap::new(),
            resend: BTreeSet::new(),
            blocked: None,
            settled: false,
            wake: None,
            reported: None,
        }
    }

    /// Sees to it that this type is looked at again at this time.
    pub(super) fn wake_at(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// Whether requests of this type were seen, and anything is asked for.
    pub(super) fn subscribed(&self) -> bool {
        self.opened && !self.names.is_empty()
    }

    /// What the client holds under a name.
    pub(super) fn held(&self, ty: ResourceType, name: &str) -> Held {
        if let Some(held) = self.except.get(name) {
            return held.clone();
        }
        Held::good(match self.base.get(ty, name) {
            Some(resource) => Good::Content(resource.clone()),
            None if self.resumed => Good::Reported("".into()),
            None => Good::Nothing,
        })
    }

    /// Records what the client holds under a name.
    pub(super) fn set(&mut self, ty: ResourceType, name: &Arc<str>, held: Held) {
        let base = self.base.get(ty, name);
        let same = match (&held.good, base) {
            (Good::Nothing, None) => !self.resumed,
            (good, Some(resource)) => good.is(resource),
            _ => false,
        };
        if !held.doubt && same {
            self.except.remove(name);
        } else {
            self.except.insert(name.clone(), held);
        }
    }

    /// Moves on to a snapshot; `keep` says where the client holds something else.
    pub(super) fn advance(
        &mut self,
        ty: ResourceType,
        target: &Arc<Snapshot>,
        keep: Vec<(Arc<str>, Held)>,
    ) {
        self.base = target.clone();
        for (name, held) in std::mem::take(&mut self.except) {
            self.set(ty, &name, held);
        }
        for (name, held) in keep {
            let asked = self.except.get(&name).is_some_and(|now| now.asked);
            if self.names.contains(&name) && !asked {
                self.set(ty, &name, held);
            }
        }
    }

    /// Whether anything of this type that was ACKed or is under way refers to a resource, apart from exceptions.
    pub(super) fn refers(&self, ty: ResourceType, to: ResourceType, name: &str) -> bool {
        self.base.refers(ty, to, name)
            || self
                .flights
                .iter()
                .any(|flight| flight.target.refers(ty, to, name))
    }

    /// Whether anything that is held against the snapshot, as after a NACK, refers to a resource; except for names
    /// that are over.
    pub(super) fn doubtful(
        &self,
        to: ResourceType,
        name: &str,
        over: impl Fn(&str) -> bool,
    ) -> bool {
        self.except
            .iter()
            .any(|(user, held)| held.refers(to, name) && !over(user))
    }
}
