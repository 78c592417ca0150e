//! WATCH: the store's events as Kubernetes watch events, one JSON object per line.
//!
//! *Invariant:* within one watch revisions never go back, and a gap is never bridged: it ends with 410.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{HeaderMap, header};
use model::{Object, Revision};
use rand::RngExt;
use serde_json::{Value, json};
use store::{Change, Event};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::present::{self, RowObject};
use super::read::{RENDERINGS, include_object, not_in_the_future};
use super::selector::Selector;
use super::target::Collection;
use crate::app::App;
use crate::http::negotiate::{Accept, Rendering};
use crate::http::query::{Params, invalid};
use crate::http::status::{Result, Status};

/// How long a watch lasts when the caller does not say: 30 to 60 minutes, spread so that not all return at once.
pub(super) fn default_timeout() -> Duration {
    Duration::from_secs(rand::rng().random_range(1800..3600))
}

/// Answers a watch request.
pub(super) async fn watch(
    app: &Arc<App>,
    of: Collection,
    selector: Selector,
    params: &Params,
    headers: &HeaderMap,
) -> Result<Response> {
    let rendering = Accept::of(headers, &RENDERINGS)?.rendering;
    let asked = params.resource_version()?;
    let plan = Plan::of(params, asked)?;
    let permit = app.limits.watch()?;
    if let (true, Some(asked)) = (plan.initial, asked) {
        not_in_the_future(app, asked).await?;
    }
    let after = match (plan.initial, asked) {
        (true, _) => None,
        (false, Some(revision)) if revision.0 > 0 => Some(revision),
        (false, _) => Some(app.store.revision().await?),
    };
    let events = app.store.watch(of.scope(), after, false).await?;
    let encoder = Encoder {
        of,
        selector,
        rendering,
        include: include_object(params)?,
        app: app.clone(),
        bookmarks: params.flag("allowWatchBookmarks")?,
        annotate_initial: plan.annotate,
        awaiting_initial: plan.initial,
        last: after.unwrap_or_default(),
    };
    let timeout = params
        .seconds("timeoutSeconds")?
        .filter(|t| !t.is_zero())
        .unwrap_or_else(default_timeout);
    let lines = lines(
        events,
        encoder,
        Instant::now() + timeout,
        app.shutdown.clone(),
        permit,
    );
    let body = Body::from_stream(lines.map(Ok::<_, std::convert::Infallible>));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// What a watch starts with.
struct Plan {
    /// Whether it starts with synthetic ADDED events.
    initial: bool,
    /// Whether a bookmark marks their end.
    annotate: bool,
}

impl Plan {
    fn of(params: &Params, asked: Option<Revision>) -> Result<Self> {
        let send = params.tristate("sendInitialEvents")?;
        match (send, params.get("resourceVersionMatch")) {
            (None, Some(m)) => Err(invalid(
                "resourceVersionMatch",
                m,
                "is for a watch only beside sendInitialEvents",
            )),
            (Some(_), Some("NotOlderThan")) | (None, None) => Ok(()),
            (Some(_), m) => Err(invalid(
                "resourceVersionMatch",
                m.unwrap_or(""),
                "must be NotOlderThan beside sendInitialEvents",
            )),
        }?;
        if send == Some(true) && !params.flag("allowWatchBookmarks")? {
            return Err(invalid(
                "sendInitialEvents",
                "true",
                "needs allowWatchBookmarks=true: a bookmark ends the initial events",
            ));
        }
        let from_any = asked.is_none_or(|r| r.0 == 0);
        Ok(Self {
            initial: send.unwrap_or(from_any),
            annotate: send == Some(true),
        })
    }
}

fn lines(
    events: store::Watch,
    encoder: Encoder,
    deadline: Instant,
    shutdown: CancellationToken,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Bytes> + Send {
    let state = Some((events, encoder, permit));
    futures::stream::unfold(state, move |state| {
        let shutdown = shutdown.clone();
        async move {
            let (mut events, mut encoder, permit) = state?;
            loop {
                let event = tokio::select! {
                    event = events.next() => event,
                    () = tokio::time::sleep_until(deadline) => return Some((encoder.last_bookmark(), None)),
                    () = shutdown.cancelled() => return Some((encoder.last_bookmark(), None)),
                };
                let (bytes, more) = encoder.event(event?);
                if !more {
                    return Some((bytes, None));
                }
                if !bytes.is_empty() {
                    return Some((bytes, Some((events, encoder, permit))));
                }
            }
        }
    })
}

/// Turns store events into lines.
struct Encoder {
    of: Collection,
    selector: Selector,
    rendering: Rendering,
    include: RowObject,
    app: Arc<App>,
    bookmarks: bool,
    annotate_initial: bool,
    awaiting_initial: bool,
    last: Revision,
}

impl Encoder {
    /// The lines of one event, and whether the watch goes on.
    fn event(&mut self, event: Event) -> (Bytes, bool) {
        let mut out = Vec::new();
        let mut more = true;
        match event {
            Event::Changes {
                revision, changes, ..
            } => {
                for change in changes {
                    self.change(&mut out, revision, change);
                }
                self.last = self.last.max(revision);
            }
            Event::Snapshot(snapshot) if self.awaiting_initial => {
                self.awaiting_initial = false;
                for object in &snapshot.objects {
                    if self.selector.matches(object) {
                        self.put(&mut out, "ADDED", object);
                    }
                }
                self.last = snapshot.revision;
                if self.annotate_initial {
                    self.bookmark(&mut out, true);
                }
            }
            Event::Snapshot(snapshot) => {
                let status = Status::expired(format!(
                    "events after revision {} were lost; the store is at {}: list again",
                    self.last, snapshot.revision
                ));
                line(&mut out, "ERROR", &status.to_json());
                more = false;
            }
            Event::Progress { revision } => {
                if revision > self.last {
                    self.last = revision;
                    if self.bookmarks {
                        self.bookmark(&mut out, false);
                    }
                }
            }
            Event::Disconnected { .. } => {}
        }
        (out.into(), more)
    }

    fn change(&self, out: &mut Vec<u8>, revision: Revision, change: Change) {
        match change {
            Change::Put { object, before } => {
                let was = before.is_some_and(|b| self.selector.matches(&b));
                match (was, self.selector.matches(&object)) {
                    (false, true) => self.put(out, "ADDED", &object),
                    (true, true) => self.put(out, "MODIFIED", &object),
                    (true, false) => self.put(out, "DELETED", &object),
                    (false, false) => {}
                }
            }
            Change::Delete { key, before } => {
                let mut gone = before.map_or_else(|| super::write::unknown(&key), |b| (*b).clone());
                if self.selector.matches(&gone) {
                    gone.metadata.resource_version = Some(revision.to_string());
                    self.put(out, "DELETED", &gone);
                }
            }
            Change::Liveness { .. } | Change::Rollout { .. } | Change::Undecodable(_) => {}
        }
    }

    fn put(&self, out: &mut Vec<u8>, event: &str, object: &Object) {
        let status = self.app.local_status_of(object);
        let body = match self.rendering {
            Rendering::Table => {
                let metadata = json!({"resourceVersion": object.metadata.resource_version});
                present::table(&self.of, &[(object, status)], self.include, &metadata)
            }
            Rendering::Metadata => present::partial(object),
            _ => present::object(&self.of, object, status),
        };
        line(out, event, &body);
    }

    fn bookmark(&self, out: &mut Vec<u8>, initial_end: bool) {
        let mut metadata =
            json!({"resourceVersion": self.last.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let body = match self.rendering {
            Rendering::Table => {
                let row = json!({"cells": [], "object": {
                    "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                }});
                let metadata = json!({"resourceVersion": self.last.to_string()});
                let mut table = present::table(&self.of, &[], self.include, &metadata);
                if initial_end {
                    table["rows"] = json!([row]);
                }
                table
            }
            Rendering::Metadata => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
            }
            _ => {
                json!({"kind": self.of.kind.name(), "apiVersion": self.of.api_version(), "metadata": metadata})
            }
        };
        line(out, "BOOKMARK", &body);
    }

    /// What a watch says before it ends in order.
    fn last_bookmark(&self) -> Bytes {
        let mut out = Vec::new();
        if self.bookmarks && !self.awaiting_initial {
            self.bookmark(&mut out, false);
        }
        out.into()
    }
}

pub(super) fn line(out: &mut Vec<u8>, event: &str, object: &Value) {
    serde_json::to_writer(&mut *out, &json!({"type": event, "object": object}))
        .expect("a JSON value always serialises into memory");
    out.push(b'\n');
}
