//! Create, replace and delete: the metadata rules, the precondition, the one transaction.
//!
//! *Invariant:* a write that would change nothing writes nothing; no write goes to the store without saying what it
//! expects to find there.

use jiff::Timestamp;
use model::{Key, Metadata, Object, Revision};
use serde_json::Value;
use store::{Author, Expect, Op, Plan, Prior};

use super::admit::Admitted;
use crate::app::App;
use crate::http::status::{Result, Status};
use crate::ownership;
use crate::rollouts;
use crate::secrets::{self, Origin};

/// What a write came to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    Created(Object),
    Updated(Object),
    Unchanged(Object),
}

impl Outcome {
    /// The object as it is now.
    pub(crate) fn object(&self) -> &Object {
        match self {
            Self::Created(o) | Self::Updated(o) | Self::Unchanged(o) => o,
        }
    }

    /// The object as it is now.
    pub(crate) fn into_object(self) -> Object {
        match self {
            Self::Created(o) | Self::Updated(o) | Self::Unchanged(o) => o,
        }
    }
}

/// What the caller demands of the present state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precondition {
    /// Nothing: last writer wins.
    Any,
    /// It must not exist.
    Absent,
    /// It must exist, at whatever revision.
    Present,
    /// It must be at this revision.
    At(Revision),
}

/// How often a write without a precondition is tried again when others write the same resource meanwhile.
const ATTEMPTS: usize = 16;

/// Writes what `make` makes of the present state, in one transaction. Returns what it came to, and what `make` warned about.
pub(crate) async fn write(
    app: &App,
    key: &Key,
    precondition: Precondition,
    dry_run: bool,
    author: &Author,
    plan: Option<&Plan>,
    make: impl Fn(Option<&Object>) -> Result<Admitted>,
) -> Result<(Outcome, Vec<String>)> {
    for _ in 0..ATTEMPTS {
        let Present { prior, expect } = present(app, key).await?;
        check(key, precondition, prior.as_ref())?;
        let Admitted {
            object,
            mut warnings,
        } = make(prior.as_ref())?;
        let object = secrets::settle(app, prior.as_ref(), object, Origin::Asked).await?;
        let outcome = next(prior.as_ref(), object)?;
        let change = ownership::Change {
            key,
            before: prior.as_ref(),
            after: Some(outcome.object()),
            place: String::new(),
        };
        let guard = ownership::check(app, &[change]).await?;
        if matches!(outcome, Outcome::Unchanged(_)) {
            return Ok((outcome, warnings));
        }
        let op = Op::Put {
            object: outcome.object().clone(),
            expect,
        };
        let mut ops: Vec<Op> = guard.into_iter().chain([op]).collect();
        rollouts::refuse_held(app, &ops, None).await?;
        if dry_run {
            return Ok((outcome, warnings));
        }
        ops.extend(begin(plan, author, key, prior));
        match app.commit(ops, author.clone()).await {
            Ok(revision) => {
                let told = plan.map(|plan| format!("{key} {}", rollouts::told(plan, revision)));
                warnings.extend(told);
                return Ok((at(outcome, revision), warnings));
            }
            Err(store::Error::Conflict { .. }) => {}
            Err(store::Error::Overtaken { .. }) => drop(app.current_view().await?),
            Err(error) => return Err(error.into()),
        }
    }
    Err(Status::conflict(
        key,
        format!("others changed it {ATTEMPTS} times meanwhile"),
    ))
}

/// The record of a change that is delivered gradually.
fn begin(plan: Option<&Plan>, author: &Author, key: &Key, before: Option<Object>) -> Option<Op> {
    let prior = |plan| {
        let key = key.clone();
        rollouts::begin(plan, author, vec![Prior { key, before }])
    };
    plan.map(prior)
}

