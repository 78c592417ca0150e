//! What there is: `/api`, `/apis`, their groups and versions, plain and aggregated, and `/version`.
//!
//! *Invariant:* what is listed here can be used; a kind that is not built yet is not listed.

use axum::extract::Path;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use model::Kind;
use serde_json::{Value, json};

use crate::http::negotiate::{Accept, Rendering};
use crate::http::status::{Result, Status};

/// What a resource can do.
const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// The groups that have a supported kind.
pub(super) fn groups() -> Vec<&'static str> {
    let mut groups = Vec::new();
    for kind in kinds() {
        if !groups.contains(&kind.group()) {
            groups.push(kind.group());
        }
    }
    groups
}

/// The supported kinds.
pub(super) fn kinds() -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(|k| k.supported())
}

/// The served versions of a group, the preferred one first.
pub(super) fn versions(group: &str) -> Vec<&'static str> {
    let mut versions = Vec::new();
    for version in kinds()
        .filter(|k| k.group() == group)
        .flat_map(|k| k.versions())
    {
        if !versions.contains(version) {
            versions.push(*version);
        }
    }
    versions
}

/// The kinds of a group that are served in a version.
pub(super) fn kinds_of<'a>(group: &'a str, version: &'a str) -> impl Iterator<Item = Kind> + 'a {
    kinds().filter(move |k| k.group() == group && k.versions().contains(&version))
}

fn no_group(group: &str) -> Status {
    Status::new(
        StatusCode::NOT_FOUND,
        "NotFound",
        format!("there is no API group {group:?}; /apis lists them"),
    )
}

fn group(name: &str) -> Value {
    let versions: Vec<Value> = versions(name)
        .iter()
        .map(|v| json!({"groupVersion": format!("{name}/{v}"), "version": v}))
        .collect();
    json!({"name": name, "versions": versions, "preferredVersion": versions[0]})
}

pub(crate) async fn api(headers: HeaderMap) -> Result<Response> {
    let accept = Accept::of(&headers, &[Rendering::Discovery])?;
    let body = match accept.rendering {
        Rendering::Discovery => json!({
            "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
            "items": [{"metadata": {"name": ""}, "versions": [
                {"version": "v1", "freshness": "Current", "resources": core_resources().map(|r| r.aggregated("")).collect::<Vec<_>>()},
            ]}],
        }),
        _ => json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
    };
    Ok(respond(accept, &body))
}

pub(crate) async fn apis(headers: HeaderMap) -> Result<Response> {
    let accept = Accept::of(&headers, &[Rendering::Discovery])?;
    let body = match accept.rendering {
        Rendering::Discovery => {
            let items: Vec<Value> = groups()
                .into_iter()
                .map(|group| {
                    let versions: Vec<Value> = versions(group)
                        .into_iter()
                        .map(|version| {
                            let resources: Vec<Value> =
                                resources(group, version).map(|r| r.aggregated(group)).collect();
                            json!({"version": version, "freshness": "Current", "resources": resources})
                        })
                        .collect();
                    json!({"metadata": {"name": group}, "versions": versions})
                })
                .collect();
            json!({
                "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items,
            })
        }
        _ => json!({
            "kind": "APIGroupList", "apiVersion": "v1", "groups": groups().into_iter().map(group).collect::<Vec<_>>(),
        }),
    };
    Ok(respond(accept, &body))
}

pub(crate) async fn one_group(Path(name): Path<String>, headers: HeaderMap) -> Result<Response> {
    let accept = Accept::of(&headers, &[])?;
    if !groups().contains(&name.as_str()) {
        return Err(no_group(&name));
    }
    let mut body = group(&name);
    body["kind"] = "APIGroup".into();
    body["apiVersion"] = "v1".into();
    Ok(respond(accept, &body))
}

