//! `meshctl shards`: which pusher serves which proxies.

use super::Context;
use crate::cli::Shards;
use crate::client::Request;
use crate::error::{Error, Exit};
use crate::render::shards;

pub(super) async fn run(context: &mut Context<'_>, wanted: &Shards) -> Result<Exit, Error> {
    let answer = context.send(Request::get(&["v1", "shards"])).await?.body;
    match wanted.output.structured() {
        Some(form) => context.out.value(&answer, form)?,
        None => context
            .out
            .text(&shards::table(&answer, context.out.style))?,
    }
    Ok(Exit::Success)
}
