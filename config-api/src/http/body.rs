//! Request bodies: bounded reading, media types, and JSON or YAML to values.
//!
//! *Invariant:* no body is read beyond its limit, and none is decoded whose media type was not named or implied.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::status::{Result, Status};

/// Media types of bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    Yaml,
    MergePatch,
    JsonPatch,
    StrategicPatch,
    ApplyPatch,
}

impl Media {
    /// What `Content-Type` says; JSON when it is absent, as with Kubernetes.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self> {
        let Some(value) = headers.get(header::CONTENT_TYPE) else {
            return Ok(Self::Json);
        };
        let text = value.to_str().unwrap_or("(not text)");
        let essence = text
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        Ok(match essence.as_str() {
            "" | "application/json" => Self::Json,
            "application/yaml" | "application/x-yaml" | "text/yaml" => Self::Yaml,
            "application/merge-patch+json" => Self::MergePatch,
            "application/json-patch+json" => Self::JsonPatch,
            "application/strategic-merge-patch+json" => Self::StrategicPatch,
            "application/apply-patch+yaml" | "application/apply-patch+cbor" => Self::ApplyPatch,
            _ => {
                return Err(Status::unsupported_media_type(format!(
                    "content-type: {text:?} is not understood; send application/json or application/yaml \
                     (curl: -H 'content-type: application/yaml')"
                )));
            }
        })
    }

    /// The syntax of a whole resource or list of them.
    pub(crate) fn document(headers: &HeaderMap) -> Result<Self> {
        match Self::of(headers)? {
            media @ (Self::Json | Self::Yaml) => Ok(media),
            _ => Err(Status::unsupported_media_type(
                "content-type: a patch type is taken by PATCH only; send application/json or application/yaml",
            )),
        }
    }
}

/// Reads a body of at most `limit` bytes; one that announces more is refused unread.
pub(crate) async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes> {
    let refuse = |what: String| {
        Status::too_large(format!(
            "the request body {what}, the limit is {limit} bytes; send less at once or raise --max-body-bytes"
        ))
    };
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if let Some(length) = announced.filter(|l| *l > limit as u64) {
        return Err(refuse(format!("is {length} bytes")));
    }
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(refuse("is too long".into())),
        Err(error) => Err(Status::bad_request(format!(
            "the request body broke off: {error}"
        ))),
    }
}

/// The body as text, or where it stops being UTF-8.
pub(crate) fn text(body: &[u8]) -> Result<&str> {
    std::str::from_utf8(body).map_err(|e| {
        let byte = body.get(e.valid_up_to()).copied().unwrap_or_default();
        Status::bad_request(format!(
            "the request body is not UTF-8: byte 0x{byte:02x} at offset {}; JSON and YAML must be UTF-8",
            e.valid_up_to()
        ))
    })
}

/// A body that holds exactly one JSON or YAML value.
pub(crate) fn value(media: Media, body: &[u8]) -> Result<Value> {
    let text = text(body)?;
    if text.trim().is_empty() {
        return Err(Status::bad_request(
            "the request body is empty; send the resource as JSON or YAML",
        ));
    }
    match media {
        Media::Yaml => {
            let mut documents = model::documents(text)
                .map_err(|e| Status::bad_request(format!("the body: {e}")))?;
            match (documents.len(), documents.pop()) {
                (1, Some(document)) => Ok(document),
                (count, _) => Err(Status::bad_request(format!(
                    "the YAML body holds {count} documents, it must be one; POST /v1/apply takes many"
                ))),
            }
        }
        _ => model::json(text).map_err(|e| Status::bad_request(format!("the body: {e}"))),
    }
}

/// A body that holds one value of this type, or nothing, which is its default.
pub(crate) fn parse<T: Default + JsonSchema + DeserializeOwned>(
    what: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<T> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    let value = value(Media::document(headers)?, body)?;
    model::read(value, what).map_err(Status::malformed)
}
