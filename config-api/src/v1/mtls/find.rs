//! Which service a name means.
//!
//! *Invariant:* a name that could mean several means none.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::StatusCode;
use model::mesh::Service;

use crate::http::status::{Cause, Result, Status};
use crate::view::View;

/// How many names are proposed.
const NEAR: usize = 3;

/// The service that a host means, or the beginning of one up to a dot (`orders`, `orders.shop`).
pub(super) fn service<'a>(name: &str, services: &'a [Arc<Service>]) -> Result<&'a Service> {
    let wanted = name.trim_end_matches('.').to_ascii_lowercase();
    let begins = |service: &&Arc<Service>| {
        let rest = service.host.strip_prefix(&wanted);
        rest.is_some_and(|rest| rest.starts_with('.'))
    };
    let mut found: Vec<_> = (services.iter())
        .filter(|service| *service.host == *wanted)
        .collect();
    if found.is_empty() {
        found = services.iter().filter(begins).collect();
    }
    match found.as_slice() {
        [] => Err(unknown(name, services)),
        [service] => Ok(service),
        several => Err(ambiguous(name, several)),
    }
}

/// A name of the service that means it in its namespace.
pub(super) fn name<'a>(service: &'a Service, view: &View) -> &'a str {
    let domain = format!(".{}.{}", service.namespace(), view.mesh.domain());
    let short = service.host.strip_suffix(&domain);
    short.unwrap_or(&service.host)
}

fn unknown(name: &str, services: &[Arc<Service>]) -> Status {
    let first = |service: &Arc<Service>| {
        let label = service.host.split('.').next().filter(|label| *label != "*");
        label.map(str::to_owned)
    };
    let names = services.iter().filter_map(first);
    let names: BTreeSet<String> = names
        .chain(services.iter().map(|service| service.host.to_string()))
        .collect();
    let near = model::near(name, names.iter().map(String::as_str));
    let hint = match &near[..near.len().min(NEAR)] {
        [] => "; /v1/mtls lists them".into(),
        near => format!("; did you mean {}?", near.join(" or ")),
    };
    Status::new(
        StatusCode::NOT_FOUND,
        "NotFound",
        format!("there is no service {name:?} in the namespaces you may read{hint}"),
    )
}

fn ambiguous(name: &str, candidates: &[&Arc<Service>]) -> Status {
    let described = |service: &&Arc<Service>| {
        format!("{} in the namespace {}", service.host, service.namespace())
    };
    let list: Vec<String> = candidates.iter().map(described).collect();
    let causes = candidates
        .iter()
        .zip(&list)
        .map(|(service, described)| Cause {
            reason: "Ambiguous",
            message: format!(
                "{described}: /v1/mtls/{}?namespace={}",
                service.host,
                service.namespace()
            ),
            field: "service".into(),
        });
    let message = format!(
        "{name:?} could be any of {}; give the full name, or ?namespace=",
        list.join(", ")
    );
    Status::new(StatusCode::CONFLICT, "Conflict", message).because(causes.collect())
}

#[cfg(test)]
mod tests;
