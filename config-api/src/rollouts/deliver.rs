//! Moves rollouts on: who gets a change first, and, when these run it, everybody; or nobody, when one of them refuses it.
//!
//! One replica of config-api does, as long as there is something to move; what it decides is [`choose`] and [`judge`], and
//! every step is one transaction that expects the record as it was.
//!
//! *Invariant:* a rollout goes on only by proof: every one of its first proxies was seen to run it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;
use std::sync::Arc;
use std::time::Duration;

use futures::future::select_all;
use jiff::Timestamp;
use model::Revision;
use pusher_api::v1::{AffectedProxy, GetAffectedRequest, Progress};
use store::{Author, Expect, Op, Phase, Rollout};
use telemetry::Check;
use tracing::{info, warn};
use uuid::Uuid;

use crate::app::App;
use crate::http::status::Result;
use crate::k8s::write::Precondition;
use crate::pushers::{RETRY, Turns};
use crate::secrets::Origin;
use crate::v1::batch::{self, Done, Step};
use crate::v1::rollouts::{Standing, question};
use crate::view::View;

/// The office of the one replica that moves rollouts.
const OFFICE: &str = "rollouts";
/// How long after it is gone another takes over.
const TTL: Duration = Duration::from_secs(10);
/// How many rollouts that are over stay on record.
const KEPT: usize = 50;

