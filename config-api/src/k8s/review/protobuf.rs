//! `SelfSubjectAccessReview` in Kubernetes' protobuf encoding, which is the only one in which kubectl sends it.
//!
//! Field numbers are those of `k8s.io/api/authorization/v1/generated.proto`. *Invariant:* what is not decoded here (status,
//! selectors) is not asked about.

use prost::Message;
use serde_json::{Value, json};

/// What stands before every object in this encoding.
const MAGIC: &[u8] = b"k8s\0";

/// `k8s.io/apimachinery/pkg/runtime` Unknown: the object in its envelope.
#[derive(Clone, PartialEq, Message)]
struct Unknown {
    #[prost(bytes, tag = "2")]
    raw: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Review {
    #[prost(message, optional, tag = "2")]
    spec: Option<Spec>,
}

#[derive(Clone, PartialEq, Message)]
struct Spec {
    #[prost(message, optional, tag = "1")]
    resource: Option<Attributes>,
}

#[derive(Clone, PartialEq, Message)]
struct Attributes {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    verb: String,
    #[prost(string, tag = "3")]
    group: String,
    #[prost(string, tag = "4")]
    version: String,
    #[prost(string, tag = "5")]
    resource: String,
    #[prost(string, tag = "6")]
    subresource: String,
    #[prost(string, tag = "7")]
    name: String,
}

/// The review in its JSON form.
///
/// # Errors
/// If it is not one in this encoding.
pub(super) fn review(bytes: &[u8]) -> Result<Value, String> {
    let envelope = bytes
        .strip_prefix(MAGIC)
        .ok_or("it does not begin with the four bytes k8s and zero")?;
    let read = |error: prost::DecodeError| error.to_string();
    let raw = Unknown::decode(envelope).map_err(read)?.raw;
    let review = Review::decode(raw.as_slice()).map_err(read)?;
    let asked = review.spec.and_then(|spec| spec.resource).map(|a| {
        json!({
            "namespace": a.namespace, "verb": a.verb, "group": a.group, "version": a.version,
            "resource": a.resource, "subresource": a.subresource, "name": a.name,
        })
    });
    Ok(json!({
        "kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {},
        "spec": {"resourceAttributes": asked},
    }))
}
