//! `meshctl mtls`: which services take mutual TLS, by which policy and since when.

use super::Context;
use crate::cli::Mtls;
use crate::client::Request;
use crate::error::{Error, Exit};
use crate::render::{items, mtls};

pub(super) async fn run(context: &mut Context<'_>, wanted: &Mtls) -> Result<Exit, Error> {
    let path = ["v1", "mtls"].into_iter().chain(wanted.service.as_deref());
    let path: Vec<&str> = path.collect();
    let mut request = Request::get(&path);
    if let Some(namespace) = &context.explicit {
        request = request.with("namespace", namespace);
    }
    let answer = context.send(request).await?.body;
    if let Some(form) = wanted.output.structured() {
        context.out.value(&answer, form)?;
        return Ok(Exit::Success);
    }
    let services = match wanted.service {
        Some(_) => std::slice::from_ref(&answer),
        None => items(&answer["services"]),
    };
    if services.is_empty() {
        context.out.note("There is no service.");
    }
    let text = mtls::table(services, context.out.style);
    context.out.text(&text)?;
    Ok(Exit::Success)
}
