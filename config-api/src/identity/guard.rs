//! The guard: every request passes it, and goes on if its caller may do what its route needs.
//!
//! *Invariant:* a route without a need on record is refused; every write and every refusal is in the audit log.

use std::sync::Arc;

use axum::RequestPartsExt;
use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use model::Kind;
use store::Member;
use tokio::sync::watch;
use tracing::{info, warn};

use super::{Caller, Gate, Sites};
use crate::access::{self, Act, Needs, Table, What};
use crate::http::limits::REQUEST_ID;
use crate::http::serve::Connection;
use crate::http::status::{Result, Status};

/// What the guard of a server looks at.
#[derive(Clone)]
pub(crate) struct Guard {
    pub(crate) gate: Arc<Gate>,
    pub(crate) sites: Arc<Sites>,
    pub(crate) needs: Arc<Table>,
    pub(crate) peers: watch::Receiver<Vec<Member>>,
}

/// Lets a request pass if its caller is known and may do what its route needs; records who did, or was not let.
pub(crate) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let matched = parts.extensions.get::<MatchedPath>().cloned();
    let needs = matched.as_ref().map(|path| guard.needs.get(path.as_str()));
    if needs == Some(Some(&Needs::Nothing)) {
        return next.run(Request::from_parts(parts, body)).await;
    }
    let peers = guard.peers.borrow().clone();
    let caller = match guard.sites.check(&parts) {
        Ok(()) => guard.gate.caller(&parts, &peers).await,
        Err(status) => Err(status),
    };
    let caller = match caller {
        Ok(caller) => caller,
        Err(status) => {
            let response = status.into_response();
            audit(&parts, "", &response);
            return response;
        }
    };
    let allowed = match needs {
        // Nothing is there: its fallback says so.
        None => Ok(()),
        Some(None) => Err(Status::internal(
            "this route has no rule of access, so nobody may use it",
        )),
        Some(Some(needs)) => allowed(*needs, &caller, &mut parts).await,
    };
    let who = caller.who.clone();
    let told = Parts::clone(&parts);
    parts.extensions.insert(caller);
    let response = match allowed {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(status) => status.into_response(),
    };
    audit(&told, &who, &response);
    response
}

async fn allowed(needs: Needs, caller: &Caller, parts: &mut Parts) -> Result<()> {
    let (role, somewhere) = match needs {
        Needs::Nothing | Needs::Identity => return Ok(()),
        Needs::Role { read, write } => (Needs::role(read, write, &parts.method), false),
        Needs::Somewhere(role) => (role, true),
    };
    let params = parts.extract::<RawPathParams>().await;
    let param = |name: &str| -> Option<String> {
        let params = params.as_ref().ok()?;
        (params.iter())
            .find(|(n, _)| *n == name)
            .map(|(_, value)| value.to_owned())
    };
    let namespace = param("namespace").filter(|_| !somewhere);
    if somewhere && caller.rights.highest() >= Some(role) {
        return Ok(());
    }
    let kind = match (param("group"), param("version"), param("plural")) {
        (Some(group), Some(version), Some(plural)) => Kind::from_gvr(&group, &version, &plural),
        _ => None,
    };
    let name = param("name");
    let path = parts.uri.path().to_owned();
    let method = parts.method.as_str().to_ascii_lowercase();
    let watch = parts
        .uri
        .query()
        .is_some_and(|query| query.contains("watch="));
    let act = match kind {
        Some(kind) => Act {
            verb: access::verb(&parts.method, name.is_some(), watch),
            what: What::Resource(kind, name.as_deref().unwrap_or_default()),
            namespace: namespace.as_deref(),
            role,
        },
        None => Act {
            verb: &method,
            what: What::Path(&path),
            namespace: namespace.as_deref(),
            role,
        },
    };
    caller.require(&[(act, String::new())])
}

/// The audit log: every write, and everything that was refused. What was changed, from what to what, is in the change
/// record, which was committed before the answer.
fn audit(parts: &Parts, who: &str, response: &Response) {
    let code = response.status();
    let refused = code == StatusCode::UNAUTHORIZED || code == StatusCode::FORBIDDEN;
    if parts.method.is_safe() && !refused {
        return;
    }
    let (method, path) = (&parts.method, parts.uri.path());
    let id = parts
        .headers
        .get(&REQUEST_ID)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let from = parts
        .extensions
        .get::<Connection>()
        .map(|c| c.remote.to_string());
    let from = from.unwrap_or_default();
    let code = code.as_u16();
    if refused {
        warn!(target: "audit", who, %method, path, code, from, id, "refused");
    } else {
        info!(target: "audit", who, %method, path, code, from, id, "write");
    }
}
