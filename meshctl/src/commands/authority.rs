//! `meshctl ca`: the certificate authority's state, and what operators ask of it.

use reqwest::Method;
use serde_json::json;

use super::Context;
use crate::cli::Ca;
use crate::client::Request;
use crate::error::{Error, Exit};
use crate::render::authority;

const PATH: [&str; 2] = ["v1", "ca"];

pub(super) async fn run(context: &mut Context<'_>, ca: &Ca) -> Result<Exit, Error> {
    let body = match ca {
        Ca::Status(status) => {
            let answer = context.send(Request::get(&PATH)).await?.body;
            match status.output.structured() {
                Some(form) => context.out.value(&answer, form)?,
                None => context
                    .out
                    .text(&authority::status(&answer, context.out.style))?,
            }
            return Ok(Exit::Success);
        }
        Ca::RotateIssuing => json!({"step": "rotateIssuing"}),
        Ca::RotateRoot => json!({"step": "rotateRoot"}),
        Ca::RevokeRoot { name } => json!({"step": "revokeRoot", "name": name}),
    };
    let answer = context
        .send(Request::of(Method::POST, &PATH).body(body))
        .await?
        .body;
    let table = authority::status(&answer, context.out.style);
    context.out.text(&table)?;
    Ok(Exit::Success)
}
