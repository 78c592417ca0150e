//! Changes that are delivered gradually: how a write asks for it, and what else may be written meanwhile.
//!
//! The record is committed with the change itself; pushers hold the change back from all but the first proxies; [`deliver`]
//! moves it on. See `docs/decisions/060-a-change-goes-to-a-few-proxies-first.md`.
//!
//! *Invariant:* nothing that an active rollout is about is written but by the rollout itself.

pub(crate) mod deliver;

use std::sync::Arc;

use jiff::Timestamp;
use model::{Key, Object, Revision};
use serde_json::{Value, json};
use store::{Author, Expect, Op, Phase, Plan, Prior, Rollout};
use uuid::Uuid;

use crate::access::{Act, Role, What};
use crate::app::App;
use crate::config::duration;
use crate::http::query::{Params, invalid};
use crate::http::status::{Result, Status};
use crate::identity::Caller;
use crate::view::View;

/// How long the first proxies have when nobody says.
const DEADLINE_SECONDS: u64 = 60;

/// How a write is to be delivered: as its parameters say, else as the MeshConfig does; `None` is to everybody at once.
pub(crate) fn plan(params: &Params, view: &View) -> Result<Option<Plan>> {
    let mut recorded = std::collections::BTreeSet::new();
    let config = view.mesh.view(&mut recorded).mesh_config();
    let default = config.and_then(|config| config.gradual_delivery.as_ref());
    let first = match params.get("gradual") {
        None => default.map(|it| it.first.unwrap_or(1)),
        Some("false") => None,
        Some("true") => Some(default.and_then(|it| it.first).unwrap_or(1)),
        Some(text) => match text.parse() {
            Ok(first) if first > 0 => Some(first),
            _ => {
                let rule =
                    "must be true, false, or how many proxies get it first: a whole number above 0";
                return Err(invalid("gradual", text, rule));
            }
        },
    };
    let Some(first) = first else {
        for name in ["rollback", "deadline"] {
            if let Some(value) = params.get(name) {
                let rule = "has a meaning only with gradual=true, or how many proxies get it first";
                return Err(invalid(name, value, rule));
            }
        }
        return Ok(None);
    };
    let rollback = params.tristate("rollback")?;
    let rollback = rollback.unwrap_or_else(|| default.is_some_and(|it| it.rollback));
    let deadline_seconds = match params.get("deadline") {
        Some(text) => duration(text)
            .ok()
            .map(|it| it.as_secs())
            .filter(|seconds| *seconds > 0)
            .ok_or_else(|| {
                invalid(
                    "deadline",
                    text,
                    "must be a time of a second or more, such as 30s or 5m",
                )
            })?,
        None => default
            .and_then(|it| it.deadline)
            .map_or(DEADLINE_SECONDS, |it| it.as_secs().max(1)),
    };
    Ok(Some(Plan {
        first,
        rollback,
        deadline_seconds,
    }))
}

/// The record that is written with a change.
pub(crate) fn begin(plan: &Plan, author: &Author, priors: Vec<Prior>) -> Op {
    let now = Timestamp::now().to_string();
    let rollout = Rollout {
        id: Uuid::now_v7(),
        revision: Revision::default(),
        written: Revision::default(),
        who: author.who.clone(),
        started: now.clone(),
        plan: plan.clone(),
        priors,
        phase: Phase::Choosing,
        proxies: Vec::new(),
        reason: String::new(),
        since: now,
    };
    Op::Rollout {
        rollout,
        expect: Expect::Absent,
    }
}

/// What a write tells of its delivery.
pub(crate) fn told(plan: &Plan, revision: Revision) -> String {
    let (first, at) = (plan.first, revision);
    let proxies = match first {
        1 => "one proxy gets".to_owned(),
        many => format!("{many} proxies get"),
    };
    format!(
        "is delivered gradually: {proxies} it first; `meshctl rollout get {at}` and /v1/rollouts/{at} tell how far it is"
    )
}

/// Refuses operations on what an active rollout is about, unless it is that rollout's own doing.
pub(crate) async fn refuse_held(app: &App, ops: &[Op], own: Option<Uuid>) -> Result<()> {
    let written: Vec<(Key, Option<Revision>)> = ops
        .iter()
        .filter_map(|op| {
            let (key, expect) = match op {
                Op::Put { object, expect } => (object.key(), expect),
                Op::Delete { key, expect } => (key.clone(), expect),
                _ => return None,
            };
            let at = match expect {
                Expect::Absent => None,
                Expect::At(revision) => Some(*revision),
            };
            Some((key, at))
        })
        .collect();
    // What a rollout is about was written with its record: a view that knows the one knows the other.
    let knows = |view: &View| {
        let known = |key: &Key| view.objects.get(key).and_then(|it| it.revision());
        written.iter().all(|(key, at)| known(key) == *at)
    };
    let mut view = app.view.borrow().clone();
    if !knows(&view) {
        view = app.current_view().await?;
    }
    for rollout in view.rollouts.values() {
        if !rollout.is_active() || Some(rollout.id) == own {
            continue;
        }
        let held = |key: &Key| rollout.priors.iter().any(|prior| prior.key == *key);
        if let Some((key, _)) = written.iter().find(|(key, _)| held(key)) {
            return Err(busy(key, rollout));
        }
    }
    Ok(())
}

