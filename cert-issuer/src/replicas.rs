//! What the proxies of all replicas have acknowledged: each replica says of its own, in its membership, while a new root is
//! shown; whoever leads puts it together.
//!
//! *Invariant:* a replica of which nothing is known, because it has just started or has not heard of the root, is not taken
//! to have acknowledged anything; one whose membership ended has no proxies.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

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
pub(crate) async fn say(
    mut current: Current,
    streams: Streams,
    publish: watch::Sender<Option<u64>>,
) {
    loop {
        let authority = current.borrow_and_update().clone();
        let own = || sds::acknowledged(&streams);
        let news = authority.and_then(|authority| said(own(), &authority));
        publish.send_if_modified(|before| {
            let changed = *before != news;
            *before = news;
            changed
        });
        // ACKs come at any time, and nobody announces them.
        tokio::time::sleep(PERIOD).await;
    }
}
