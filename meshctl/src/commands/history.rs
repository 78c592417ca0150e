//! `meshctl history` and `meshctl rollback`: what was, and back to it.

use model::Kind;
use reqwest::Method;
use serde_json::json;

use super::{Context, apply};
use crate::cli::{History, Rollback};
use crate::client::Request;
use crate::error::{Error, Exit};
use crate::render::changes;
use crate::target;

pub(super) async fn run(context: &mut Context<'_>, history: &History) -> Result<Exit, Error> {
    let chosen = one(&history.target, "show the history of")?;
    let about = chosen
        .as_ref()
        .map(|(kind, name)| (*kind, context.namespace(), name.as_str()));
    let request = request(about, history.limit);
    let answer = context.send(request).await?.body;
    let table = changes::history(&answer, context.out.style);
    match history.output {
        Some(form) => context.out.value(&answer, form.into())?,
        None if table.is_empty() => context.out.note("No changes are on record."),
        None => context.out.text(&table)?,
    }
    Ok(Exit::Success)
}

pub(super) async fn rollback(
    context: &mut Context<'_>,
    rollback: &Rollback,
) -> Result<Exit, Error> {
    let mut body = json!({});
    if let Some((kind, name)) = one(&rollback.target, "roll back")? {
        body = json!({"kind": kind.name(), "namespace": context.namespace(), "name": name});
    }
    if let Some(revision) = rollback.to {
        body["revision"] = revision.to_string().into();
    }
    if let Some(generation) = rollback.to_generation {
        body["generation"] = generation.into();
    }
    let mut request = Request::of(Method::POST, &["v1", "rollback"]).body(body);
    if rollback.dry_run.is_on() {
        request = request.with("dryRun", "All");
    }
    let answer = context.send(request).await?.body;
    apply::report(context, &answer, rollback.dry_run, rollback.output)?;
    Ok(Exit::Success)
}

/// The request for the newest changes to one resource, or to all.
pub(super) fn request(about: Option<(Kind, &str, &str)>, limit: u32) -> Request {
    let path: Vec<&str> = match about {
        Some((kind, namespace, name)) => vec![
            "v1",
            "history",
            kind.group(),
            kind.plural(),
            namespace,
            name,
        ],
        None => vec!["v1", "history"],
    };
    Request::get(&path).with("limit", limit.to_string())
}

/// At most one named resource.
fn one(arguments: &[String], verb: &'static str) -> Result<Option<(Kind, String)>, Error> {
    match target::named(arguments)?.as_slice() {
        [] => Ok(None),
        [(resource, name)] => Ok(Some((resource.kind(verb)?, name.clone()))),
        _ => Err(Error::Usage("name one resource, or none".into())),
    }
}
