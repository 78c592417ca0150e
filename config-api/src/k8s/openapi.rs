//! `/openapi/v3`: the index, and one document per group and version, for `kubectl explain` and validation.
//!
//! *Invariant:* a document says nothing that discovery does not.

use std::collections::BTreeMap;

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use model::Kind;
use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::xxh3_128;

use super::{discovery, schema};
use crate::http::negotiate::Accept;
use crate::http::status::{Result, Status};

pub(crate) async fn index(headers: HeaderMap) -> Result<Response> {
    let accept = Accept::of(&headers, &[])?;
    let mut paths = Map::new();
    let mut add = |path: String, document: &Value| {
        let url = format!("/openapi/v3/{path}?hash={}", hash(document));
        paths.insert(path, json!({"serverRelativeURL": url}));
    };
    for group in discovery::groups() {
        for version in discovery::versions(group) {
            add(format!("apis/{group}/{version}"), &document(group, version));
        }
    }
    add("api/v1".into(), &core_document());
    add("v1".into(), &crate::v1::openapi::document());
    Ok(accept.respond(StatusCode::OK, &json!({"paths": paths})))
}

pub(crate) async fn group_version(
    Path((group, version)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response> {
    if !discovery::versions(&group).contains(&version.as_str()) {
        return Err(Status::no_such_path(&format!(
            "/openapi/v3/apis/{group}/{version}"
        )));
    }
    answer(&headers, &document(&group, &version))
}

pub(crate) async fn core(headers: HeaderMap) -> Result<Response> {
    answer(&headers, &core_document())
}

pub(crate) async fn ours(headers: HeaderMap) -> Result<Response> {
    answer(&headers, &crate::v1::openapi::document())
}

/// A document with its hash as entity tag.
fn answer(headers: &HeaderMap, document: &Value) -> Result<Response> {
    // Clients ask for protobuf first; only those that take JSON besides can be served.
    let accept = Accept::of(headers, &[])?;
    let tag = HeaderValue::from_str(&format!("\"{}\"", hash(document)))
        .expect("a hash is hexadecimal digits");
    if headers.get(header::IF_NONE_MATCH) == Some(&tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let mut response = accept.respond(StatusCode::OK, document);
    response.headers_mut().insert(header::ETAG, tag);
    Ok(response)
}

fn hash(document: &Value) -> String {
    format!("{:032X}", xxh3_128(document.to_string().as_bytes()))
}

fn envelope(title: &str, paths: Map<String, Value>, schemas: BTreeMap<String, Value>) -> Value {
    json!({
        "openapi": "3.0.0",
        "info": {"title": title, "version": env!("CARGO_PKG_VERSION")},
        "paths": Value::Object(paths),
        "components": {"schemas": Value::Object(schemas.into_iter().collect())},
    })
}

fn core_document() -> Value {
    envelope("Weft", Map::new(), BTreeMap::from([schema::object_meta()]))
}

fn document(group: &str, version: &str) -> Value {
    let mut paths = Map::new();
    let mut schemas = BTreeMap::from([schema::object_meta()]);
    for kind in discovery::kinds_of(group, version) {
        let name = schema::add(kind, version, &mut schemas);
        let base = format!("/apis/{group}/{version}");
        let within = format!("{base}/namespaces/{{namespace}}/{}", kind.plural());
        let operations = Operations {
            kind,
            version,
            schema: &name,
        };
        paths.insert(
            format!("{base}/{}", kind.plural()),
            json!({"get": operations.operation("list", &LIST)}),
        );
        paths.insert(
            within.clone(),
            json!({
                "parameters": [path_parameter("namespace")],
                "get": operations.operation("list", &LIST),
                "post": operations.writing("post", &["application/json", "application/yaml"]),
                "delete": operations.operation("deletecollection", &LIST),
            }),
        );
        paths.insert(
            format!("{within}/{{name}}"),
            json!({
                "parameters": [path_parameter("namespace"), path_parameter("name")],
                "get": operations.operation("get", &[]),
                "put": operations.writing("put", &["application/json", "application/yaml"]),
                "patch": operations.writing("patch", &["application/json-patch+json", "application/merge-patch+json"]),
                "delete": operations.operation("delete", &["dryRun"]),
            }),
        );
    }
    envelope(group, paths, schemas)
}

const LIST: [&str; 10] = [
    "labelSelector",
    "fieldSelector",
    "limit",
    "continue",
    "resourceVersion",
    "resourceVersionMatch",
    "watch",
    "allowWatchBookmarks",
    "sendInitialEvents",
    "timeoutSeconds",
];
const WRITE: [&str; 2] = ["dryRun", "fieldValidation"];

/// The operations on one kind in one version.
struct Operations<'a> {
    kind: Kind,
    version: &'a str,
    schema: &'a str,
}

impl Operations<'_> {
    fn operation(&self, action: &str, parameters: &[&str]) -> Value {
        let parameters: Vec<Value> = parameters.iter().map(|p| query_parameter(p)).collect();
        let content = json!({"application/json": {"schema": self.reference()}});
        json!({
            "operationId": format!("{action}{}{}", self.version, self.kind.name()),
            "parameters": parameters,
            "responses": {"200": {"description": "OK", "content": content}},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind":
                {"group": self.kind.group(), "version": self.version, "kind": self.kind.name()},
        })
    }

    fn writing(&self, action: &str, media: &[&str]) -> Value {
        let mut operation = self.operation(action, &WRITE);
        let content: Map<String, Value> = media
            .iter()
            .map(|m| ((*m).to_owned(), json!({"schema": self.reference()})))
            .collect();
        operation["requestBody"] = json!({"required": true, "content": content});
        operation
    }

    fn reference(&self) -> Value {
        json!({"$ref": format!("#/components/schemas/{}", self.schema)})
    }
}

fn query_parameter(name: &str) -> Value {
    let kind = match name {
        "limit" | "timeoutSeconds" => "integer",
        "watch" | "allowWatchBookmarks" | "sendInitialEvents" => "boolean",
        _ => "string",
    };
    json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}})
}

fn path_parameter(name: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "uniqueItems": true}})
}
