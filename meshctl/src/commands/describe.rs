//! `meshctl describe`: one resource, what happened to it, and who changed it.

use super::{Context, hint, history};
use crate::cli::Describe;
use crate::client::Request;
use crate::error::{Error, Exit};
use crate::render::{self, describe, items};
use crate::target::{self, Resource, Target};

/// How many changes of its history a resource is shown with.
const CHANGES: u32 = 5;

pub(super) async fn run(context: &mut Context<'_>, describe: &Describe) -> Result<Exit, Error> {
    let mut pages = Vec::new();
    for (resource, name) in target::named(&describe.targets)? {
        let namespace = context.namespace().to_owned();
        let path = resource.path(Some(&namespace), Some(&name));
        let object = match context.send(Request::get(&path)).await {
            Ok(answer) => answer.body,
            Err(error) => {
                let target = Target {
                    resource,
                    name: Some(name),
                };
                return Err(hint::not_found(context, &namespace, &target, error).await);
            }
        };
        let (mut events, mut changes) = (Vec::new(), String::new());
        if let Resource::Kind(kind) = resource {
            let about = format!(
                "involvedObject.kind={},involvedObject.name={name}",
                kind.name()
            );
            let request = Request::get(&["api", "v1", "namespaces", &namespace, "events"])
                .with("fieldSelector", about);
            events = items(&context.send(request).await?.body["items"]).to_vec();
            let answer = context
                .send(history::request(Some((kind, &namespace, &name)), CHANGES))
                .await?
                .body;
            changes = render::changes::history(&answer, context.out.style);
        }
        pages.push(describe::page(
            &object,
            &events,
            &changes,
            context.out.style,
        ));
    }
    context.out.text(&pages.join("\n\n"))?;
    Ok(Exit::Success)
}
