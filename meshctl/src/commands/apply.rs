//! `meshctl apply`: manifests to one transaction.
//!
//! *Invariant:* everything goes to the server in one request, so that all of it takes effect or none.

use reqwest::Method;
use serde_json::{Value, json};

use super::Context;
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
    let answer = send(context, request, &documents).await?;
    report(context, &answer, apply.dry_run, apply.output)?;
    Ok(Exit::Success)
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
