//! What the proxies of all replicas have acknowledged: each replica says of its own, in its membership, while a new root is
//! shown; whoever leads puts it together.
//!
//! *Invariant:* a replica of which nothing is known, because it has just started or has not heard of the root, is not taken
//! to have acknowledged anything; the proxies of one whose membership ended have time to come to another before it is said that
//! there are none.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use store::Member;
use tokio::sync::watch;
use xds::Streams;

use crate::authority::rotation::Acknowledged;
use crate::authority::{Authority, Stage};
use crate::ca::Current;
use crate::sds;

/// Where a replica says it, among its addresses.
const ACKNOWLEDGED: &str = "acknowledged";

/// How often it looks: at most one write in this time.
const PERIOD: Duration = Duration::from_secs(1);

/// How long proxies may take to come back after their replica went: Envoy tries again after 30 s at most, twice is sure.
const RETURN: Duration = Duration::from_secs(60);

/// What the proxies of this replica have acknowledged, and until when that says nothing.
pub(crate) struct Own {
    streams: Streams,
    /// When proxies were last cut off: this replica started, or another went.
    cut: watch::Receiver<Instant>,
    grace: Duration,
}

impl Own {
    /// `overlap`: how long a new root is shown at least. Nobody who shows roots for less waits longer for proxies.
    pub(crate) fn new(streams: Streams, cut: watch::Receiver<Instant>, overlap: Duration) -> Self {
        let grace = RETURN.min(overlap);
        Self {
            streams,
            cut,
            grace,
        }
    }

    pub(crate) fn acknowledged(&self) -> Acknowledged {
        let age = self.cut.borrow().elapsed();
        settled(sds::acknowledged(&self.streams), age, self.grace)
    }
}

/// What was acknowledged, as far as it can be said so soon: those who have not come back yet are missing.
fn settled(acknowledged: Acknowledged, age: Duration, grace: Duration) -> Acknowledged {
    match age < grace {
        true => Acknowledged::Unknown,
        false => acknowledged,
    }
}

/// Whether a replica that was there is not any more.
pub(crate) fn left(before: &[Member], now: &[Member]) -> bool {
    let stays = |member: &Member| now.iter().any(|it| it.instance == member.instance);
    !before.iter().all(stays)
}

/// The live replicas; `None` until they were read.
pub(crate) type Replicas = watch::Receiver<Option<Vec<Member>>>;

/// What all proxies have acknowledged: those of this replica, and those of the others as these say.
pub(crate) fn together(
    own: Acknowledged,
    instance: &str,
    replicas: Option<&[Member]>,
) -> Acknowledged {
    let Some(replicas) = replicas else {
        return Acknowledged::Unknown;
    };
    let others = replicas.iter().filter(|member| member.instance != instance);
    others.fold(own, |all, other| {
        let said = other.addresses.get(ACKNOWLEDGED);
        match (all, said.and_then(|text| text.parse::<u64>().ok())) {
            (Acknowledged::Unknown, _) | (_, None) => Acknowledged::Unknown,
            (Acknowledged::Nobody, Some(said)) => Acknowledged::Sequence(said),
            (Acknowledged::Sequence(least), Some(said)) => Acknowledged::Sequence(least.min(said)),
        }
    })
}

/// What a replica says of its proxies while a new root is shown; nothing otherwise. Whoever connects to it from now on gets
/// the bundle that it knows itself.
fn said(own: Acknowledged, authority: &Authority) -> Option<u64> {
    let mut roots = authority.roots().iter();
    roots.find(|root| root.stage == Stage::Prepared)?;
    match own {
        Acknowledged::Sequence(sequence) => Some(sequence),
        Acknowledged::Nobody => Some(authority.sequence()),
        Acknowledged::Unknown => None,
    }
}

/// Adds what is to be said to the addresses of this replica.
pub(crate) fn with(
    said: Option<u64>,
    mut addresses: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    if let Some(sequence) = said {
        addresses.insert(ACKNOWLEDGED.to_owned(), sequence.to_string());
    }
    addresses
}

/// Publishes what is to be said, for ever.
pub(crate) async fn say(mut current: Current, own: Arc<Own>, publish: watch::Sender<Option<u64>>) {
    loop {
        let authority = current.borrow_and_update().clone();
        let news = authority.and_then(|authority| said(own.acknowledged(), &authority));
        publish.send_if_modified(|before| {
            let changed = *before != news;
            *before = news;
            changed
        });
        // ACKs come at any time, and nobody announces them.
        tokio::time::sleep(PERIOD).await;
    }
}
