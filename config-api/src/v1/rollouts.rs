//! `GET /v1/rollouts/{revision}`: whether a revision has reached every connected proxy, asked for at this moment.
//!
//! *Invariant:* `reached` is never said while a pusher kept silent, lags behind or has streams that it does not serve yet: whose they are,
//! or what they run, is unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{MethodRouter, post};
use http::{HeaderMap, StatusCode};
use model::Revision;
use pusher_api::v1::{GetRolloutRequest, GetRolloutResponse, Progress, ProxyProgress, Refusal};
use serde_json::{Value, json};
use store::{Phase, Rollout};
use tokio::time::Instant;

use super::proxies::{respond, sees};
use crate::app::App;
use crate::config::duration;
use crate::http::negotiate::Accept;
use crate::http::query::{Params, invalid};
use crate::http::status::{Result, Status};
use crate::identity::Caller;
use crate::pushers::{Answers, RETRY, Silent, Turns};
use crate::rollouts::{self, deliver};

/// How long a proxy must have been warm: an acknowledgement comes from Envoy's main thread, and its worker threads take over
/// within moments.
pub(crate) const SETTLE: Duration = Duration::from_secs(1);

/// How many proxies of each state are named when the caller does not say.
const NAMED: u32 = 100;

pub(super) async fn one(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(revision): Path<String>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response> {
    let accept = Accept::of(&headers, &[])?;
    let revision = parse(&revision)?;
    let wait = params
        .get("wait")
        .map(|text| duration(text).map_err(|why| invalid("wait", text, &why)))
        .transpose()?
        .unwrap_or_default();
    let named = params.number("limit")?.unwrap_or(NAMED) as usize;
    // An answer that says how far it is beats one that says it took too long.
    let until = Instant::now() + wait.min(app.config.request_timeout.mul_f32(0.8));
    let newest = app.store.revision().await?;
    if revision > newest {
        let message = format!(
            "revision {revision} has not happened: the store is at {newest}; what /v1/apply answered names a revision"
        );
        return Err(Status::new(StatusCode::NOT_FOUND, "NotFound", message));
    }
    // What moves the store and is no change reaches no pusher's watch.
    let committed = revision.min(app.store.last_commit().await?);
    app.current_view().await?;
    let mut views = app.view.clone();
    let mut turns: Option<(Revision, Turns)> = None;
    loop {
        let view = views.borrow_and_update().clone();
        let needed = rollouts::effective(view.rollouts.values(), committed);
        let at = needed.unwrap_or(committed);
        let request = question(at, Vec::new());
        let mut standing = Standing::ask(&app, &request, &|id| sees(&caller, id)).await;
        let rollout = rollouts::of_revision(&view, revision);
        standing.held = match (needed, rollout.map(|it| it.phase)) {
            (_, Some(Phase::RolledBack)) => Some("rolledBack"),
            (_, Some(Phase::Stopped)) => Some("stopped"),
            // A pusher that has not heard of a change yet, or heard that its rollout is over, does not say what is held back.
            (None, _)
                if !standing.knows(rollouts::active_at(view.rollouts.values(), committed)) =>
            {
                Some("behind")
            }
            _ => None,
        };
        if standing.is_final() || Instant::now() >= until {
            let mut body = standing.to_json(revision, named);
            if let Some(rollout) = rollout {
                body["gradual"] = json!(rollouts::to_json(rollout, &caller));
            }
            return Ok(respond(accept, &body, &standing.silent));
        }
        let mut open = turns.take().filter(|(of, _)| *of == at);
        let (_, watched) = open.get_or_insert_with(|| (at, app.pushers.turns(request)));
        let again = match standing.ask_again() {
            true => until.min(Instant::now() + RETRY),
            false => until,
        };
        tokio::select! {
            () = watched.next() => {}
            _ = views.wait_for(|now| rollouts::moved(&view, now)) => {}
            () = tokio::time::sleep_until(again) => {}
        }
        turns = open;
    }
}

/// What is asked of pushers: about these proxies, or all.
pub(crate) fn question(revision: Revision, proxies: Vec<String>) -> GetRolloutRequest {
    GetRolloutRequest {
        revision: revision.0,
        settle_ms: u32::try_from(SETTLE.as_millis()).unwrap_or(u32::MAX),
        proxies,
    }
}

/// The rollouts on record that the caller may read, newest first.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response> {
    let accept = Accept::of(&headers, &[])?;
    let view = app.current_view().await?;
    let all = view.rollouts.values().rev();
    let rollouts: Vec<Value> = all
        .filter_map(|it| rollouts::to_json(it, &caller))
        .collect();
    Ok(accept.respond(StatusCode::OK, &json!({"rollouts": rollouts})))
}