/// Moves rollouts on, whenever there are any, for ever.
pub(crate) async fn run(app: Arc<App>, check: Check) {
    check.ok();
    loop {
        let mut view = app.view.clone();
        if (view.wait_for(|view| due(view).next().is_some()).await).is_err() {
            return;
        }
        let instance = &app.peers.own.instance;
        match app.vault.campaign(OFFICE, instance, TTL).await {
            Ok(office) => {
                tokio::select! {
                    () = office.lost() => {}
                    () = drive(&app, &check) => {}
                }
                office.resign().await;
            }
            Err(error) => {
                check.degraded(format!("no rollout can be moved on: {error}"));
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// The rollouts that something is to be done for.
fn due(view: &View) -> impl Iterator<Item = &Arc<Rollout>> {
    let all = view.rollouts.values();
    all.filter(|it| matches!(it.phase, Phase::Choosing | Phase::First))
}

async fn drive(app: &App, check: &Check) {
    let mut views = app.view.clone();
    // What tells that a rollout may move on, by its id and when it was written.
    let mut watched: BTreeMap<(Uuid, Revision), Turns> = BTreeMap::new();
    loop {
        let view = views.borrow_and_update().clone();
        if due(&view).next().is_none() {
            check.ok();
            forget(app, &view).await;
            return;
        }
        let (mut failed, mut pause) = (None, Duration::MAX);
        let known = |of: &(Uuid, Revision)| due(&view).any(|it| (it.id, it.written) == *of);
        watched.retain(|of, _| known(of));
        for rollout in due(&view) {
            let again = match step(app, &view, rollout).await {
                Ok(again) => again,
                Err(status) => {
                    warn!(revision = %rollout.revision, error = %status, "a rollout cannot be moved on");
                    failed = Some(status.to_string());
                    RETRY
                }
            };
            pause = pause.min(again);
            watched
                .entry((rollout.id, rollout.written))
                .or_insert_with(|| {
                    let proxies = rollout.proxies.clone();
                    app.pushers.turns(question(rollout.written, proxies))
                });
        }
        match failed {
            Some(why) => check.degraded(format!("a rollout cannot be moved on: {why}")),
            None => check.ok(),
        }
        let turned = watched.values_mut().map(|turns| Box::pin(turns.next()));
        tokio::select! {
            _ = select_all(turned) => {}
            _ = views.wait_for(|now| super::moved(&view, now)) => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// What is to become of a rollout.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// Nothing yet.
    Wait,
    /// These get it first.
    First(Vec<String>),
    /// Everybody gets it, for this reason.
    Done(String),
    /// It goes no further, for this reason.
    Stop(String),
}

/// Moves a rollout on, if it can be. Returns when to look at it again if nothing tells to before.
async fn step(app: &App, view: &View, rollout: &Rollout) -> Result<Duration> {
    let left = left(rollout, Timestamp::now());
    let overdue = left.is_zero();
    let mut again = if overdue { RETRY } else { left };
    let verdict = match rollout.phase {
        Phase::Choosing => match affected(app, rollout).await {
            Ok(affected) => choose(rollout, &affected, &first(view)),
            Err(_) if !overdue => {
                again = again.min(RETRY);
                Verdict::Wait
            }
            Err(why) => Verdict::Stop(format!("who gets it first cannot be found out: {why}")),
        },
        Phase::First => {
            let request = question(rollout.written, rollout.proxies.clone());
            let standing = Standing::ask(app, &request, &|_| true).await;
            if standing.ask_again() {
                again = again.min(RETRY);
            }
            judge(rollout, &standing, overdue)
        }
        _ => Verdict::Wait,
    };
    let (phase, proxies, reason) = match verdict {
        Verdict::Wait => return Ok(again),
        Verdict::First(proxies) => (Phase::First, proxies, String::new()),
        Verdict::Done(reason) => (Phase::Done, rollout.proxies.clone(), reason),
        Verdict::Stop(reason) if rollout.plan.rollback => {
            info!(revision = %rollout.revision, reason, "a change is rolled back");
            let author = author(rollout, "rolled back");
            take_back(app, rollout, reason, &author).await?;
            return Ok(RETRY);
        }
        Verdict::Stop(reason) => (Phase::Stopped, rollout.proxies.clone(), reason),
    };
    info!(revision = %rollout.revision, ?phase, ?proxies, reason, "a change is delivered gradually");
    let author = author(rollout, &format!("{phase:?}"));
    advance(app, rollout, phase, proxies, reason, &author).await?;
    Ok(RETRY)
}

fn author(rollout: &Rollout, what: &str) -> Author {
    Author {
        who: rollout.who.clone(),
        verb: format!("rollout {} {}", rollout.revision, what.to_lowercase()),
        ..Author::default()
    }
}

/// How much time the phase of a rollout has left.
fn left(rollout: &Rollout, now: Timestamp) -> Duration {
    let deadline = Duration::from_secs(rollout.plan.deadline_seconds);
    let since = rollout.since.parse().unwrap_or(now);
    // A clock that went back takes nothing from it.
    let waited = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    deadline.saturating_sub(waited)
}

/// The proxies that get other changes first.
fn first(view: &View) -> BTreeSet<&str> {
    let active = view.rollouts.values().filter(|it| it.is_active());
    active
        .flat_map(|it| it.proxies.iter().map(String::as_str))
        .collect()
}

/// The connected proxies that the change changes something for.
async fn affected(app: &App, rollout: &Rollout) -> std::result::Result<Vec<AffectedProxy>, String> {
    let request = GetAffectedRequest {
        rollout: rollout.id.to_string(),
    };
    let answers = app
        .pushers
        .ask(|mut pusher| {
            let request = request.clone();
            async move { pusher.get_affected(request).await }
        })
        .await;
    if let Some(silent) = answers.silent.first() {
        return Err(format!(
            "the pusher {} did not answer: {}",
            silent.instance, silent.reason
        ));
    }
    if answers.answered.is_empty() {
        return Err("no pusher is registered".into());
    }
    let mut affected = Vec::new();
    for (member, answer) in answers.answered {
        let (instance, replica) = (member.instance, answer.replica.unwrap_or_default());
        let at = replica.revision;
        if at < rollout.revision.0 {
            return Err(format!("the pusher {instance} is at revision {at} only"));
        }
        if replica.unserved > 0 {
            let count = replica.unserved;
            return Err(format!(
                "{count} streams at the pusher {instance} are not served yet"
            ));
        }
        affected.extend(answer.proxies);
    }
    Ok(affected)
}

/// Who gets it first: those that get other changes first before others, so that each is tried by few; then by lot, which every
/// replica would draw alike.
fn choose(rollout: &Rollout, affected: &[AffectedProxy], first: &BTreeSet<&str>) -> Verdict {
    let all: BTreeSet<&str> = affected.iter().map(|it| it.id.as_str()).collect();
    if all.is_empty() {
        return Verdict::Done("it changes nothing for any connected proxy".into());
    }
    let refusing: BTreeSet<&str> = (affected.iter())
        .filter(|it| it.refuses)
        .map(|it| it.id.as_str())
        .collect();
    let mut able: Vec<&str> = all.difference(&refusing).copied().collect();
    if able.is_empty() {
        return Verdict::Stop(format!(
            "each of the {} proxies that it changes something for refuses something already; meshctl proxy-status shows what",
            all.len()
        ));
    }
    able.sort_by_key(|id| (!first.contains(id), lot(rollout, id)));
    let few = usize::try_from(rollout.plan.first).unwrap_or(usize::MAX);
    Verdict::First(able.into_iter().take(few).map(str::to_owned).collect())
}

fn lot(rollout: &Rollout, id: &str) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(rollout.id.as_bytes());
    hasher.write(id.as_bytes());
    hasher.finish()
}

/// Whether it goes on, given where its first proxies are.
fn judge(rollout: &Rollout, standing: &Standing, overdue: bool) -> Verdict {
    let mut missing = None;
    for id in &rollout.proxies {
        let progress = standing.proxies.get(id);
        match progress {
            Some((Progress::Refused, refusals)) => {
                let what = refusals
                    .first()
                    .map(|it| format!(" {} {:?}: {}", it.r#type, it.resource, it.error));
                return Verdict::Stop(format!("{id} refused it:{}", what.unwrap_or_default()));
            }
            Some((Progress::Settled, _)) => {}
            Some((Progress::Acked | Progress::Warm, _)) => {
                missing
                    .get_or_insert_with(|| format!("{id} acknowledged it, but did not get warm"));
            }
            Some(_) => {
                missing.get_or_insert_with(|| format!("{id} did not acknowledge it"));
            }
            None => {
                missing.get_or_insert_with(|| format!("{id} is not connected any more"));
            }
        }
    }
    let silent = standing
        .silent
        .first()
        .map(|it| format!("the pusher {} did not answer: {}", it.instance, it.reason));
    let lagging = standing
        .lagging
        .first()
        .map(|(instance, at)| format!("the pusher {instance} is at revision {at} only"));
    let missing = match missing {
        Some(missing) => Some(
            [Some(missing), silent]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join("; "),
        ),
        None => silent.or(lagging),
    };
    match (missing, overdue) {
        (None, _) => Verdict::Done(match rollout.proxies.as_slice() {
            [one] => format!("{one} runs it"),
            many => format!("{} proxies run it", many.len()),
        }),
        (Some(_), false) => Verdict::Wait,
        (Some(why), true) => {
            Verdict::Stop(format!("after {} s {why}", rollout.plan.deadline_seconds))
        }
    }
}

/// Writes that a rollout came into another phase.
pub(crate) async fn advance(
    app: &App,
    rollout: &Rollout,
    phase: Phase,
    proxies: Vec<String>,
    reason: String,
    author: &Author,
) -> Result<()> {
    let next = next(rollout, phase, proxies, reason);
    match app.commit(vec![next], author.clone()).await {
        // Somebody else moved it on.
        Ok(_) | Err(store::Error::Moved { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn next(rollout: &Rollout, phase: Phase, proxies: Vec<String>, reason: String) -> Op {
    Op::Rollout {
        expect: Expect::At(rollout.written),
        rollout: Rollout {
            phase,
            proxies,
            reason,
            since: Timestamp::now().to_string(),
            ..rollout.clone()
        },
    }
}

/// Brings back what a rollout replaced, and ends it, in one transaction.
pub(crate) async fn take_back(
    app: &App,
    rollout: &Rollout,
    reason: String,
    author: &Author,
) -> Result<Done> {
    let steps: Vec<Step> = rollout
        .priors
        .iter()
        .map(|prior| match &prior.before {
            Some(before) => {
                let mut object = before.clone();
                // It keeps the identity of what is there now.
                object.metadata.uid.clear();
                Step::Put {
                    object,
                    precondition: Precondition::Any,
                    origin: Origin::Record,
                }
            }
            None => Step::Delete {
                key: prior.key.clone(),
            },
        })
        .collect();
    let end = next(rollout, Phase::RolledBack, rollout.proxies.clone(), reason);
    batch::run_with(app, &steps, author, &end, rollout.id).await
}

/// Forgets the oldest rollouts that are over.
async fn forget(app: &App, view: &View) {
    let over: Vec<&Arc<Rollout>> = (view.rollouts.values())
        .filter(|it| !it.is_active())
        .collect();
    for rollout in over.iter().take(over.len().saturating_sub(KEPT)) {
        let op = Op::Forget {
            id: rollout.id,
            expect: rollout.written,
        };
        let author = author(rollout, "forgotten");
        if let Err(error) = app.commit(vec![op], author).await {
            warn!(%error, revision = %rollout.revision, "an old rollout stays on record");
            return;
        }
    }
}

#[cfg(test)]
mod tests;
