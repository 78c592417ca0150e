//! Heartbeats: which registered workloads are alive. The replica that owns a workload by rendezvous hashing keeps its
//! timer in memory and writes only its turns; a new owner, and the end of an outage, grant a full TTL.
//!
//! *Invariant:* no heartbeat of a workload that is up, and stays up, writes anything.

mod timers;

use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge};
use model::Kind;
use store::{Author, Member, Op, rendezvous};
use telemetry::Check;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::app::App;
use crate::config::duration;
use crate::http::mesh::Reach;
use crate::identity::Proof;
use crate::view::{View, Workload};
pub(crate) use timers::Freeze;
use timers::{Due, Timers};

/// The service name under which replicas of this API register.
pub(crate) const SERVICE: &str = "config-api";
/// The annotation that makes a WorkloadEntry live by heartbeats: its TTL.
pub(crate) const TTL: &str = "weft.mesh/ttl";
/// The most turns of one transaction.
const BATCH: usize = 50;

/// The TTL that an annotation, or a heartbeat, may ask for.
pub(crate) fn parse_ttl(text: &str) -> Result<Duration, String> {
    let ttl = duration(text)?;
    if (Duration::from_millis(100)..=Duration::from_secs(86_400)).contains(&ttl) {
        Ok(ttl)
    } else {
        Err(format!("{text:?} must be between 100ms and 24h"))
    }
}

/// Begins series at nothing, so that the first event is a rise and not an appearance.
pub(crate) fn begin() {
    for up in ["true", "false"] {
        drop(counter!("weft_liveness_turns_total", "up" => up));
    }
}

/// One heartbeat.
pub(crate) struct Beat {
    pub(crate) workload: Workload,
    pub(crate) ttl: Duration,
    pub(crate) healthy: bool,
    /// Answered once the turn it causes, if any, is recorded.
    pub(crate) done: oneshot::Sender<Result<(), String>>,
}

/// Who owns what, as this replica sees it.
pub(crate) struct Peers {
    pub(crate) own: Member,
    pub(crate) members: watch::Receiver<Vec<Member>>,
    /// What this replica proves itself with to another.
    pub(crate) proof: Proof,
    /// Reaches the others.
    pub(crate) http: Reach,
}

impl Peers {
    /// The owner of a workload. This replica always counts as alive, registered or not.
    pub(crate) fn owner(&self, workload: &Workload) -> Member {
        let mut members = self.members.borrow().clone();
        if !members.iter().any(|m| m.instance == self.own.instance) {
            members.push(self.own.clone());
        }
        let key = format!("{}/{}", workload.0, workload.1);
        let owner = rendezvous::owner(&key, &members).cloned();
        owner.unwrap_or_else(|| self.own.clone())
    }

    /// Whether this replica owns it.
    pub(crate) fn owns(&self, workload: &Workload) -> bool {
        self.owner(workload).instance == self.own.instance
    }
}

/// Times heartbeats until the shutdown.
pub(crate) async fn run(
    app: Arc<App>,
    mut beats: mpsc::Receiver<Beat>,
    freeze: Freeze,
    check: Check,
) {
    check.ok();
    let (mut view, mut members) = (app.view.clone(), app.peers.members.clone());
    let mut keeper = Keeper {
        app,
        timers: Timers::default(),
        freeze,
        check,
        frozen: false,
        outage: false,
    };
    keeper.sync();
    loop {
        let now = Instant::now();
        let mut waiting = Vec::new();
        // A deadline that passed while evictions are frozen is looked at every second.
        let wake = keeper
            .timers
            .next(now)
            .unwrap_or(now + Duration::from_secs(1))
            .min(now + Duration::from_secs(1));
        tokio::select! {
            beat = beats.recv() => match beat {
                Some(beat) => keeper.take(beat, &mut waiting),
                None => return,
            },
            changed = view.changed() => if changed.is_err() { return } else { keeper.sync() },
            changed = members.changed() => if changed.is_err() { return } else { keeper.sync() },
            () = tokio::time::sleep_until(wake) => {}
        }
        while let Ok(beat) = beats.try_recv() {
            keeper.take(beat, &mut waiting);
        }
        let recorded = keeper.record().await;
        for done in waiting {
            // Who asked may have gone away meanwhile.
            let _ = done.send(recorded.clone());
        }
    }
}