/// How a person ends a rollout.
#[derive(Clone, Copy)]
pub(super) enum End {
    /// Everybody gets the change, whoever has it.
    Continue,
    /// It is taken back from whoever has it.
    Abort,
}

/// Ends a rollout.
pub(super) fn end(how: End) -> MethodRouter<Arc<App>> {
    post(
        async move |State(app): State<Arc<App>>,
                    Extension(caller): Extension<Caller>,
                    Path(revision): Path<String>,
                    headers: HeaderMap| {
            ended(how, &app, &caller, &revision, &headers).await
        },
    )
}

async fn ended(
    how: End,
    app: &App,
    caller: &Caller,
    revision: &str,
    headers: &HeaderMap,
) -> Result<Response> {
    let accept = Accept::of(headers, &[])?;
    let (verb, ended) = match how {
        End::Continue => ("continue", "continued"),
        End::Abort => ("abort", "aborted"),
    };
    let rollout = active(app, caller, verb, revision).await?;
    let author = caller.author(&format!("rollout {revision} {verb}"));
    let reason = format!("{ended} by {}", author.who);
    match how {
        End::Continue => {
            let proxies = rollout.proxies.clone();
            deliver::advance(app, &rollout, Phase::Done, proxies, reason, &author).await?;
        }
        End::Abort => {
            deliver::take_back(app, &rollout, reason, &author).await?;
        }
    }
    answer(app, caller, accept, rollout.revision).await
}

async fn active(app: &App, caller: &Caller, verb: &str, revision: &str) -> Result<Arc<Rollout>> {
    let at = parse(revision)?;
    let view = app.current_view().await?;
    let rollout = rollouts::of_revision(&view, at).cloned().ok_or_else(|| {
        let message = format!(
            "no change of revision {at} is delivered gradually; /v1/rollouts lists those that are"
        );
        Status::new(StatusCode::NOT_FOUND, "NotFound", message)
    })?;
    rollouts::permit(caller, verb, &rollout)?;
    if rollout.is_active() {
        return Ok(rollout);
    }
    let message = format!(
        "the rollout of revision {at} is over ({:?}): {}",
        rollout.phase, rollout.reason
    );
    Err(Status::new(StatusCode::CONFLICT, "Conflict", message))
}

async fn answer(
    app: &App,
    caller: &Caller,
    accept: Accept,
    revision: Revision,
) -> Result<Response> {
    let view = app.current_view().await?;
    let rollout = rollouts::of_revision(&view, revision);
    let body = rollout.and_then(|it| rollouts::to_json(it, caller));
    Ok(accept.respond(StatusCode::OK, &json!(body)))
}

fn parse(text: &str) -> Result<Revision> {
    (text.parse::<i64>().ok().filter(|it| *it > 0))
        .map(Revision)
        .ok_or_else(|| {
            Status::bad_request(format!(
                "the revision {text:?} must be a whole number above 0, such as \"revision\" in what /v1/apply answers"
            ))
        })
}

/// Where a revision is.
pub(crate) struct Standing {
    pub(crate) proxies: BTreeMap<String, (Progress, Vec<Refusal>)>,
    /// Pushers that have not read the store up to the revision, and where they are.
    pub(crate) lagging: Vec<(String, i64)>,
    pub(crate) silent: Vec<Silent>,
    /// How many streams are of proxies that are not known yet.
    pub(crate) unserved: u32,
    /// How many pushers are registered.
    pub(crate) pushers: usize,
    /// The changes that every pusher knows to be delivered gradually.
    pub(crate) active: Option<BTreeSet<i64>>,
    /// What is to be said of it instead, where not everybody is meant to get it (yet).
    pub(crate) held: Option<&'static str>,
}

impl Standing {
    /// Asks every live pusher; `sees` says which proxies count.
    pub(crate) async fn ask(
        app: &App,
        request: &GetRolloutRequest,
        sees: &(dyn Fn(&str) -> bool + Sync),
    ) -> Self {
        let answers = app
            .pushers
            .ask(|mut pusher| {
                let request = request.clone();
                async move { pusher.get_rollout(request).await }
            })
            .await;
        Self::of(Revision(request.revision), answers, sees)
    }

