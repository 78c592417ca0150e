//! `meshctl delete`: resources by name or by manifest.
//!
//! *Invariant:* every manifest is read before the first resource is deleted.

use model::Kind;
use reqwest::Method;

use super::{Context, hint};
use crate::cli::Delete;
use crate::client::Request;
use crate::error::{Error, Exit};
use crate::style::Tone;
use crate::target::{self, Resource, Target};
use crate::{input, manifest};

pub(super) async fn run(context: &mut Context<'_>, delete: &Delete) -> Result<Exit, Error> {
    let mut exit = Exit::Success;
    for (kind, namespace, name) in chosen(context, delete)? {
        let resource = Resource::Kind(kind);
        let mut request = Request::of(
            Method::DELETE,
            &resource.path(Some(&namespace), Some(&name)),
        );
        if delete.dry_run.is_on() {
            request = request.with("dryRun", "All");
        }
        match context.send(request).await {
            Ok(_) => {
                let done = context.out.style.paint(Tone::Bad, "deleted");
                let dry = if delete.dry_run.is_on() {
                    " (dry run)"
                } else {
                    ""
                };
                context
                    .out
                    .text(&format!("{kind} {namespace}/{name} {done}{dry}\n"))?;
            }
            Err(Error::Client(error)) if delete.ignore_not_found && error.is_not_found() => {}
            // A refusal says nothing about the next resource; a server that is away says it about all.
            Err(Error::Client(error)) if !error.is_unavailable() => {
                let target = Target {
                    resource,
                    name: Some(name),
                };
                let error = hint::not_found(context, &namespace, &target, error.into()).await;
                context.out.error(&error);
                exit = Exit::Failure;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(exit)
}

/// What to delete: kind, namespace and name of each.
fn chosen(context: &Context<'_>, delete: &Delete) -> Result<Vec<(Kind, String, String)>, Error> {
    if delete.filename.is_empty() {
        let named = target::named(&delete.targets)?.into_iter();
        return named
            .map(|(r, name)| Ok((r.kind("delete")?, context.namespace().to_owned(), name)))
            .collect();
    }
    let mut documents = manifest::documents(&input::read(&delete.filename)?)?;
    let mut chosen = Vec::new();
    for document in &mut documents {
        document.set_namespace(context.namespace(), context.explicit.is_some())?;
        let kind = document.kind()?;
        match (document.namespace(), document.name()) {
            (Some(namespace), Some(name)) => {
                chosen.push((kind, namespace.to_owned(), name.to_owned()))
            }
            _ => return Err(document.lacks("metadata.name").into()),
        }
    }
    // What was declared last may depend on what was declared first.
    chosen.reverse();
    Ok(chosen)
}
