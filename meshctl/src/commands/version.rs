//! `meshctl version`: what is spoken here and there.

use serde_json::json;

use super::Context;
use crate::cli::Version;
use crate::client::Request;
use crate::error::{Error, Exit};
use crate::render::text;

pub(super) async fn run(context: &mut Context<'_>, version: &Version) -> Result<Exit, Error> {
    let client = env!("CARGO_PKG_VERSION");
    let server = match version.client {
        true => None,
        false => Some(context.send(Request::get(&["version"])).await),
    };
    let answer = server
        .as_ref()
        .and_then(|s| s.as_ref().ok())
        .map(|a| a.body.clone());
    match version.output {
        Some(form) => {
            let mut value = json!({"clientVersion": client});
            if let Some(answer) = &answer {
                value["serverVersion"] = answer.clone();
            }
            context.out.value(&value, form.into())?;
        }
        None => {
            let mut lines = format!("meshctl {client}\n");
            if let Some(answer) = &answer {
                lines += &format!(
                    "server  {} ({})\n",
                    text(&answer["gitVersion"]).trim_start_matches('v'),
                    context.client.server()
                );
            }
            context.out.text(&lines)?;
        }
    }
    match server {
        Some(Err(error)) => Err(error),
        _ => Ok(Exit::Success),
    }
}
