//! `meshctl diff`: what apply would change, as unified diffs.

use reqwest::Method;

use super::{Context, apply};
use crate::cli::Diff;
use crate::client::Request;
use crate::error::{Error, Exit};
use crate::render::{diff, items, text};

pub(super) async fn run(context: &mut Context<'_>, diff: &Diff) -> Result<Exit, Error> {
    let documents = apply::documents(context, &diff.files)?;
    let request = Request::of(Method::POST, &["v1", "diff"]).body(apply::list(&documents));
    let answer = apply::send(context, request, &documents).await?;
    let mut out = String::new();
    for change in items(&answer["results"]) {
        let title = format!(
            "{} {}/{}",
            text(&change["kind"]),
            text(&change["namespace"]),
            text(&change["name"])
        );
        out += &diff::unified(
            &title,
            &change["before"],
            &change["after"],
            context.out.style,
        );
    }
    context.out.text(&out)?;
    Ok(if out.is_empty() {
        Exit::Success
    } else {
        Exit::Failure
    })
}
