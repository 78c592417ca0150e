//! Bodies of many documents: YAML streams, JSON lists, and `List` objects in either.
//!
//! *Invariant:* a fault in one document is told with its place, and with the faults of all others.

use std::sync::Arc;

use http::HeaderMap;
use model::Kind;
use serde_json::Value;

use super::batch::Step;
use crate::http::body::{self, Media};
use crate::http::query::{FieldValidation, parse_resource_version};
use crate::http::status::{Cause, Result, Status};
use crate::k8s::admit::{Admitted, Place, admit};
use crate::k8s::target::not_supported;
use crate::k8s::write::Precondition;
use crate::secrets::Origin;

/// The most documents of one request; a transaction takes far fewer unless etcd's limits were raised.
const MOST: usize = 10_000;

/// The documents of a body, as steps, and what is to be warned about.
pub(super) fn steps(
    headers: &HeaderMap,
    body: &[u8],
    validation: FieldValidation,
    namespace: &str,
) -> Result<(Vec<Step>, Vec<String>)> {
    let documents = parse(headers, body)?;
    if documents.is_empty() {
        return Err(Status::bad_request(
            "the body holds no document; send resources as YAML or JSON",
        ));
    }
    let (mut steps, mut warnings, mut refusals) = (Vec::new(), Vec::new(), Vec::new());
    for (index, document) in documents.into_iter().enumerate() {
        match step(document, validation, namespace) {
            Ok((step, more)) => {
                warnings.extend(
                    more.into_iter()
                        .map(|w| format!("items[{index}] {}: {w}", step.key())),
                );
                steps.push(step);
            }
            Err(refusal) => refusals.push((index, refusal)),
        }
    }
    match refusals.len() {
        0 => Ok((steps, warnings)),
        _ => Err(refuse(refusals)),
    }
}

fn parse(headers: &HeaderMap, bytes: &[u8]) -> Result<Vec<Value>> {
    let text = body::text(bytes)?;
    if Media::document(headers)? == Media::Json && !text.trim_start().starts_with('{') {
        return Err(Status::bad_request(
            "the JSON body must be an object: a resource or a List of them; for YAML say content-type: application/yaml",
        ));
    }
    let documents =
        model::documents(text).map_err(|e| Status::bad_request(format!("the body: {e}")))?;
    if documents.len() > MOST {
        return Err(Status::too_large(format!(
            "{} documents in one request, the limit is {MOST}",
            documents.len()
        )));
    }
    Ok(documents)
}

fn step(
    document: Value,
    validation: FieldValidation,
    namespace: &str,
) -> Result<(Step, Vec<String>)> {
    let text = |pointer: &str| {
        document
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let (api_version, kind) = (text("/apiVersion"), text("/kind"));
    for (field, value) in [("apiVersion", api_version), ("kind", kind)] {
        if value.is_empty() {
            return Err(fault(
                field,
                "Required value: every document says its apiVersion and kind",
            ));
        }
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let Some(kind) = Kind::from_gvk(group, version, kind) else {
        return Err(fault(
            "kind",
            &format!(
                "Unsupported value: {kind:?} in {api_version:?}: no such kind here; /apis lists what is"
            ),
        ));
    };
    if !kind.supported() {
        return Err(not_supported(kind));
    }
    let own = text("/metadata/namespace");
    let namespace: Arc<str> = if own.is_empty() { namespace } else { own }.into();
    let place = Place {
        kind,
        namespace,
        name: None,
    };
    let Admitted { object, warnings } = admit(&place, document, validation)?;
    let precondition = match object.metadata.resource_version.as_deref() {
        None | Some("" | "0") => Precondition::Any,
        Some(version) => Precondition::At(parse_resource_version(version)?),
    };
    Ok((
        Step::Put {
            object,
            precondition,
            origin: Origin::Asked,
        },
        warnings,
    ))
}

fn fault(field: &str, message: &str) -> Status {
    let cause = Cause {
        reason: "FieldValueInvalid",
        message: message.into(),
        field: field.into(),
    };
    Status::bad_request(format!("{field}: {message}")).because(vec![cause])
}

/// One refusal of all documents that are at fault.
fn refuse(refusals: Vec<(usize, Status)>) -> Status {
    let code = refusals[0].1.code();
    let mut causes = Vec::new();
    let mut messages = Vec::new();
    for (index, refusal) in refusals {
        messages.push(format!("items[{index}]: {refusal}"));
        let own = refusal.causes();
        if own.is_empty() {
            let field = format!("items[{index}]");
            causes.push(Cause {
                reason: "FieldValueInvalid",
                message: refusal.to_string(),
                field,
            });
        }
        causes.extend(own.iter().map(|c| Cause {
            field: format!("items[{index}].{}", c.field),
            ..c.clone()
        }));
    }
    Status::new(
        code,
        "Invalid",
        format!("nothing was changed: {}", messages.join("; ")),
    )
    .because(causes)
}
