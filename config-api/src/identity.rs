//! Who calls. Until callers are authenticated everybody is `anonymous`; the middleware that proves an identity will put
//! another [`Caller`] into the request's extensions, and nothing else has to change.
//!
//! *Invariant:* no handler reads an identity from anywhere but the [`Caller`] extension.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderMap;
use store::Author;

/// The caller of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// As authenticated.
    pub who: String,
    /// The request's W3C trace context, if it has a valid one.
    pub traceparent: Option<String>,
}

impl Caller {
    /// The author of a write by this caller.
    pub(crate) fn author(&self, verb: &str) -> Author {
        Author {
            who: self.who.clone(),
            verb: verb.to_owned(),
            traceparent: self.traceparent.clone(),
        }
    }
}

/// Puts the caller into the request's extensions.
pub(crate) async fn identify(mut request: Request, next: Next) -> Response {
    let caller = Caller {
        who: "anonymous".into(),
        traceparent: traceparent(request.headers()),
    };
    request.extensions_mut().insert(caller);
    next.run(request).await
}

/// The `traceparent` header if it is well-formed: `00-<32 hex>-<16 hex>-<2 hex>`.
fn traceparent(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &&str, length: usize| {
        part.len() == length
            && part
                .chars()
                .all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
    };
    match parts.as_slice() {
        [version, trace, span, flags]
            if hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2) =>
        {
            Some(text.to_owned())
        }
        _ => None,
    }
}
