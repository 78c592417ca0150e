//! Where things are: the layout of keys under the root prefix, and back.
//!
//! *Invariant:* no other module builds or splits a key.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use model::{Key, Kind};
use uuid::Uuid;

use crate::{Area, Scope};

/// The layout under one root prefix, such as `/weft/v1`.
#[derive(Debug)]
pub(crate) struct Layout {
    root: String,
}

/// A half-open range of keys, `start <= key < end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: String,
    pub(crate) end: String,
}

/// What a key is for.
#[derive(Debug, PartialEq)]
pub(crate) enum Place {
    /// A resource; `None` if the rest of the key names none.
    Config(Option<Key>),
    /// A change record.
    Record,
    /// A workload's liveness.
    Liveness { namespace: Arc<str>, name: Arc<str> },
    /// The record of a rollout.
    Rollout(Uuid),
    /// The epoch.
    Epoch,
    /// Something else under the root, or outside of it.
    Other,
}

impl Layout {
    /// The layout under `root`; slashes at its end are dropped.
    pub(crate) fn new(root: &str) -> Self {
        Self {
            root: root.trim_end_matches('/').to_owned(),
        }
    }

    /// Everything that is ours.
    pub(crate) fn all(&self) -> Span {
        under(format!("{}/", self.root))
    }

    /// The resources of a scope.
    pub(crate) fn configs(&self, scope: &Scope) -> Span {
        let root = &self.root;
        under(match (scope.kind, &scope.namespace) {
            (None, _) => format!("{root}/config/"),
            (Some(kind), None) => format!("{root}/config/{}/{kind}/", kind.group()),
            (Some(kind), Some(namespace)) => {
                format!("{root}/config/{}/{kind}/{namespace}/", kind.group())
            }
        })
    }

    pub(crate) fn config(&self, key: &Key) -> String {
        format!(
            "{}/config/{}/{}/{}/{}",
            self.root,
            key.kind.group(),
            key.kind,
            key.namespace,
            key.name
        )
    }

    pub(crate) fn records(&self) -> Span {
        under(format!("{}/changes/", self.root))
    }

    pub(crate) fn record(&self, id: Uuid) -> String {
        format!("{}/changes/{id}", self.root)
    }

    pub(crate) fn members(&self, service: &str) -> Span {
        under(format!("{}/members/{service}/", self.root))
    }

    pub(crate) fn member(&self, service: &str, instance: &str) -> String {
        format!("{}/members/{service}/{instance}", self.root)
    }

    /// The opaque values of an area.
    pub(crate) fn opaques(&self, area: Area) -> Span {
        under(format!("{}/{}/", self.root, area.as_str()))
    }

    pub(crate) fn opaque(&self, area: Area, path: &str) -> String {
        format!("{}/{}/{path}", self.root, area.as_str())
    }

    /// Whose office it is.
    pub(crate) fn leader(&self, office: &str) -> String {
        format!("{}/leaders/{office}", self.root)
    }

    /// That key alone.
    pub(crate) fn leader_span(&self, office: &str) -> Span {
        let start = self.leader(office);
        let end = format!("{start}\0");
        Span { start, end }
    }

    pub(crate) fn downs(&self) -> Span {
        under(format!("{}/liveness/", self.root))
    }

    pub(crate) fn down(&self, namespace: &str, name: &str) -> String {
        format!("{}/liveness/{namespace}/{name}", self.root)
    }

    pub(crate) fn rollouts(&self) -> Span {
        under(format!("{}/rollouts/", self.root))
    }

    pub(crate) fn rollout(&self, id: Uuid) -> String {
        format!("{}/rollouts/{id}", self.root)
    }

    pub(crate) fn epoch(&self) -> String {
        format!("{}/epoch", self.root)
    }

    /// The epoch alone.
    pub(crate) fn epoch_span(&self) -> Span {
        let start = self.epoch();
        let end = format!("{start}\0");
        Span { start, end }
    }

    /// What an etcd key is for.
    pub(crate) fn place(&self, etcd_key: &str) -> Place {
        let Some(rest) = etcd_key
            .strip_prefix(&self.root)
            .and_then(|rest| rest.strip_prefix('/'))
        else {
            return Place::Other;
        };
        let parts: Vec<&str> = rest.split('/').collect();
        match parts[..] {
            ["config", group, kind, namespace, name] => {
                Place::Config(resource(group, kind, namespace, name))
            }
            ["config", ..] => Place::Config(None),
            ["changes", _] => Place::Record,
            ["liveness", namespace, name] if !namespace.is_empty() && !name.is_empty() => {
                Place::Liveness {
                    namespace: namespace.into(),
                    name: name.into(),
                }
            }
            ["rollouts", id] => id.parse().map_or(Place::Other, Place::Rollout),
            ["epoch"] => Place::Epoch,
            _ => Place::Other,
        }
    }

    /// The id of the change record at this key, if it is one.
    pub(crate) fn record_id(&self, etcd_key: &str) -> Option<Uuid> {
        etcd_key.strip_prefix(&self.records().start)?.parse().ok()
    }
}

/// Whether these can be parts of a key.
pub(crate) fn is_name(namespace: &str, name: &str) -> bool {
    [namespace, name]
        .iter()
        .all(|part| !part.is_empty() && !part.contains('/'))
}

fn resource(group: &str, kind: &str, namespace: &str, name: &str) -> Option<Key> {
    let kind = Kind::ALL
        .into_iter()
        .find(|k| k.group() == group && k.name() == kind)?;
    is_name(namespace, name).then(|| Key::new(kind, namespace, name))
}

/// The keys that begin with a prefix that ends with a slash ('0' is the character after '/').
fn under(prefix: String) -> Span {
    let end = format!("{}0", &prefix[..prefix.len() - 1]);
    Span { start: prefix, end }
}
