//! Rules of the header operations of `VirtualService`.
//!
//! *Invariant:* what is accepted here, Envoy accepts too.

use super::{Findings, Path, names};
use crate::spec::{HeaderOperations, Headers, HttpRoute};

/// Checks what a `headers` block changes.
pub(super) fn operations(value: Option<&Headers>, path: &Path, findings: &mut Findings) {
    let Some(value) = value else { return };
    for (field, operations) in [("request", &value.request), ("response", &value.response)] {
        if let Some(operations) = operations {
            let request = field == "request";
            one(operations, request, &path.at("headers").at(field), findings);
        }
    }
}

fn one(value: &HeaderOperations, request: bool, path: &Path, findings: &mut Findings) {
    for (field, map) in [("set", &value.set), ("add", &value.add)] {
        for (name, value) in map {
            let path = path.at(field).at(name);
            let changeable = changeable(name, request);
            findings.rule(&path, changeable.and_then(|()| names::header_value(value)));
        }
    }
    for (path, name) in path.each("remove", &value.remove) {
        findings.rule(&path, changeable(name, false));
    }
}

/// Envoy changes no pseudo header; setting a request's authority rewrites its host.
fn changeable(name: &str, authority: bool) -> Result<(), String> {
    if (name.starts_with(':') || name.eq_ignore_ascii_case("host"))
        && !(authority && is_authority(name))
    {
        return Err(
            "cannot be changed here; only a request's :authority or host can be set".into(),
        );
    }
    names::header(name)
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

/// The authority is rewritten in one place of a route.
pub(super) fn authority(route: &HttpRoute, path: &Path, findings: &mut Findings) {
    let request = route.headers.as_ref().and_then(|it| it.request.as_ref());
    let names = request
        .into_iter()
        .flat_map(|it| it.set.keys().chain(it.add.keys()));
    let rewrite = route
        .rewrite
        .as_ref()
        .is_some_and(|it| it.authority.is_some());
    let several = names.filter(|name| is_authority(name)).count() + usize::from(rewrite) > 1;
    findings.ensure(
        !several,
        &path.at("headers.request"),
        "sets the authority that rewrite.authority or another header sets too; keep one",
    );
}
