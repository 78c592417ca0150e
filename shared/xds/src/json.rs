//! Resources as JSON, by Envoy's own descriptors.
//!
//! *Invariant:* [`redacted`] never shows a field that Envoy's API marks `udpa.annotations.sensitive`.

use std::sync::LazyLock;

use prost::Message as _;
use prost_reflect::ReflectMessage as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor,
    Value,
};
use serde_json::Value as Json;

use crate::{ResourceError, ResourceType};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(include_bytes!(concat!(env!("OUT_DIR"), "/types.bin")).as_slice())
        .expect("build.rs read the same descriptors")
});

static SENSITIVE: LazyLock<Option<ExtensionDescriptor>> =
    LazyLock::new(|| POOL.get_extension_by_name("udpa.annotations.sensitive"));

const REDACTED: &str = "[redacted]";

/// How many `Any`s inside of each other are opened.
const DEPTH: usize = 16;

/// The descriptor of a message of Envoy's API, by its full name.
pub fn descriptor(name: &str) -> Option<MessageDescriptor> {
    POOL.get_message_by_name(name)
}

fn of(ty: ResourceType) -> MessageDescriptor {
    descriptor(ty.message_name()).expect("Envoy's API has every type of resource")
}

/// Whether bytes are such a message.
pub(crate) fn check(ty: ResourceType, bytes: &[u8]) -> Result<(), ResourceError> {
    DynamicMessage::decode(of(ty), bytes)
        .map(drop)
        .map_err(|source| ResourceError::Decode { ty, source })
}

/// The bytes of a message that is given as JSON.
pub(crate) fn parse(ty: ResourceType, value: &Json) -> Result<Vec<u8>, ResourceError> {
    DynamicMessage::deserialize(of(ty), value)
        .map(|message| message.encode_to_vec())
        .map_err(|e| ResourceError::Json {
            ty,
            message: e.to_string(),
        })
}

/// Any message of Envoy's API as JSON, as it is: with its secrets.
pub(crate) fn plain(name: &str, bytes: &[u8]) -> Option<Json> {
    let message = DynamicMessage::decode(descriptor(name)?, bytes).ok()?;
    serde_json::to_value(&message).ok()
}

/// A message of Envoy's API, given as JSON, in bytes; fields that are unknown are ignored.
pub(crate) fn lenient(name: &str, json: &[u8]) -> Result<Vec<u8>, String> {
    let descriptor = descriptor(name).ok_or_else(|| format!("{name} is not in Envoy's API"))?;
    let options = prost_reflect::DeserializeOptions::new().deny_unknown_fields(false);
    let mut json = serde_json::Deserializer::from_slice(json);
    DynamicMessage::deserialize_with_options(descriptor, &mut json, &options)
        .map(|message| message.encode_to_vec())
        .map_err(|e| e.to_string())
}

/// The message as JSON without what is secret. An `Any` of an unknown type is shown by its type alone.
pub(crate) fn redacted(ty: ResourceType, bytes: &[u8]) -> Json {
    let Ok(mut message) = DynamicMessage::decode(of(ty), bytes) else {
        return Json::Null;
    };
    redact(&mut message, DEPTH);
    serde_json::to_value(&message).unwrap_or_default()
}

fn redact(message: &mut DynamicMessage, depth: usize) {
    if message.descriptor().full_name() == "google.protobuf.Any" {
        return redact_any(message, depth);
    }
    let set: Vec<FieldDescriptor> = message.fields().map(|(field, _)| field).collect();
    for field in set {
        let value = message.get_field_mut(&field);
        if is_sensitive(&field) {
            conceal(value);
        } else {
            each_message(value, &mut |message| redact(message, depth));
        }
    }
}

fn each_message(value: &mut Value, visit: &mut impl FnMut(&mut DynamicMessage)) {
    match value {
        Value::Message(message) => visit(message),
        Value::List(items) => items.iter_mut().for_each(|item| each_message(item, visit)),
        Value::Map(entries) => entries
            .values_mut()
            .for_each(|entry| each_message(entry, visit)),
        _ => {}
    }
}

/// Replaces every string and byte string in a value.
fn conceal(value: &mut Value) {
    match value {
        Value::String(s) => REDACTED.clone_into(s),
        Value::Bytes(b) => *b = REDACTED.as_bytes().into(),
        _ => each_message(value, &mut |message| {
            if message.descriptor().full_name() == "google.protobuf.Any" {
                message.clear_field_by_name("value");
            }
            let set: Vec<FieldDescriptor> = message.fields().map(|(field, _)| field).collect();
            set.iter()
                .filter(|f| matches!(f.kind(), Kind::String | Kind::Bytes | Kind::Message(_)))
                .for_each(|field| match message.get_field_mut(field) {
                    Value::List(items) => items.iter_mut().for_each(conceal),
                    Value::Map(entries) => entries.values_mut().for_each(conceal),
                    other => conceal(other),
                });
        }),
    }
}

fn redact_any(any: &mut DynamicMessage, depth: usize) {
    let url = any
        .get_field_by_name("type_url")
        .and_then(|v| v.as_str().map(str::to_owned))
        .unwrap_or_default();
    let bytes = any
        .get_field_by_name("value")
        .and_then(|v| v.as_bytes().cloned())
        .unwrap_or_default();
    let inner = url
        .rsplit('/')
        .next()
        .filter(|_| depth > 0)
        .and_then(descriptor)
        .and_then(|d| DynamicMessage::decode(d, bytes).ok());
    match inner {
        Some(mut inner) => {
            redact(&mut inner, depth - 1);
            any.set_field_by_name("value", Value::Bytes(inner.encode_to_vec().into()));
        }
        // What cannot be read cannot be redacted; the JSON form of an `Any` needs its type, so a plain string it is.
        None => {
            any.set_field_by_name(
                "type_url",
                Value::String("type.googleapis.com/google.protobuf.StringValue".into()),
            );
            let shown = format!("{REDACTED} {url}");
            any.set_field_by_name("value", Value::Bytes(shown.encode_to_vec().into()));
        }
    }
}

fn is_sensitive(field: &FieldDescriptor) -> bool {
    SENSITIVE
        .as_ref()
        .is_some_and(|extension| field.options().get_extension(extension).as_bool() == Some(true))
}
