//! `meshctl rollout`: changes that are delivered gradually.

use reqwest::Method;
use serde_json::json;

use super::Context;
use crate::cli::Rollout;
use crate::client::Request;
use crate::error::{Error, Exit};
use crate::render::rollout;

pub(super) async fn run(context: &mut Context<'_>, what: &Rollout) -> Result<Exit, Error> {
    let (named, step) = match what {
        Rollout::List(list) => {
            let answer = context.send(Request::get(&["v1", "rollouts"])).await?.body;
            match list.output.structured() {
                Some(form) => context.out.value(&answer, form)?,
                None => (context.out).text(&rollout::list(&answer, context.out.style))?,
            }
            return Ok(Exit::Success);
        }
        Rollout::Get(get) => {
            let revision = get.revision.to_string();
            let request = Request::get(&["v1", "rollouts", &revision]);
            let answer = context.send(request).await?.body;
            match get.output {
                Some(form) => context.out.value(&answer, form.into())?,
                None => (context.out).text(&rollout::outcome(&answer, context.out.style))?,
            }
            return Ok(Exit::Success);
        }
        Rollout::Continue(named) => (named, "continue"),
        Rollout::Abort(named) => (named, "abort"),
    };
    let revision = named.revision.to_string();
    let path = ["v1", "rollouts", &revision, step];
    let answer = context.send(Request::of(Method::POST, &path)).await?.body;
    let table = rollout::list(&json!({"rollouts": [answer]}), context.out.style);
    context.out.text(&table)?;
    Ok(Exit::Success)
}
