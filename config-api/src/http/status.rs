//! Errors as Kubernetes `Status` objects: the one shape in which this API says no.
//!
//! *Invariant:* no handler builds an error body by hand; every refusal is a [`Status`].

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use model::{FieldError, Key, Kind, Reason};
use serde::Serialize;
use serde_json::{Value, json};

/// A refusal. Boxed, because it is the `Err` of nearly every function here.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", .0.message)]
pub struct Status(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    code: StatusCode,
    reason: &'static str,
    message: String,
    details: Details,
    allow: Option<&'static str>,
}

/// `details` of a `Status`.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    kind: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<Cause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_seconds: Option<u32>,
}

/// One reason among several: which field, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// Kubernetes' machine-readable cause, such as `FieldValueInvalid`.
    pub reason: &'static str,
    /// The value, the rule and the way out.
    pub message: String,
    /// The path, such as `spec.http[2].route[0].weight`.
    pub field: String,
}

impl From<FieldError> for Cause {
    fn from(error: FieldError) -> Self {
        let reason = match error.reason {
            Reason::Invalid => "FieldValueInvalid",
            Reason::Unknown | Reason::Unsupported => "FieldValueNotSupported",
        };
        let message = match error.value.as_str() {
            "" => error.rule,
            value => format!("{value}: {}", error.rule),
        };
        Self {
            reason,
            message,
            field: error.field,
        }
    }
}

/// Result of a request.
pub(crate) type Result<T> = std::result::Result<T, Status>;

impl Status {
    /// A refusal of this HTTP status, Kubernetes reason and message.
    pub fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            code,
            reason,
            message: message.into(),
            details: Details::default(),
            allow: None,
        }))
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// 400: values of other types than are expected, fields that are unknown or missing.
    pub(crate) fn malformed(errors: Vec<FieldError>) -> Self {
        let list: Vec<_> = errors.iter().map(ToString::to_string).collect();
        let causes = errors.into_iter().map(Cause::from).collect();
        Self::bad_request(list.join("; ")).because(causes)
    }

    /// 404 for a path that means nothing here.
    pub fn no_such_path(path: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "NotFound",
            format!("there is nothing at {path}; /apis and /v1 list what is"),
        )
    }

    /// 404 for a resource.
    pub fn not_found(key: &Key) -> Self {
        let message = format!("{} \"{}\" not found", resource(key.kind), key.name);
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(key.kind, &key.name)
    }

    /// 409: it exists already.
    pub fn already_exists(key: &Key) -> Self {
        let message = format!("{} \"{}\" already exists", resource(key.kind), key.name);
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message).about(key.kind, &key.name)
    }

    /// 409: it is not what the caller believes it is.
    pub fn conflict(key: &Key, why: impl std::fmt::Display) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{}\": {why}; read it again and apply your changes to what is there now",
            resource(key.kind),
            key.name
        );
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(key.kind, &key.name)
    }

    /// 422: understood, and against the rules.
    pub fn invalid(kind: Kind, name: &str, causes: Vec<Cause>) -> Self {
        let list: Vec<String> = causes
            .iter()
            .map(|c| format!("{}: {}", c.field, c.message))
            .collect();
        let what = match list.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!(
            "{}.{} \"{name}\" is invalid: {what}",
            kind.name(),
            kind.group()
        );
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
            .about(kind, name)
            .because(causes)
    }

    /// 410: the revision asked for is gone.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// 405.
    pub fn method_not_allowed(message: impl Into<String>, allow: &'static str) -> Self {
        let mut status = Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message);
        status.0.allow = Some(allow);
        status
    }

    /// 406: none of the media types the caller accepts can be produced.
    pub fn not_acceptable(accept: &str) -> Self {
        let message = format!(
            "accept: {accept:?} names no media type this can produce; it can produce application/json and application/yaml"
        );
        Self::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
    }

    /// 413.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            message,
        )
    }

    /// 415.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            message,
        )
    }

    /// 503: nothing is known to be wrong with the request.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailable",
            message,
        )
        .retry_after(1)
    }

    /// 500: a defect here.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// Names the resource this is about.
    #[must_use]
    pub fn about(mut self, kind: Kind, name: &str) -> Self {
        self.0.details.group = kind.group().into();
        self.0.details.kind = kind.plural().into();
        self.0.details.name = name.into();
        self
    }

    /// Adds the causes.
    #[must_use]
    pub fn because(mut self, causes: Vec<Cause>) -> Self {
        self.0.details.causes = causes;
        self
    }

    /// Tells the caller when to try again, in seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.0.details.retry_after_seconds = Some(seconds);
        self
    }

    /// Puts words before the message, such as which document of several it is about.
    #[must_use]
    pub fn within(mut self, context: &str) -> Self {
        self.0.message = format!("{context}: {}", self.0.message);
        self
    }

    /// The causes.
    pub(crate) fn causes(&self) -> &[Cause] {
        &self.0.details.causes
    }

    /// The HTTP status.
    pub fn code(&self) -> StatusCode {
        self.0.code
    }

    /// The `Status` object.
    pub fn to_json(&self) -> Value {
        let inner = &self.0;
        json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": inner.message,
            "reason": inner.reason,
            "details": inner.details,
            "code": inner.code.as_u16(),
        })
    }
}

/// How Kubernetes names a resource in messages: `virtualservices.networking.istio.io`.
fn resource(kind: Kind) -> String {
    format!("{}.{}", kind.plural(), kind.group())
}

impl IntoResponse for Status {
    fn into_response(self) -> Response {
        let mut response = (self.0.code, axum::Json(self.to_json())).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.0.details.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.0.code == StatusCode::UNAUTHORIZED {
            let how = HeaderValue::from_static("Bearer realm=\"weft\"");
            headers.insert(header::WWW_AUTHENTICATE, how);
        }
        if let Some(allow) = self.0.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

impl From<store::Error> for Status {
    fn from(error: store::Error) -> Self {
        match &error {
            store::Error::Conflict { key, actual: None } => {
                Self::conflict(key, "it does not exist")
            }
            store::Error::Conflict {
                key,
                actual: Some(at),
            } => Self::conflict(
                key,
                format!("the object has been modified and is at resourceVersion {at}"),
            ),
            store::Error::Moved { .. } => {
                Self::new(StatusCode::CONFLICT, "Conflict", error.to_string())
            }
            store::Error::Overtaken { .. } => {
                Self::unavailable(format!("{error}, again and again; nothing was changed"))
            }
            store::Error::Compacted { asked } => Self::expired(format!(
                "too old resource version: {asked} has been compacted; list again without a resourceVersion"
            )),
            store::Error::Future { asked } => Self::expired(format!(
                "resource version {asked} has not happened in this store, which was perhaps restored from a backup; \
                 list again without a resourceVersion"
            )),
            store::Error::Duplicate { .. } | store::Error::Name { .. } => {
                Self::bad_request(error.to_string())
            }
            store::Error::TooLarge { .. } => Self::too_large(format!(
                "{error}; apply fewer documents at once, or raise the limit here and on etcd (--etcd-max-txn-ops, --etcd-max-request-bytes; etcd: --max-txn-ops, --max-request-bytes)"
            )),
            store::Error::Unavailable(_) => {
                Self::unavailable(format!("{error}; whether a write took effect is unknown"))
            }
            store::Error::Refused(_) => Self::unavailable(error.to_string()),
            store::Error::Undecodable(_) => Self::internal(format!(
                "{error}; replace the resource by a PUT, or delete it"
            )),
        }
    }
}
