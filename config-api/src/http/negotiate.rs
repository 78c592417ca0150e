//! What the caller wants to read: JSON or YAML, and as which Kubernetes rendering (`as=Table;g=…;v=…`).
//!
//! *Invariant:* nothing here looks at a resource.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::Value;

use super::status::{Result, Status};

/// The syntax of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syntax {
    Json,
    Yaml,
}

/// A Kubernetes rendering of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rendering {
    /// As it is.
    Plain,
    /// `as=Table;g=meta.k8s.io`.
    Table,
    /// `as=PartialObjectMetadata[List];g=meta.k8s.io`.
    Metadata,
    /// `as=APIGroupDiscoveryList;g=apidiscovery.k8s.io;v=v2`.
    Discovery,
}

/// What was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accept {
    pub(crate) syntax: Syntax,
    pub(crate) rendering: Rendering,
}

impl Accept {
    /// The first of the caller's media types that can be produced, among `offered` renderings besides the plain one.
    pub(crate) fn of(headers: &HeaderMap, offered: &[Rendering]) -> Result<Self> {
        let values: Vec<&str> = headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .collect();
        let all = values.join(",");
        if all.trim().is_empty() {
            return Ok(Self {
                syntax: Syntax::Json,
                rendering: Rendering::Plain,
            });
        }
        let mut ranges: Vec<(f32, Self)> = Vec::new();
        for range in all.split(',') {
            if let Some((quality, accept)) = Self::range(range).filter(|(q, a)| {
                *q > 0.0 && (a.rendering == Rendering::Plain || offered.contains(&a.rendering))
            }) {
                ranges.push((quality, accept));
            }
        }
        // The first of the best: a stable sort keeps the caller's order within one quality.
        ranges.sort_by(|a, b| b.0.total_cmp(&a.0));
        ranges
            .first()
            .map(|(_, accept)| *accept)
            .ok_or_else(|| Status::not_acceptable(&all))
    }

    fn range(range: &str) -> Option<(f32, Self)> {
        let mut parts = range.split(';').map(str::trim);
        let syntax = match parts.next()?.to_ascii_lowercase().as_str() {
            "application/json" | "application/*" | "*/*" => Syntax::Json,
            "application/yaml" | "application/x-yaml" | "text/yaml" => Syntax::Yaml,
            _ => return None,
        };
        let (mut kind, mut group, mut version, mut quality) = ("", "", "", 1.0);
        for part in parts {
            match part.split_once('=') {
                Some(("as", v)) => kind = v,
                Some(("g", v)) => group = v,
                Some(("v", v)) => version = v,
                Some(("q", v)) => quality = v.parse().ok().filter(|q: &f32| q.is_finite())?,
                _ => {}
            }
        }
        let rendering = match (kind, group, version) {
            ("", ..) => Rendering::Plain,
            ("Table", "meta.k8s.io", "v1") => Rendering::Table,
            ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1") => {
                Rendering::Metadata
            }
            ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2") => Rendering::Discovery,
            _ => return None,
        };
        Some((quality, Self { syntax, rendering }))
    }

    /// An answer in the agreed syntax.
    pub(crate) fn respond(self, code: StatusCode, body: &Value) -> Response {
        match self.syntax {
            // Clients recognise aggregated discovery by the content type alone.
            Syntax::Json if self.rendering == Rendering::Discovery => {
                let media = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
                (
                    code,
                    [(header::CONTENT_TYPE, HeaderValue::from_static(media))],
                    body.to_string(),
                )
                    .into_response()
            }
            Syntax::Json => (code, axum::Json(body)).into_response(),
            Syntax::Yaml => match serde_saphyr::to_string(body) {
                Ok(text) => (
                    code,
                    [(
                        header::CONTENT_TYPE,
                        HeaderValue::from_static("application/yaml"),
                    )],
                    text,
                )
                    .into_response(),
                Err(error) => Status::internal(format!("writing YAML: {error}")).into_response(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(accept: &str) -> Result<Accept> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        Accept::of(&headers, &[Rendering::Table])
    }

    #[test]
    fn takes_the_first_it_can_produce() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(of(kubectl).unwrap().rendering, Rendering::Table);
        assert_eq!(
            of("application/vnd.kubernetes.protobuf,application/json")
                .unwrap()
                .syntax,
            Syntax::Json
        );
        assert_eq!(
            of("application/json;q=0.5, application/yaml")
                .unwrap()
                .syntax,
            Syntax::Yaml
        );
        let other =
            "application/json;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io,application/json";
        assert_eq!(
            of(other).unwrap().rendering,
            Rendering::Plain,
            "not offered here"
        );
        assert_eq!(
            of("application/vnd.kubernetes.protobuf")
                .unwrap_err()
                .code(),
            StatusCode::NOT_ACCEPTABLE
        );
        assert_eq!(
            of("application/json;q=NaN").unwrap_err().code(),
            StatusCode::NOT_ACCEPTABLE
        );
    }
}
