//! `meshctl diff`: what apply would change, as unified diffs.

use reqwest::Method;

use super::{Context, apply};
use crate::cli::Diff;
use crate::client::Request;
use crate::error::{Error, Exit};
use crate::render::{diff, items, preview, text};

pub(super) async fn run(context: &mut Context<'_>, diff: &Diff) -> Result<Exit, Error> {
    let documents = apply::documents(context, &diff.files)?;
    let request = Request::of(Method::POST, &["v1", "diff"])
        .maybe("xds", diff.xds.then_some("true"))
        .body(apply::list(&documents));
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
    let same = out.is_empty();
    if diff.xds {
        out += &preview::classes(&answer["xds"], context.out.style);
    }
    context.out.text(&out)?;
    Ok(if same { Exit::Success } else { Exit::Failure })
}