/// Deletes it. Returns what was deleted, and what is to be told of its delivery.
pub(crate) async fn delete(
    app: &App,
    key: &Key,
    precondition: Precondition,
    uid: Option<&str>,
    dry_run: bool,
    author: &Author,
    plan: Option<&Plan>,
) -> Result<(Object, Option<String>)> {
    for _ in 0..ATTEMPTS {
        let Present { prior, expect } = present(app, key).await?;
        if expect == Expect::Absent {
            return Err(Status::not_found(key));
        }
        if let Some(prior) = &prior {
            check(key, precondition, Some(prior))?;
            if let Some(uid) = uid {
                check_uid(key, uid, prior)?;
            }
        }
        let mut ops = vec![Op::Delete {
            key: key.clone(),
            expect,
        }];
        rollouts::refuse_held(app, &ops, None).await?;
        ops.extend(begin(plan, author, key, prior.clone()));
        let gone = prior.unwrap_or_else(|| unknown(key));
        if dry_run {
            return Ok((gone, None));
        }
        match app.commit(ops, author.clone()).await {
            Ok(revision) => {
                let told = plan.map(|plan| format!("{key} {}", rollouts::told(plan, revision)));
                return Ok((gone, told));
            }
            Err(store::Error::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Status::conflict(
        key,
        format!("others changed it {ATTEMPTS} times meanwhile"),
    ))
}

/// What is known of a resource whose value cannot be decoded.
pub(crate) fn unknown(key: &Key) -> Object {
    let metadata = Metadata {
        name: key.name.to_string(),
        namespace: key.namespace.to_string(),
        ..Metadata::default()
    };
    Object {
        kind: key.kind,
        metadata,
        spec: Value::Null,
    }
}

/// What is there now, and what a write must therefore expect.
pub(crate) struct Present {
    pub(crate) prior: Option<Object>,
    pub(crate) expect: Expect,
}

/// A value that cannot be decoded counts as nothing, and may be replaced or deleted.
pub(crate) async fn present(app: &App, key: &Key) -> Result<Present> {
    match app.store.get(key).await {
        Ok(None) => Ok(Present {
            prior: None,
            expect: Expect::Absent,
        }),
        Ok(Some(object)) => {
            let revision = object.revision().expect("the store fills in the revision");
            Ok(Present {
                prior: Some(object),
                expect: Expect::At(revision),
            })
        }
        Err(store::Error::Undecodable(damage)) => Ok(Present {
            prior: None,
            expect: Expect::At(damage.revision),
        }),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn check(key: &Key, precondition: Precondition, prior: Option<&Object>) -> Result<()> {
    let actual = prior.and_then(Object::revision);
    match (precondition, actual) {
        (Precondition::Absent, Some(_)) => Err(Status::already_exists(key)),
        (Precondition::Present | Precondition::At(_), None) => Err(Status::not_found(key)),
        (Precondition::At(expected), Some(actual)) if expected != actual => Err(Status::conflict(
            key,
            format!(
                "the object has been modified: it is at resourceVersion {actual}, not {expected}"
            ),
        )),
        _ => Ok(()),
    }
}

fn check_uid(key: &Key, uid: &str, prior: &Object) -> Result<()> {
    if uid == prior.metadata.uid {
        return Ok(());
    }
    Err(Status::conflict(
        key,
        format!(
            "its uid is {}, not {uid}: it was deleted and created anew",
            prior.metadata.uid
        ),
    ))
}

/// What replaces `prior`, with the metadata that only this API decides.
pub(crate) fn next(prior: Option<&Object>, mut incoming: Object) -> Result<Outcome> {
    let Some(prior) = prior else {
        incoming.metadata.uid = uuid::Uuid::new_v4().to_string();
        incoming.metadata.generation = Some(1);
        incoming.metadata.creation_timestamp = Some(now());
        incoming.metadata.resource_version = None;
        return Ok(Outcome::Created(incoming));
    };
    if !incoming.metadata.uid.is_empty() {
        check_uid(&prior.key(), &incoming.metadata.uid, prior)?;
    }
    let generation = prior.metadata.generation.unwrap_or(1);
    incoming.metadata.uid.clone_from(&prior.metadata.uid);
    incoming
        .metadata
        .creation_timestamp
        .clone_from(&prior.metadata.creation_timestamp);
    incoming
        .metadata
        .resource_version
        .clone_from(&prior.metadata.resource_version);
    incoming.metadata.generation = Some(generation + i64::from(incoming.spec != prior.spec));
    Ok(if incoming == *prior {
        Outcome::Unchanged(incoming)
    } else {
        Outcome::Updated(incoming)
    })
}

fn at(outcome: Outcome, revision: Revision) -> Outcome {
    let stamp = |mut object: Object| {
        object.metadata.resource_version = Some(revision.to_string());
        object
    };
    match outcome {
        Outcome::Created(object) => Outcome::Created(stamp(object)),
        Outcome::Updated(object) => Outcome::Updated(stamp(object)),
        unchanged @ Outcome::Unchanged(_) => unchanged,
    }
}

/// Now, as Kubernetes writes times: RFC 3339 in whole seconds.
pub(crate) fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::{Kind, Metadata};
    use serde_json::json;

    use super::*;

    fn object(spec: Value) -> Object {
        let metadata = Metadata {
            name: "a".into(),
            namespace: "b".into(),
            ..Metadata::default()
        };
        Object {
            kind: Kind::VirtualService,
            metadata,
            spec,
        }
    }

    #[test]
    fn the_generation_rises_with_the_spec_only() {
        let Outcome::Created(mut first) = next(None, object(json!({"x": 1}))).unwrap() else {
            panic!()
        };
        assert_eq!(first.metadata.generation, Some(1));
        first.metadata.resource_version = Some("7".into());

        assert_eq!(
            next(Some(&first), object(json!({"x": 1}))).unwrap(),
            Outcome::Unchanged(first.clone())
        );

        let mut labelled = object(json!({"x": 1}));
        labelled.metadata.labels.insert("a".into(), "b".into());
        let Outcome::Updated(labelled) = next(Some(&first), labelled).unwrap() else {
            panic!()
        };
        assert_eq!(
            (labelled.metadata.generation, &labelled.metadata.uid),
            (Some(1), &first.metadata.uid)
        );

        let Outcome::Updated(second) = next(Some(&first), object(json!({"x": 2}))).unwrap() else {
            panic!()
        };
        assert_eq!(second.metadata.generation, Some(2));
        assert_eq!(
            second.metadata.creation_timestamp,
            first.metadata.creation_timestamp
        );
    }

    #[test]
    fn another_uid_is_another_object() {
        let Outcome::Created(first) = next(None, object(json!({}))).unwrap() else {
            panic!()
        };
        let mut other = object(json!({}));
        other.metadata.uid = "other".into();
        assert_eq!(next(Some(&first), other).unwrap_err().code(), 409);
    }
}