fn busy(key: &Key, rollout: &Rollout) -> Status {
    let at = rollout.revision;
    let state = match rollout.phase {
        Phase::Stopped => format!("stopped ({})", rollout.reason),
        _ => "is under way".to_owned(),
    };
    Status::conflict(
        key,
        format!(
            "its change of revision {at} is delivered gradually and {state}; `meshctl rollout continue {at}` sends it to \
             everybody, `meshctl rollout abort {at}` takes it back (POST /v1/rollouts/{at}/continue, …/abort)"
        ),
    )
}

/// The active rollout that a resource is part of.
pub(crate) fn holding<'a>(view: &'a View, key: &Key) -> Option<&'a Arc<Rollout>> {
    let mut active = view.rollouts.values().filter(|it| it.is_active());
    active.find(|rollout| rollout.priors.iter().any(|prior| prior.key == *key))
}

/// The rollout of a change.
pub(crate) fn of_revision(view: &View, revision: Revision) -> Option<&Arc<Rollout>> {
    let mut all = view.rollouts.values();
    all.find(|rollout| rollout.revision == revision)
}

/// From which revision on everybody has what holds of a revision; `None` while some of it is held back from somebody. A
/// change that was held back reached others only with the revision that ended its rollout.
pub(crate) fn effective<'a>(
    rollouts: impl IntoIterator<Item = &'a Arc<Rollout>>,
    revision: Revision,
) -> Option<Revision> {
    let mut at = revision;
    for rollout in rollouts {
        if rollout.revision > revision {
            continue;
        }
        if rollout.is_active() {
            return None;
        }
        at = at.max(rollout.written);
    }
    Some(at)
}

/// Whether a rollout came, went or moved on from one view to another.
pub(crate) fn moved(one: &View, other: &View) -> bool {
    let records = |view: &View| -> Vec<(Uuid, Revision)> {
        let all = view.rollouts.values();
        all.map(|it| (it.id, it.written)).collect()
    };
    records(one) != records(other)
}

/// The changes up to a revision of which something may be held back.
pub(crate) fn active_at<'a>(
    rollouts: impl IntoIterator<Item = &'a Arc<Rollout>>,
    revision: Revision,
) -> impl Iterator<Item = Revision> {
    let active = rollouts.into_iter().filter(|it| it.is_active());
    let revisions = active.map(|it| it.revision);
    revisions.filter(move |it| *it <= revision)
}

/// Refuses who may not change everything that a rollout is about.
pub(crate) fn permit(caller: &Caller, verb: &str, rollout: &Rollout) -> Result<()> {
    let mut acts = Vec::new();
    for Prior { key, .. } in &rollout.priors {
        let act = Act {
            verb,
            what: What::Resource(key.kind, &key.name),
            namespace: Some(&key.namespace),
            role: Role::Editor,
        };
        acts.push((act, String::new()));
    }
    caller.require(&acts)
}

/// What people see of a rollout; only what they may read.
pub(crate) fn to_json(rollout: &Rollout, caller: &Caller) -> Option<Value> {
    let seen = rollout
        .priors
        .iter()
        .filter(|it| caller.sees(&it.key.namespace));
    let resources: Vec<Value> = seen
        .map(|prior| {
            let before = prior.before.as_ref();
            json!({
                "apiVersion": prior.key.kind.api_version(), "kind": prior.key.kind.name(), "namespace": prior.key.namespace,
                "name": prior.key.name, "generationBefore": before.and_then(|it: &Object| it.metadata.generation),
            })
        })
        .collect();
    if resources.is_empty() {
        return None;
    }
    Some(json!({
        "revision": rollout.revision.to_string(), "phase": rollout.phase, "active": rollout.is_active(), "who": rollout.who,
        "started": rollout.started, "since": rollout.since, "first": rollout.plan.first, "rollback": rollout.plan.rollback,
        "deadlineSeconds": rollout.plan.deadline_seconds, "proxies": rollout.proxies, "reason": rollout.reason,
        "resources": resources,
        "endedAt": (!rollout.is_active()).then(|| rollout.written.to_string()),
    }))
}

#[cfg(test)]
mod tests;
