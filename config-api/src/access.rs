//! What callers may do: roles in namespaces, granted by a file; and what each route needs.
//!
//! *Invariant:* a route is registered together with what it needs, and what has no need on record is refused.

mod grants;
mod routes;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{Method, StatusCode};
use model::Kind;
use serde::Deserialize;

use crate::http::status::{Cause, Result, Status};
pub(crate) use grants::Grants;
pub use routes::{Needs, routes};
pub(crate) use routes::{Routes, Table};

/// What somebody may do in a namespace. Each role includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Read resources, their history and status, and the proxies of the namespace.
    Viewer,
    /// Change resources, roll back, send heartbeats.
    Editor,
    /// Hand out bootstraps with the credentials of workloads, and revoke these.
    Admin,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Viewer => "viewer",
            Self::Editor => "editor",
            Self::Admin => "admin",
        })
    }
}

/// Stands for every namespace.
const EVERY: &str = "*";

/// What a caller may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rights {
    /// Everything: callers are not authenticated here.
    Open,
    /// The highest role by namespace, `*` for every one.
    Held(Arc<BTreeMap<String, Role>>),
}

impl Rights {
    /// The role in a namespace, or, with `None`, in every namespace.
    pub(crate) fn role(&self, namespace: Option<&str>) -> Option<Role> {
        match self {
            Self::Open => Some(Role::Admin),
            Self::Held(roles) => {
                let of = |name: &str| roles.get(name).copied();
                of(EVERY).max(namespace.and_then(of))
            }
        }
    }

    /// The highest role held anywhere.
    pub(crate) fn highest(&self) -> Option<Role> {
        match self {
            Self::Open => Some(Role::Admin),
            Self::Held(roles) => roles.values().copied().max(),
        }
    }

    /// The roles in words.
    fn described(&self) -> String {
        match self {
            Self::Held(roles) if roles.is_empty() => "no role anywhere".into(),
            Self::Held(roles) => {
                let roles: Vec<String> = roles
                    .iter()
                    .map(|(namespace, role)| match namespace.as_str() {
                        EVERY => format!("{role} everywhere"),
                        one => format!("{role} in {one}"),
                    })
                    .collect();
                roles.join(", ")
            }
            Self::Open => "admin everywhere".into(),
        }
    }
}

/// Something that somebody wants to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Act<'a> {
    /// Kubernetes' verb, such as `update`.
    pub(crate) verb: &'a str,
    pub(crate) what: What<'a>,
    /// Where; everywhere if `None`.
    pub(crate) namespace: Option<&'a str>,
    /// What it takes.
    pub(crate) role: Role,
}

/// To what.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What<'a> {
    /// Resources of a kind; one of them, unless the name is empty.
    Resource(Kind, &'a str),
    /// Something that Kubernetes has no word for.
    Path(&'a str),
}

impl Act<'_> {
    fn sentence(&self, who: &str) -> String {
        let verb = self.verb;
        let what = match self.what {
            What::Resource(kind, _) => {
                format!(
                    "resource \"{}\" in API group \"{}\"",
                    kind.plural(),
                    kind.group()
                )
            }
            What::Path(path) => format!("path \"{path}\""),
        };
        let place = match (self.namespace, self.what) {
            (Some(namespace), _) => format!(" in the namespace \"{namespace}\""),
            (None, What::Resource(..)) => " in all namespaces".into(),
            (None, What::Path(_)) => String::new(),
        };
        format!("User \"{who}\" cannot {verb} {what}{place}")
    }
}

/// Refuses all of `acts` if one of them is beyond what `who` may do; `fields` names each act's place in the request, or is
/// empty.
pub(crate) fn require(who: &str, rights: &Rights, acts: &[(Act<'_>, String)]) -> Result<()> {
    let beyond: Vec<_> = acts
        .iter()
        .filter(|(act, _)| rights.role(act.namespace) < Some(act.role))
        .collect();
    let Some((first, _)) = beyond.first() else {
        return Ok(());
    };
    let subject = match first.what {
        What::Resource(kind, name) if !name.is_empty() => {
            format!("{}.{} \"{name}\" is forbidden", kind.plural(), kind.group())
        }
        What::Resource(kind, _) => format!("{}.{} is forbidden", kind.plural(), kind.group()),
        What::Path(_) => "forbidden".into(),
    };
    let place = first
        .namespace
        .map_or("every namespace".into(), |n| format!("{n:?}"));
    let more = match beyond.len() {
        1 => String::new(),
        count => format!(" (and {} more like it, in details.causes)", count - 1),
    };
    let message = format!(
        "{subject}: {}{more}: it takes the role {} in {place}, and {who:?} is {}; who keeps the access file (--access-file) \
         can grant it",
        first.sentence(who),
        first.role,
        rights.described()
    );
    let causes = beyond
        .iter()
        .filter(|(_, field)| !field.is_empty())
        .map(|(act, field)| Cause {
            reason: "Forbidden",
            message: format!("{}: it takes the role {}", act.sentence(who), act.role),
            field: field.clone(),
        })
        .collect();
    let status = Status::new(StatusCode::FORBIDDEN, "Forbidden", message).because(causes);
    Err(match first.what {
        What::Resource(kind, name) => status.about(kind, name),
        What::Path(_) => status,
    })
}

/// Kubernetes' verb for a request of one resource (`item`) or of many.
pub(crate) fn verb(method: &Method, item: bool, watch: bool) -> &'static str {
    match (method.as_str(), item) {
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "delete",
        ("DELETE", false) => "deletecollection",
        (_, true) => "get",
        (_, false) if watch => "watch",
        (_, false) => "list",
    }
}

/// The role that Kubernetes' verb takes, if it is one that means something here.
pub(crate) fn role_of(verb: &str) -> Option<Role> {
    match verb {
        "get" | "list" | "watch" => Some(Role::Viewer),
        "create" | "update" | "patch" | "delete" | "deletecollection" => Some(Role::Editor),
        "*" => Some(Role::Admin),
        _ => None,
    }
}
