//! Which resources a URL names: `/apis/{group}/{version}/namespaces/{namespace}/{plural}[/{name}]`.
//!
//! *Invariant:* a handler never sees a kind that is not supported, nor a version that is not served.

use std::sync::Arc;

use axum::RequestPartsExt;
use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;
use model::{Key, Kind};

use crate::http::status::{Result, Status};

/// A collection: every resource of a kind, or those of one namespace.
#[derive(Clone, Debug)]
pub(crate) struct Collection {
    pub(crate) kind: Kind,
    /// The version asked for, in which the answer is written.
    pub(crate) version: &'static str,
    pub(crate) namespace: Option<Arc<str>>,
}

/// One resource.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) key: Key,
    pub(crate) version: &'static str,
}

impl Collection {
    /// `group/version` as asked for.
    pub(crate) fn api_version(&self) -> String {
        format!("{}/{}", self.kind.group(), self.version)
    }

    /// The store's scope.
    pub(crate) fn scope(&self) -> store::Scope {
        store::Scope {
            kind: Some(self.kind),
            namespace: self.namespace.clone(),
        }
    }
}

impl Item {
    /// The collection it is in.
    pub(crate) fn collection(&self) -> Collection {
        Collection {
            kind: self.key.kind,
            version: self.version,
            namespace: Some(self.key.namespace.clone()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Collection {
    type Rejection = Status;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let path = parts.uri.path().to_owned();
        let params = params(parts).await?;
        let part = |name: &str| {
            params
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, v)| v.as_str())
        };
        let (group, version, plural) = match (part("group"), part("version"), part("plural")) {
            (Some(g), Some(v), Some(p)) => (g, v, p),
            _ => return Err(Status::no_such_path(&path)),
        };
        let Some(kind) = Kind::from_gvr(group, version, plural) else {
            return Err(Status::new(
                http::StatusCode::NOT_FOUND,
                "NotFound",
                format!(
                    "the server could not find the requested resource: {group}/{version} serves no {plural:?}"
                ),
            ));
        };
        if !kind.supported() {
            return Err(not_supported(kind));
        }
        let version = kind
            .versions()
            .iter()
            .find(|v| **v == version)
            .expect("from_gvr found the kind by one of its versions");
        Ok(Self {
            kind,
            version,
            namespace: part("namespace").map(Into::into),
        })
    }
}

impl<S: Sync> FromRequestParts<S> for Item {
    type Rejection = Status;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let collection = Collection::from_request_parts(parts, state).await?;
        let params = params(parts).await?;
        let name = params
            .iter()
            .find(|(n, _)| n == "name")
            .map(|(_, v)| v.clone());
        let (Some(namespace), Some(name)) = (collection.namespace, name) else {
            return Err(Status::no_such_path(parts.uri.path()));
        };
        Ok(Self {
            key: Key::new(collection.kind, namespace, name),
            version: collection.version,
        })
    }
}

async fn params(parts: &mut Parts) -> Result<Vec<(String, String)>> {
    let path = parts.uri.path().to_owned();
    let raw = parts.extract::<RawPathParams>().await.map_err(|_| {
        Status::bad_request(format!("the path {path} is not UTF-8 once percent-decoded"))
    })?;
    Ok(raw
        .iter()
        .map(|(n, v)| (n.to_owned(), v.to_owned()))
        .collect())
}

/// The refusal of a kind that is known and not built yet.
pub(crate) fn not_supported(kind: Kind) -> Status {
    let message = format!(
        "{} is not supported yet: it would be stored and have no effect, so it is refused",
        kind.name()
    );
    Status::new(http::StatusCode::NOT_FOUND, "NotFound", message).about(kind, "")
}
