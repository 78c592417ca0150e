//! Several writes as one transaction: planned against the present state, committed in one revision, tried again when
//! somebody else was quicker.
//!
//! *Invariant:* all of a batch is written or none; a batch that would change nothing writes nothing.

use std::collections::BTreeSet;

use futures::future::try_join_all;
use model::{Key, Object, Revision};
use serde_json::{Value, json};
use store::{Author, Expect, Op, Plan, Prior};
use uuid::Uuid;

use crate::access::{Act, Role, What};
use crate::app::App;
use crate::http::status::{Result, Status};
use crate::identity::Caller;
use crate::k8s::write::{self, Outcome, Precondition, Present};
use crate::ownership;
use crate::rollouts;
use crate::secrets::{self, Origin};

/// What a resource shall become.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly every step is a Put")]
pub(crate) enum Step {
    Put {
        object: Object,
        precondition: Precondition,
        origin: Origin,
    },
    Delete {
        key: Key,
    },
}

impl Step {
    pub(super) fn key(&self) -> Key {
        match self {
            Self::Put { object, .. } => object.key(),
            Self::Delete { key } => key.clone(),
        }
    }
}

/// What a step comes to.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(super) key: Key,
    pub(super) before: Option<Object>,
    pub(super) after: Option<Object>,
    expect: Expect,
    /// `created`, `configured`, `deleted` or `unchanged`.
    pub(super) result: &'static str,
}

/// A batch that was carried out, or would be.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    pub(crate) revision: Revision,
    pub(super) planned: Vec<Planned>,
}

impl Done {
    /// What `/v1/apply` and `/v1/rollback` answer.
    pub(crate) fn to_json(&self, dry_run: bool) -> Value {
        let results: Vec<Value> = self
            .planned
            .iter()
            .map(|p| {
                let metadata = p.after.as_ref().map(|o| &o.metadata);
                json!({
                    "apiVersion": p.key.kind.api_version(), "kind": p.key.kind.name(),
                    "namespace": p.key.namespace, "name": p.key.name, "result": p.result,
                    "generation": metadata.and_then(|m| m.generation),
                    "resourceVersion": metadata.and_then(|m| m.resource_version.as_ref()),
                })
            })
            .collect();
        json!({"revision": self.revision.to_string(), "dryRun": dry_run, "results": results})
    }
}

/// Refuses all steps if the caller lacks the role in the namespace of one.
pub(super) fn permit(caller: &Caller, verb: &str, role: Role, steps: &[Step]) -> Result<()> {
    let keys: Vec<Key> = steps.iter().map(Step::key).collect();
    let mut acts = Vec::with_capacity(keys.len());
    for (index, key) in keys.iter().enumerate() {
        let act = Act {
            verb,
            what: What::Resource(key.kind, &key.name),
            namespace: Some(&key.namespace),
            role,
        };
        acts.push((act, format!("items[{index}]")));
    }
    caller.require(&acts)
}

/// How often a batch is planned anew when others write meanwhile.
const ATTEMPTS: usize = 8;

/// What else is written with a batch.
enum Record<'a> {
    Nothing,
    /// That it is delivered gradually.
    Begins(&'a Plan),
    /// That a rollout ends with it.
    Ends(&'a Op, Uuid),
}

/// Carries the steps out; gradually, if there is a plan.
pub(super) async fn run(
    app: &App,
    steps: &[Step],
    dry_run: bool,
    author: &Author,
    plan: Option<&Plan>,
) -> Result<Done> {
    let record = plan.map_or(Record::Nothing, Record::Begins);
    carry_out(app, steps, dry_run, author, &record).await
}

/// Carries out the steps that end a rollout, with the record of that.
pub(crate) async fn run_with(
    app: &App,
    steps: &[Step],
    author: &Author,
    end: &Op,
    rollout: Uuid,
) -> Result<Done> {
    carry_out(app, steps, false, author, &Record::Ends(end, rollout)).await
}

async fn carry_out(
    app: &App,
    steps: &[Step],
    dry_run: bool,
    author: &Author,
    record: &Record<'_>,
) -> Result<Done> {
    let mut seen = BTreeSet::new();
    if let Some(twice) = steps
        .iter()
        .map(Step::key)
        .find(|k| !seen.insert(k.clone()))
    {
        return Err(Status::bad_request(format!(
            "{twice} is in the request twice; keep one of them"
        )));
    }
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let mut planned = try_join_all(steps.iter().map(|step| plan(app, step))).await?;
        let mut ops: Vec<Op> = planned.iter().filter_map(Planned::op).collect();
        let changes: Vec<_> = (planned.iter().enumerate())
            .map(|(index, planned)| planned.change(index))
            .collect();
        ops.extend(ownership::check(app, &changes).await?);
        let own = match record {
            Record::Ends(_, id) => Some(*id),
            _ => None,
        };
        rollouts::refuse_held(app, &ops, own).await?;
        match record {
            Record::Begins(plan) if !ops.is_empty() => {
                let priors = planned.iter().filter_map(Planned::prior).collect();
                ops.push(rollouts::begin(plan, author, priors));
            }
            Record::Ends(op, _) => ops.push((*op).clone()),
            _ => {}
        }
        if dry_run || ops.is_empty() {
            return Ok(Done {
                revision: app.store.revision().await?,
                planned,
            });
        }
        match app.commit(ops, author.clone()).await {
            Ok(revision) => {
                for object in planned
                    .iter_mut()
                    .filter(|p| p.result != "unchanged")
                    .filter_map(|p| p.after.as_mut())
                {
                    object.metadata.resource_version = Some(revision.to_string());
                }
                return Ok(Done { revision, planned });
            }
            Err(error @ store::Error::Conflict { .. }) => last = Some(error),
            Err(error @ store::Error::Overtaken { .. }) => {
                app.current_view().await?;
                last = Some(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(last.expect("every attempt but a conflict returns").into())
}

async fn plan(app: &App, step: &Step) -> Result<Planned> {
    let key = step.key();
    let Present { prior, expect } = write::present(app, &key).await?;
    Ok(match step {
        Step::Delete { .. } => {
            let result = if expect == Expect::Absent {
                "unchanged"
            } else {
                "deleted"
            };
            Planned {
                key,
                before: prior,
                after: None,
                expect,
                result,
            }
        }
        Step::Put {
            object,
            precondition,
            origin,
        } => {
            write::check(&key, *precondition, prior.as_ref())?;
            let object = secrets::settle(app, prior.as_ref(), object.clone(), *origin).await?;
            let outcome = write::next(prior.as_ref(), object)?;
            let result = match &outcome {
                Outcome::Created(_) => "created",
                Outcome::Updated(_) => "configured",
                Outcome::Unchanged(_) => "unchanged",
            };
            Planned {
                key,
                before: prior,
                after: Some(outcome.into_object()),
                expect,
                result,
            }
        }
    })
}

impl Planned {
    fn change(&self, index: usize) -> ownership::Change<'_> {
        ownership::Change {
            key: &self.key,
            before: self.before.as_ref(),
            after: self.after.as_ref(),
            place: format!("items[{index}]."),
        }
    }

    fn prior(&self) -> Option<Prior> {
        (self.result != "unchanged").then(|| Prior {
            key: self.key.clone(),
            before: self.before.clone(),
        })
    }

    fn op(&self) -> Option<Op> {
        match (self.result, &self.after) {
            ("unchanged", _) => None,
            (_, Some(object)) => Some(Op::Put {
                object: object.clone(),
                expect: self.expect,
            }),
            (_, None) => Some(Op::Delete {
                key: self.key.clone(),
                expect: self.expect,
            }),
        }
    }
}