pub(crate) async fn one_version(
    Path((group, version)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response> {
    let accept = Accept::of(&headers, &[])?;
    if !versions(&group).contains(&version.as_str()) {
        return Err(no_group(&format!("{group}/{version}")));
    }
    let resources: Vec<Value> = resources(&group, &version)
        .flat_map(|r| r.plain())
        .collect();
    Ok(respond(
        accept,
        &resource_list(&format!("{group}/{version}"), &resources),
    ))
}

pub(crate) async fn core_v1(headers: HeaderMap) -> Result<Response> {
    let accept = Accept::of(&headers, &[])?;
    let resources: Vec<Value> = core_resources().flat_map(|r| r.plain()).collect();
    Ok(respond(accept, &resource_list("v1", &resources)))
}

/// `/version`, in the shape that Kubernetes clients expect. The Kubernetes version says whose API conventions hold.
pub(crate) async fn version(headers: HeaderMap) -> Result<Response> {
    let accept = Accept::of(&headers, &[])?;
    let body = json!({
        "major": "1", "minor": "32", "gitVersion": concat!("v1.32.0+weft.", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "",
        "compiler": "rustc", "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        "weft": env!("CARGO_PKG_VERSION"),
    });
    Ok(respond(accept, &body))
}

fn resource_list(group_version: &str, resources: &[Value]) -> Value {
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources})
}

fn respond(accept: Accept, body: &Value) -> Response {
    accept.respond(StatusCode::OK, body)
}

/// One resource as discovery describes it.
struct Resource {
    plural: &'static str,
    singular: String,
    kind: &'static str,
    version: String,
    namespaced: bool,
    short: &'static [&'static str],
    verbs: &'static [&'static str],
    categories: Vec<String>,
    status: bool,
}

fn resources<'a>(group: &'a str, version: &'a str) -> impl Iterator<Item = Resource> + 'a {
    kinds_of(group, version).map(move |kind| Resource {
        plural: kind.plural(),
        singular: kind.singular(),
        kind: kind.name(),
        version: version.to_owned(),
        namespaced: true,
        short: kind.short_names(),
        verbs: &VERBS,
        categories: categories(kind),
        status: true,
    })
}

/// Istio's categories, so that `kubectl get istio-io -A` finds what it finds there.
fn categories(kind: Kind) -> Vec<String> {
    match kind.group().strip_suffix(".istio.io") {
        Some(area) => vec!["istio-io".into(), format!("{area}-istio-io")],
        None => vec!["weft".into()],
    }
}

fn core_resources() -> impl Iterator<Item = Resource> {
    let resource = |plural, singular: &str, kind, namespaced, short, verbs| Resource {
        plural,
        singular: singular.into(),
        kind,
        version: "v1".into(),
        namespaced,
        short,
        verbs,
        categories: Vec::new(),
        status: false,
    };
    [
        resource(
            "events",
            "event",
            "Event",
            true,
            &["ev"],
            &["get", "list", "watch"],
        ),
        resource(
            "namespaces",
            "namespace",
            "Namespace",
            false,
            &["ns"],
            &["get", "list", "watch"],
        ),
    ]
    .into_iter()
}

impl Resource {
    fn plain(&self) -> Vec<Value> {
        let mut own = json!({
            "name": self.plural, "singularName": self.singular, "namespaced": self.namespaced, "kind": self.kind,
            "verbs": self.verbs,
        });
        if !self.short.is_empty() {
            own["shortNames"] = json!(self.short);
        }
        if !self.categories.is_empty() {
            own["categories"] = json!(self.categories);
        }
        let mut all = vec![own];
        if self.status {
            all.push(json!({
                "name": format!("{}/status", self.plural), "singularName": "", "namespaced": self.namespaced,
                "kind": self.kind, "verbs": ["get"],
            }));
        }
        all
    }

    fn aggregated(&self, group: &str) -> Value {
        let response = json!({"group": group, "version": self.version, "kind": self.kind});
        let mut own = json!({
            "resource": self.plural, "responseKind": response,
            "scope": if self.namespaced { "Namespaced" } else { "Cluster" },
            "singularResource": self.singular, "verbs": self.verbs,
        });
        if !self.short.is_empty() {
            own["shortNames"] = json!(self.short);
        }
        if !self.categories.is_empty() {
            own["categories"] = json!(self.categories);
        }
        if self.status {
            own["subresources"] =
                json!([{"subresource": "status", "responseKind": response, "verbs": ["get"]}]);
        }
        own
    }
}
