//! `meshctl apply`: manifests to one transaction.
//!
//! *Invariant:* everything goes to the server in one request, so that all of it takes effect or none.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Context, wait};
use crate::cli::{Apply, DryRun, Files, Form};
use crate::client::Request;
use crate::error::{Error, Exit};
use crate::manifest::{self, Document};
use crate::render::{changes, items, text};
use crate::{input, refusal};

pub(super) async fn run(context: &mut Context<'_>, apply: &Apply) -> Result<Exit, Error> {
    let documents = documents(context, &apply.files)?;
    let mut request = Request::of(Method::POST, &["v1", "apply"]).body(list(&documents));
    if apply.dry_run.is_on() {
        request = request.with("dryRun", "All");
    }
    request = request.maybe("gradual", apply.gradual.as_deref());
    request = request.maybe("rollback", apply.rollback.then_some("true"));
    let deadline = apply.deadline.map(|it| format!("{}ms", it.as_millis()));
    request = request.maybe("deadline", deadline.as_deref());
    let answer = send(context, request, &documents).await?;
    report(context, &answer, apply.dry_run, apply.output)?;
    if !apply.wait {
        return Ok(Exit::Success);
    }
    let revision = text(&answer["revision"]);
    wait::until_reached(context, &revision, apply.timeout, None).await
}

/// Tells what a transaction changed, or would change.
pub(super) fn report(
    context: &mut Context<'_>,
    answer: &Value,
    dry_run: DryRun,
    form: Option<Form>,
) -> Result<(), Error> {
    match form {
        Some(form) => context.out.value(answer, form.into()),
        None => context.out.text(&changes::outcome(
            answer,
            dry_run.is_on(),
            context.out.style,
        )),
    }
}

/// Sends documents; what the server has to say of them is told with their places.
pub(super) async fn send(
    context: &mut Context<'_>,
    request: Request,
    documents: &[Document],
) -> Result<Value, Error> {
    context.out.progress(&format!(
        "sending {} resources to {} …",
        documents.len(),
        context.client.server()
    ));
    let answer = context.client.send(request).await;
    context.out.progress("");
    let answer = answer
        .map_err(|e| refusal::placed(e.into(), documents))?
        .body;
    for warning in items(&answer["warnings"]) {
        context
            .out
            .warning(&refusal::placed_warning(&text(warning), documents));
    }
    Ok(answer)
}

/// The documents that `-f` names, each with its namespace.
pub(super) fn documents(context: &Context<'_>, files: &Files) -> Result<Vec<Document>, Error> {
    let mut documents = manifest::documents(&input::read(&files.filename)?)?;
    for document in &mut documents {
        document.set_namespace(context.namespace(), context.explicit.is_some())?;
    }
    Ok(documents)
}

/// The documents as one body.
pub(super) fn list(documents: &[Document]) -> Value {
    let items: Vec<&Value> = documents.iter().map(|d| &d.value).collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}