/// The task's state.
struct Keeper {
    app: Arc<App>,
    timers: Timers,
    freeze: Freeze,
    check: Check,
    frozen: bool,
    outage: bool,
}

impl Keeper {
    fn take(&mut self, beat: Beat, waiting: &mut Vec<oneshot::Sender<Result<(), String>>>) {
        self.timers
            .beat(beat.workload, beat.ttl, beat.healthy, Instant::now());
        waiting.push(beat.done);
    }

    /// Follows what is stored and who is alive.
    fn sync(&mut self) {
        let (now, peers) = (Instant::now(), &self.app.peers);
        let view = self.app.view.borrow().clone();
        let owned = ttls(&view).filter(|(w, _)| peers.owns(w)).collect();
        self.timers.sync(&owned, now);
        gauge!("weft_heartbeat_workloads").set(self.timers.len() as f64);
        match (&view.stale, self.outage) {
            (Some(_), _) => self.outage = true,
            (None, true) => {
                info!("the store is back: every workload is granted a full TTL");
                self.outage = false;
                self.timers.grace(now);
            }
            (None, false) => {}
        }
    }

    /// Records what has turned.
    async fn record(&mut self) -> Result<(), String> {
        if self.outage {
            return Ok(());
        }
        let view = self.app.view.borrow().clone();
        let Due { turns, frozen } =
            self.timers
                .due(|w| view.down.contains(w), self.freeze, Instant::now());
        self.alarm(frozen);
        for batch in turns.chunks(BATCH) {
            let author = Author {
                who: SERVICE.into(),
                verb: "heartbeat".into(),
                ..Author::default()
            };
            let ops = batch
                .iter()
                .map(|((namespace, name), up)| Op::Liveness {
                    namespace: namespace.clone(),
                    name: name.clone(),
                    up: *up,
                })
                .collect();
            match self.app.commit(ops, author).await {
                Ok(_) => {
                    for ((namespace, name), up) in batch {
                        info!(%namespace, %name, up, "a workload turned");
                        counter!("weft_liveness_turns_total", "up" => up.to_string()).increment(1);
                    }
                }
                Err(error) => {
                    warn!(%error, "turns of workloads cannot be recorded; each is granted a full TTL");
                    self.timers.grace(Instant::now());
                    return Err(error.to_string());
                }
            }
        }
        if !turns.is_empty() {
            // Until the view shows what was recorded, the same turns would be recorded again.
            self.app.fresh_view().await;
        }
        Ok(())
    }

    fn alarm(&mut self, frozen: Option<usize>) {
        gauge!("weft_eviction_frozen").set(if frozen.is_some() { 1.0 } else { 0.0 });
        match (frozen, self.frozen) {
            (Some(silent), _) => {
                let text = format!(
                    "eviction is frozen: {silent} of {} workloads fell silent within one TTL; they stay in service",
                    self.timers.len()
                );
                if !self.frozen {
                    error!(silent, of = self.timers.len(), "eviction is frozen");
                }
                self.check.degraded(text);
            }
            (None, true) => {
                info!("eviction goes on");
                self.check.ok();
            }
            (None, false) => {}
        }
        self.frozen = frozen.is_some();
    }
}

/// The workloads that live by heartbeats, and their TTLs.
fn ttls(view: &View) -> impl Iterator<Item = (Workload, Duration)> {
    view.objects
        .iter()
        .filter(|(key, _)| key.kind == Kind::WorkloadEntry)
        .filter_map(|(key, object)| {
            let ttl = parse_ttl(object.metadata.annotations.get(TTL)?).ok()?;
            Some(((key.namespace.clone(), key.name.clone()), ttl))
        })
}

/// Registers this replica, and keeps it registered until the shutdown.
pub(crate) async fn join(app: Arc<App>) -> Result<(), std::convert::Infallible> {
    let membership = loop {
        match app
            .store
            .join(SERVICE, app.peers.own.clone(), Duration::from_secs(10))
            .await
        {
            Ok(membership) => break membership,
            Err(error) => warn!(%error, "this replica cannot be registered yet"),
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = app.shutdown.cancelled() => return Ok(()),
        }
    };
    app.shutdown.cancelled().await;
    // Without a store the lease expires by itself.
    let _ = tokio::time::timeout(Duration::from_secs(2), membership.leave()).await;
    Ok(())
}
