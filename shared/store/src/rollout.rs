//! Changes that are delivered gradually: what each replaced, who gets it first, and how far it is.
//!
//! The record of a rollout is written with the change itself, so a watcher never sees one without the other.
//!
//! *Invariant:* what a rollout is about (its edits and its plan) never changes; only how far it is does.

use model::{Key, Object, Revision};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How a change is to be delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// How many proxies get it first.
    pub first: u32,
    /// Whether it is taken back when it stops.
    pub rollback: bool,
    /// How many seconds the first proxies have to run it.
    pub deadline_seconds: u64,
}

/// How far a rollout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Nobody has it: who gets it first is being found out.
    Choosing,
    /// Some proxies have it, all others what was before.
    First,
    /// It went no further; some proxies have it, or nobody.
    Stopped,
    /// Everybody gets it.
    Done,
    /// What was before holds again, for everybody.
    RolledBack,
}

impl Phase {
    /// Whether proxies are told different things.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Choosing | Self::First | Self::Stopped)
    }
}

/// A resource that the change replaced.
#[derive(Clone, Debug, PartialEq)]
pub struct Prior {
    /// Which.
    pub key: Key,
    /// What it was; `None` if it is new.
    pub before: Option<Object>,
}

/// A change that is delivered gradually, or was.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// Its name in the store, a UUIDv7. People name it by its revision.
    pub id: Uuid,
    /// The revision of the change; nothing before it is stored.
    pub revision: Revision,
    /// The revision at which its phase was last written.
    pub written: Revision,
    /// Who made the change.
    pub who: String,
    /// When; RFC 3339.
    pub started: String,
    /// How it is to be delivered.
    pub plan: Plan,
    /// What it replaced.
    pub priors: Vec<Prior>,
    /// How far it is.
    pub phase: Phase,
    /// The node ids that get it first, once they are chosen.
    pub proxies: Vec<String>,
    /// Why it stopped, was rolled back, or went on.
    pub reason: String,
    /// When it came into its phase; RFC 3339.
    pub since: String,
}

impl Rollout {
    /// Whether proxies are told different things.
    pub fn is_active(&self) -> bool {
        self.phase.is_active()
    }
}
