//! Bodies to resources: the envelope, the metadata, and the model's own rules.
//!
//! *Invariant:* what passes here is valid by itself; whether what it refers to exists is only ever a warning.

use std::sync::Arc;

use jiff::Timestamp;
use model::{FieldError, Kind, Metadata, Object, Reason, Spec, Treat};
use serde_json::{Map, Value};

use super::{names, schema};
use crate::http::query::FieldValidation;
use crate::http::status::{Cause, Result, Status};
use crate::liveness::{TTL, parse_ttl};
use crate::secrets;

/// A resource that may be stored, and what is to be said about it.
#[derive(Clone, Debug)]
pub(crate) struct Admitted {
    pub(crate) object: Object,
    pub(crate) warnings: Vec<String>,
}

/// Where a body must belong.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) kind: Kind,
    pub(crate) namespace: Arc<str>,
    /// The name in the URL, if there is one.
    pub(crate) name: Option<Arc<str>>,
}

/// The resource in this body, for this place.
pub(crate) fn admit(place: &Place, body: Value, validation: FieldValidation) -> Result<Admitted> {
    let Value::Object(mut body) = body else {
        return Err(Status::bad_request(
            "the body must be one object with apiVersion, kind, metadata and spec",
        ));
    };
    let kind = place.kind;
    envelope(kind, &body)?;
    let mut strict = Strict::default();
    let mut metadata = metadata(body.remove("metadata").unwrap_or_default(), &mut strict)?;
    locate(place, &mut metadata)?;
    let spec = body
        .remove("spec")
        .unwrap_or_else(|| Value::Object(Map::new()));
    for field in ["apiVersion", "kind", "status"] {
        body.remove(field);
    }
    for field in body.keys() {
        strict.unknown(field.clone());
    }
    names::check(kind, &metadata)?;
    let mut faults = Vec::new();
    if let (Kind::WorkloadEntry, Some(ttl)) = (kind, metadata.annotations.get(TTL)) {
        faults.extend(parse_ttl(ttl).err().map(|message| Cause {
            reason: "FieldValueInvalid",
            message,
            field: format!("metadata.annotations[{TTL}]"),
        }));
    }
    if kind.is_secret() {
        faults.extend(secrets::admit(&mut metadata, &spec));
    }
    if !spec.is_object() {
        let message = match kind.is_secret() {
            true => "must be an object".to_owned(),
            false => format!("{spec}: must be an object"),
        };
        faults.push(Cause {
            reason: "FieldValueTypeInvalid",
            message,
            field: "spec".into(),
        });
    }
    let name = metadata.name.clone();
    let checked = if faults.is_empty() {
        model::check(
            Object {
                kind,
                metadata,
                spec,
            },
            options(validation),
        )
    } else {
        Err(Vec::new())
    };
    let mut warnings = Vec::new();
    match checked {
        Ok(checked) => {
            warnings.extend(strict.settle(kind, validation)?);
            warnings.extend(checked.warnings);
            if let Spec::TlsSecret(secret) = &checked.resource.spec {
                warnings.extend(secret.remarks(Timestamp::now()));
            }
            Ok(Admitted {
                object: checked.object,
                warnings,
            })
        }
        Err(errors) => Err(refuse(kind, &name, strict, faults, &errors, validation)),
    }
}

fn options(validation: FieldValidation) -> model::Options {
    let treat = match validation {
        FieldValidation::Strict => Treat::Refuse,
        FieldValidation::Warn => Treat::Warn,
        FieldValidation::Ignore => Treat::Ignore,
    };
    // What has no effect yet is never stored in silence.
    let unsupported = if treat == Treat::Ignore {
        Treat::Warn
    } else {
        treat
    };
    model::Options {
        unknown: treat,
        unsupported,
    }
}

/// One refusal for everything that is wrong. Where all of it is unknown fields, it is Kubernetes' strict decoding error.
fn refuse(
    kind: Kind,
    name: &str,
    mut strict: Strict,
    mut faults: Vec<Cause>,
    errors: &[FieldError],
    validation: FieldValidation,
) -> Status {
    let unknown_only = faults.is_empty() && errors.iter().all(|e| e.reason == Reason::Unknown);
    let causes = errors.iter().cloned().map(Cause::from);
    if unknown_only {
        strict.0.extend(causes.map(|c| {
            (
                c.field.clone(),
                format!("unknown field \"{}\" ({})", c.field, c.message),
            )
        }));
        return strict
            .settle(kind, FieldValidation::Strict)
            .expect_err("there is at least one unknown field");
    }
    faults.extend(causes);
    if validation == FieldValidation::Strict {
        faults.extend(strict.causes());
    }
    Status::invalid(kind, name, faults)
}

