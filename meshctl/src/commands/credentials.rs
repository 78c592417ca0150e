//! `meshctl credentials`: which credentials a workload has, and taking them back.

use model::Kind;
use reqwest::Method;

use super::{Context, hint};
use crate::cli::WorkloadCredentials;
use crate::client::{Answer, Request};
use crate::error::{Error, Exit};
use crate::render::{credentials, items, text};
use crate::target::{Resource, Target};

pub(super) async fn run(
    context: &mut Context<'_>,
    what: &WorkloadCredentials,
) -> Result<Exit, Error> {
    match what {
        WorkloadCredentials::List(list) => {
            let answer = ask(context, Method::GET, &list.workload, None).await?.body;
            let table = credentials::table(&answer, context.out.style);
            match list.output.structured() {
                Some(form) => context.out.value(&answer, form)?,
                None if table.is_empty() => context.out.note("The workload has no credential."),
                None => context.out.text(&table)?,
            }
        }
        WorkloadCredentials::Revoke(revoke) if revoke.all => {
            let answer = ask(context, Method::DELETE, &revoke.workload, None).await?;
            revoked(context, &answer)?;
        }
        WorkloadCredentials::Revoke(revoke) => {
            for id in &revoke.ids {
                let answer = ask(context, Method::DELETE, &revoke.workload, Some(id)).await?;
                revoked(context, &answer)?;
            }
        }
    }
    Ok(Exit::Success)
}

fn revoked(context: &mut Context<'_>, answer: &Answer) -> Result<(), Error> {
    let ids = items(&answer.body["revoked"]);
    if ids.is_empty() {
        context.out.note("The workload has no credential.");
    }
    let lines = ids.iter().map(|id| format!("{} revoked\n", text(id)));
    context.out.text(&lines.collect::<String>())
}

async fn ask(
    context: &mut Context<'_>,
    method: Method,
    workload: &str,
    id: Option<&str>,
) -> Result<Answer, Error> {
    let namespace = context.namespace().to_owned();
    let path = [
        "v1",
        "namespaces",
        &namespace,
        "workloads",
        workload,
        "credentials",
    ];
    let path: Vec<&str> = path.into_iter().chain(id).collect();
    match context.send(Request::of(method, &path)).await {
        Err(error) if id.is_none() => {
            let target = Target {
                resource: Resource::Kind(Kind::WorkloadEntry),
                name: Some(workload.to_owned()),
            };
            Err(hint::not_found(context, &namespace, &target, error).await)
        }
        answer => Ok(answer?),
    }
}