    fn of(
        revision: Revision,
        answers: Answers<GetRolloutResponse>,
        sees: &(dyn Fn(&str) -> bool + Sync),
    ) -> Self {
        let mut standing = Self {
            proxies: BTreeMap::new(),
            lagging: Vec::new(),
            pushers: answers.answered.len() + answers.silent.len(),
            silent: answers.silent,
            unserved: 0,
            active: None,
            held: None,
        };
        for (member, answer) in answers.answered {
            let replica = answer.replica.unwrap_or_default();
            standing.unserved = standing.unserved.saturating_add(replica.unserved);
            let at = replica.revision;
            if at < revision.0 {
                standing.lagging.push((member.instance, at));
            }
            let active: BTreeSet<i64> = answer.active.into_iter().collect();
            standing.active = Some(match standing.active {
                Some(known) => &known & &active,
                None => active,
            });
            let seen = answer.proxies.into_iter().filter(|proxy| sees(&proxy.id));
            seen.for_each(|proxy| standing.add(proxy));
        }
        standing
    }

    /// A proxy that is moving is known to two pushers, and as far as the lesser says.
    fn add(&mut self, proxy: ProxyProgress) {
        let progress = proxy.progress();
        let rank = |progress: Progress| match progress {
            Progress::Refused => 0,
            other => i32::from(other),
        };
        let (known, refusals) = (self.proxies)
            .entry(proxy.id)
            .or_insert((progress, Vec::new()));
        if rank(progress) < rank(*known) {
            *known = progress;
        }
        refusals.extend(proxy.refusals);
    }

    fn count(&self, of: impl Fn(Progress) -> bool) -> usize {
        (self.proxies.values()).filter(|(it, _)| of(*it)).count()
    }

    /// Whether every pusher knows of these changes, which are delivered gradually.
    fn knows(&self, mut active: impl Iterator<Item = Revision>) -> bool {
        let known = self.active.as_ref();
        active.all(|it| known.is_none_or(|known| known.contains(&it.0)))
    }

    fn is_known(&self) -> bool {
        let told = self.silent.is_empty() && self.lagging.is_empty();
        self.pushers > 0 && told && self.unserved == 0
    }

    /// Whether to ask again without being told to: who kept silent, and who ends before it is served, tells nothing.
    pub(crate) fn ask_again(&self) -> bool {
        !self.silent.is_empty() || self.unserved > 0
    }

    /// Whether every proxy has settled, and every pusher says so.
    pub(crate) fn is_reached(&self) -> bool {
        self.held.is_none() && self.is_known() && self.count(|it| it != Progress::Settled) == 0
    }

    /// Whether waiting changes nothing, as far as anybody knows: all have settled or refused.
    fn is_final(&self) -> bool {
        let done = |it| matches!(it, Progress::Settled | Progress::Refused);
        match self.held {
            Some("behind") => false,
            Some(_) => true,
            None => self.is_known() && self.count(|it| !done(it)) == 0,
        }
    }

    fn to_json(&self, revision: Revision, named: usize) -> Value {
        let set = |of: &dyn Fn(Progress) -> bool| {
            let ids = (self.proxies.iter()).filter(|(_, (it, _))| of(*it));
            let names: Vec<&String> = ids.map(|(id, _)| id).take(named).collect();
            json!({"count": self.count(of), "proxies": names})
        };
        let refused = self
            .proxies
            .iter()
            .filter(|(_, (it, _))| *it == Progress::Refused);
        let refused: Vec<Value> = refused
            .take(named)
            .map(|(id, (_, refusals))| {
                let resources = refusals.iter().map(
                    |it| json!({"type": it.r#type, "resource": it.resource, "error": it.error}),
                );
                json!({"id": id, "resources": resources.collect::<Vec<_>>()})
            })
            .collect();
        let refusing = self.count(|it| it == Progress::Refused);
        let state = match (self.held, self.is_reached(), refusing) {
            (Some(held), ..) => held,
            (None, true, _) => "reached",
            (None, false, 0) => "behind",
            (None, false, _) => "refused",
        };
        let lagging = self
            .lagging
            .iter()
            .map(|(instance, at)| json!({"instance": instance, "revision": at.to_string()}));
        json!({
            "revision": revision.to_string(), "state": state, "reached": self.is_reached(), "total": self.proxies.len(),
            "acked": set(&|it| matches!(it, Progress::Acked | Progress::Warm | Progress::Settled)),
            "warmed": set(&|it| matches!(it, Progress::Warm | Progress::Settled)),
            "settled": set(&|it| it == Progress::Settled),
            "behind": set(&|it| matches!(it, Progress::Behind | Progress::Unspecified)),
            "refused": {"count": refusing, "proxies": refused},
            "pushers": self.pushers, "unserved": self.unserved, "lagging": lagging.collect::<Vec<_>>(), "silent": self.silent,
        })
    }
}

#[cfg(test)]
mod tests;
