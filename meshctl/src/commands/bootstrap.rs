//! `meshctl bootstrap`: what an Envoy starts with.

use clap::ValueEnum;
use model::Kind;
use reqwest::Method;

use super::{Context, hint};
use crate::cli::Bootstrap;
use crate::client::Request;
use crate::error::{Error, Exit};
use crate::target::{Resource, Target};

pub(super) async fn run(context: &mut Context<'_>, bootstrap: &Bootstrap) -> Result<Exit, Error> {
    let path = [
        "v1",
        "namespaces",
        context.namespace(),
        "workloads",
        &bootstrap.workload,
        "bootstrap",
    ];
    let mut request = Request::of(Method::POST, &path)
        .with("variant", word(&bootstrap.variant))
        .with("adminAddress", bootstrap.admin_address.to_string())
        .with("adminPort", bootstrap.admin_port.to_string());
    if let Some(kind) = &bootstrap.r#type {
        request = request.with("type", word(kind));
    }
    let answer = match context.send(request).await {
        Ok(answer) => answer.body,
        Err(error) => {
            let workload = Target {
                resource: Resource::Kind(Kind::WorkloadEntry),
                name: Some(bootstrap.workload.clone()),
            };
            return Err(hint::not_found(context, context.namespace(), &workload, error).await);
        }
    };
    context.out.value(&answer, bootstrap.output.into())?;
    Ok(Exit::Success)
}

/// A choice as it is written.
fn word(choice: &impl ValueEnum) -> String {
    choice
        .to_possible_value()
        .expect("no choice is hidden")
        .get_name()
        .to_owned()
}
