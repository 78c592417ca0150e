//! What every handler has at hand.
//!
//! *Invariant:* no state of the mesh is owned here; the store has it, and the view follows the store.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use model::{Key, Kind, Object, Revision};
use serde_json::Value;
use store::{Author, Entries, Member, Op, Store, Vault};
use telemetry::trace::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::condition::{self, About, Said};
use crate::config::Config;
use crate::healthz::Healthz;
use crate::http::limits::Limits;
use crate::http::status::Status;
use crate::liveness::{Beat, Peers};
use crate::pushers::Pushers;
use crate::rollouts;
use crate::trace;
use crate::view::View;

/// How long the view may take to show what this replica wrote, before an answer is given without it.
const CATCH_UP: Duration = Duration::from_secs(5);

/// The shared state of the service.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) store: Arc<dyn Store>,
    /// The same store, where the values are that it does not understand.
    pub(crate) vault: Arc<dyn Vault>,
    pub(crate) limits: Limits,
    pub(crate) view: watch::Receiver<View>,
    pub(crate) pushers: Pushers,
    /// What proxies acknowledged of mutual TLS; `None` before it was read.
    pub(crate) modes: watch::Receiver<Option<Entries>>,
    /// The live replicas of the certificate issuer.
    pub(crate) issuers: watch::Receiver<Vec<Member>>,
    pub(crate) healthz: Healthz,
    pub(crate) peers: Peers,
    pub(crate) beats: mpsc::Sender<Beat>,
    pub(crate) shutdown: CancellationToken,
    /// The newest revision that this replica committed.
    pub(crate) committed: AtomicI64,
}

impl App {
    /// Commits in a span of its own, and remembers the revision so that the view can be waited for.
    pub(crate) async fn commit(&self, ops: Vec<Op>, author: Author) -> store::Result<Revision> {
        let exposed = ops.iter().any(|op| {
            matches!(op, Op::Put { object, .. } if object.kind.is_secret() && object.spec.get("privateKey").is_some())
        });
        assert!(!exposed, "a private key is sealed before it is written");
        let (cx, author) = trace::transaction(&ops, author);
        let outcome = self.store.commit(ops, author).with_context(cx.clone());
        let outcome = outcome.await;
        trace::committed(&cx, &outcome);
        let revision = outcome?;
        self.committed.fetch_max(revision.0, Ordering::Relaxed);
        Ok(revision)
    }

    /// The view once it holds what this replica wrote; as it is after [`CATCH_UP`], or at once if it cannot be kept up to date.
    pub(crate) async fn fresh_view(&self) -> View {
        let committed = Revision(self.committed.load(Ordering::Relaxed));
        let mut view = self.view.clone();
        let caught_up = view.wait_for(|v| v.revision >= committed || v.stale.is_some());
        match tokio::time::timeout(CATCH_UP, caught_up).await {
            Ok(Ok(view)) => view.clone(),
            _ => self.view.borrow().clone(),
        }
    }

    /// The view once it holds everything that was committed before this call, by whichever replica.
    pub(crate) async fn current_view(&self) -> Result<View, Status> {
        let now = self.store.last_commit().await?;
        let mut view = self.view.clone();
        let caught_up = view.wait_for(|view| view.revision >= now);
        match tokio::time::timeout(CATCH_UP, caught_up).await {
            Ok(Ok(view)) => Ok(view.clone()),
            _ => Err(Status::unavailable(
                "this replica does not know yet what others wrote",
            )),
        }
    }

    /// The status of an object, as far as it is known without asking the pushers. What was written a moment ago may be missing
    /// in it; the next event tells.
    pub(crate) fn local_status_of(&self, object: &Object) -> Option<Value> {
        // Copied first: the analysis must not hold the view's lock.
        let view = self.view.borrow().clone();
        let delivery = rollouts::holding(&view, &object.key()).map(|it| condition::delivery(it));
        condition::local(object, &view.analyse(object), delivery)
    }

    /// The status of an object.
    pub(crate) async fn status_of(&self, object: &Object) -> Option<Value> {
        let metadata = &object.metadata;
        let about = About {
            kind: object.kind.name(),
            namespace: &metadata.namespace,
            name: &metadata.name,
        };
        let said = Said::ask(&self.pushers, about).await;
        let of_it = said.by_key().remove(&object.key()).unwrap_or_default();
        let view = self.fresh_view().await;
        let delivery = rollouts::holding(&view, &object.key()).map(|it| condition::delivery(it));
        said.of(object, &of_it, &view.analyse(object), delivery)
    }

    /// That a resource is delivered gradually, if it is.
    pub(crate) fn delivery_of(&self, key: &Key) -> Option<Value> {
        let view = self.view.borrow();
        rollouts::holding(&view, key).map(|it| condition::delivery(it))
    }

    /// The status of each of these objects of one kind.
    pub(crate) async fn statuses_of(
        &self,
        objects: &[Arc<Object>],
        kind: Kind,
        namespace: Option<&str>,
    ) -> HashMap<Key, Value> {
        let about = About {
            kind: kind.name(),
            namespace: namespace.unwrap_or_default(),
            name: "",
        };
        let said = Said::ask(&self.pushers, about).await;
        let by_key = said.by_key();
        let view = self.fresh_view().await;
        let status = |object: &Arc<Object>| {
            let key = object.key();
            let of_it = by_key.get(&key).map(Vec::as_slice).unwrap_or_default();
            let delivery = rollouts::holding(&view, &key).map(|it| condition::delivery(it));
            Some((
                key,
                said.of(object, of_it, &view.analyse(object), delivery)?,
            ))
        };
        objects.iter().filter_map(status).collect()
    }

    /// What has happened to resources lately, as core/v1 events; of one namespace, or of all.
    pub(crate) async fn events(&self, namespace: Option<&str>) -> Vec<Value> {
        let about = About {
            namespace: namespace.unwrap_or_default(),
            ..About::default()
        };
        let said = Said::ask(&self.pushers, about).await;
        let view = self.view.borrow().clone();
        said.events(|key| Some(view.objects.get(key)?.metadata.uid.clone()))
    }
}