fn envelope(kind: Kind, body: &Map<String, Value>) -> Result<()> {
    let text = |field: &str| match body.get(field) {
        Some(Value::String(s)) if !s.is_empty() => Ok(s.as_str()),
        Some(other) => Err(Status::bad_request(format!(
            "{field}: {other} must be a string"
        ))),
        None => Err(Status::bad_request(format!(
            "{field}: is missing; it must say {}",
            kind.name()
        ))),
    };
    let (name, api_version) = (text("kind")?, text("apiVersion")?);
    if name != kind.name() {
        return Err(Status::bad_request(format!(
            "kind: {name:?} does not match this URL, which is for {}",
            kind.name()
        )));
    }
    let served = api_version
        .split_once('/')
        .is_some_and(|(g, v)| g == kind.group() && kind.versions().contains(&v));
    if !served {
        let served: Vec<String> = kind
            .versions()
            .iter()
            .map(|v| format!("{}/{v}", kind.group()))
            .collect();
        return Err(Status::bad_request(format!(
            "apiVersion: {api_version:?} does not match this URL; {} is served as {}",
            kind.name(),
            served.join(", ")
        )));
    }
    Ok(())
}

/// Complaints that `fieldValidation` can turn into warnings or silence: the field, and what to say.
#[derive(Default)]
struct Strict(Vec<(String, String)>);

impl Strict {
    fn unknown(&mut self, field: String) {
        let message = format!("unknown field \"{field}\"");
        self.0.push((field, message));
    }

    fn causes(&self) -> Vec<Cause> {
        let cause = |(field, message): &(String, String)| Cause {
            reason: "FieldValueNotSupported",
            message: message.clone(),
            field: field.clone(),
        };
        self.0.iter().map(cause).collect()
    }

    fn settle(self, kind: Kind, validation: FieldValidation) -> Result<Vec<String>> {
        match validation {
            FieldValidation::Strict if !self.0.is_empty() => {
                let messages: Vec<&str> = self.0.iter().map(|(_, m)| m.as_str()).collect();
                let message = format!(
                    "{0} in version \"{1}\" cannot be handled as a {0}: strict decoding error: {2}",
                    kind.name(),
                    kind.versions()[0],
                    messages.join(", ")
                );
                Err(Status::bad_request(message).because(self.causes()))
            }
            FieldValidation::Warn => Ok(self.0.into_iter().map(|(_, m)| m).collect()),
            _ => Ok(Vec::new()),
        }
    }
}

/// Fields of `ObjectMeta` that the server owns or that only describe how a resource came about: read past.
const READ_PAST: [&str; 5] = [
    "managedFields",
    "selfLink",
    "generateName",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

fn metadata(value: Value, strict: &mut Strict) -> Result<Metadata> {
    let Value::Object(mut map) = value else {
        return Err(Status::bad_request(
            "metadata: is missing or not an object; it must have at least a name",
        ));
    };
    for field in ["finalizers", "ownerReferences"] {
        if map
            .remove(field)
            .is_some_and(|v| !matches!(&v, Value::Array(a) if a.is_empty()) && !v.is_null())
        {
            let path = format!("metadata.{field}");
            let message = format!("field \"{path}\" has no effect here; remove it");
            strict.0.push((path, message));
        }
    }
    let generate = match map.get("generateName") {
        Some(Value::String(prefix)) if !map.contains_key("name") => Some(prefix.clone()),
        _ => None,
    };
    for field in READ_PAST {
        map.remove(field);
    }
    map.retain(|_, v| !v.is_null());
    let mut value = Value::Object(map);
    let mut schema = schema::object_meta().1;
    schema["additionalProperties"] = Value::Bool(false);
    let (unknown, wrong): (Vec<_>, Vec<_>) = model::shape(&schema, &mut value, "metadata")
        .into_iter()
        .partition(|error| error.reason == Reason::Unknown);
    unknown
        .into_iter()
        .for_each(|error| strict.unknown(error.field));
    if !wrong.is_empty() {
        return Err(Status::malformed(wrong));
    }
    let mut metadata: Metadata = model::read(value, "metadata").map_err(Status::malformed)?;
    metadata.generation = None;
    metadata.creation_timestamp = None;
    if let Some(prefix) = generate {
        metadata.name = names::generate(&prefix);
    }
    Ok(metadata)
}

fn locate(place: &Place, metadata: &mut Metadata) -> Result<()> {
    if metadata.namespace.is_empty() {
        metadata.namespace = place.namespace.to_string();
    } else if *metadata.namespace != *place.namespace {
        return Err(Status::bad_request(format!(
            "metadata.namespace: {:?} does not match the namespace {:?} of the URL",
            metadata.namespace, place.namespace
        )));
    }
    match &place.name {
        Some(name) if metadata.name.is_empty() => metadata.name = name.to_string(),
        Some(name) if *metadata.name != **name => {
            return Err(Status::bad_request(format!(
                "metadata.name: {:?} does not match the name {name:?} of the URL; a resource cannot be renamed",
                metadata.name
            )));
        }
        _ => {}
    }
    Ok(())
}
