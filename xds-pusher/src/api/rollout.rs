//! How far each proxy is with a revision.
//!
//! *Invariant:* a proxy with several streams is as far as the one that is furthest behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pusher_api::v1::{
    AffectedProxy, GetRolloutRequest, GetRolloutResponse, Progress, ProxyProgress, Refusal, Replica,
};
use xds::StreamStatus;

use crate::mesh::Sides;

pub(super) fn answer(
    replica: Replica,
    streams: &[StreamStatus],
    sides: Option<&Sides>,
    request: &GetRolloutRequest,
    now: Instant,
) -> GetRolloutResponse {
    let published = replica.revision >= request.revision;
    let settle = Duration::from_millis(request.settle_ms.into());
    let mut proxies: BTreeMap<&str, ProxyProgress> = BTreeMap::new();
    for stream in streams {
        let Some(node) = &stream.stream.node else {
            continue;
        };
        if !request.proxies.is_empty() && !request.proxies.contains(&node.id) {
            continue;
        }
        // What is held back from a proxy is not in what it acknowledges, whatever the revision of that.
        let held = sides.is_some_and(|sides| {
            sides.first().0 <= request.revision && sides.held.contains(&*node.id)
        });
        let found = match progress(stream, request.revision, published, settle, now) {
            Progress::Refused => Progress::Refused,
            _ if held => Progress::Behind,
            found => found,
        };
        let refusals = refusals(stream);
        let proxy = proxies.entry(&node.id).or_insert_with(|| ProxyProgress {
            id: node.id.clone(),
            progress: found.into(),
            refusals: Vec::new(),
        });
        let worse = rank(found) < rank(proxy.progress());
        if worse {
            proxy.set_progress(found);
        }
        proxy.refusals.extend(refusals);
    }
    let active = sides.iter().flat_map(|sides| &sides.changes);
    GetRolloutResponse {
        replica: Some(replica),
        proxies: proxies.into_values().collect(),
        active: active.map(|revision| revision.0).collect(),
    }
}

/// Of these proxies those that have a stream, and whether they refuse something already.
pub(super) fn affected(nodes: &[Arc<str>], streams: &[StreamStatus]) -> Vec<AffectedProxy> {
    let mut refusing: BTreeMap<&str, bool> = BTreeMap::new();
    for stream in streams {
        if let Some(node) = &stream.stream.node {
            *refusing.entry(&node.id).or_default() |= !refusals(stream).is_empty();
        }
    }
    let found = nodes.iter().filter_map(|node| {
        Some(AffectedProxy {
            id: node.to_string(),
            refuses: *refusing.get(&**node)?,
        })
    });
    found.collect()
}

fn progress(
    stream: &StreamStatus,
    revision: i64,
    published: bool,
    settle: Duration,
    now: Instant,
) -> Progress {
    let (progress, since) = stream.at(revision, published);
    let mut types = stream.types.values();
    // While the culprit of a refusal is looked for it is not known yet what is refused.
    let refuses = types.any(|it| {
        !it.refused.is_empty() || it.nack.is_some() && progress > xds::session::Progress::Behind
    });
    match progress {
        _ if refuses => Progress::Refused,
        xds::session::Progress::Behind => Progress::Behind,
        xds::session::Progress::Acked => Progress::Acked,
        xds::session::Progress::Warm => {
            let settled = since.is_some_and(|since| now.duration_since(since) >= settle);
            if settled {
                Progress::Settled
            } else {
                Progress::Warm
            }
        }
    }
}

/// The order of what is said of a proxy with several streams: the least counts.
fn rank(progress: Progress) -> u8 {
    match progress {
        Progress::Refused | Progress::Unspecified => 0,
        Progress::Behind => 1,
        Progress::Acked => 2,
        Progress::Warm => 3,
        Progress::Settled => 4,
    }
}

fn refusals(stream: &StreamStatus) -> Vec<Refusal> {
    let proxy = stream.stream.node.as_ref().map(|node| node.id.clone());
    let refusal = |ty: xds::ResourceType, resource: &str, error: &str| Refusal {
        proxy: proxy.clone().unwrap_or_default(),
        r#type: ty.short().to_owned(),
        resource: resource.to_owned(),
        error: error.to_owned(),
    };
    let mut found = Vec::new();
    for (ty, status) in &stream.types {
        for (name, (_, error)) in &status.refused {
            found.push(refusal(*ty, name, error));
        }
        if let (true, Some((_, error))) = (status.refused.is_empty(), &status.nack) {
            found.push(refusal(*ty, "", error));
        }
    }
    found
}
