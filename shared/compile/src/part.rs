//! What a computation contributes to the configuration of proxies: whole resources, pieces of resources that several
//! contribute to, and what is to be told to people.
//!
//! *Invariant:* a part is a value: equal inputs give equal parts, byte for byte.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::Key;
use xds::{Resource, ResourceType};

use crate::listener::ListenerPiece;

/// Something that people should know about a resource they wrote.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Report {
    /// The resource.
    pub key: Key,
    /// What is the matter, with the field's path first where there is one, and what to do.
    pub message: String,
}

/// What one computation contributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// Whole resources.
    pub(crate) resources: Vec<Resource>,
    /// Virtual hosts for a route configuration (its name): an encoded `RouteConfiguration` with nothing else in it.
    pub(crate) virtual_hosts: Vec<(Arc<str>, Resource)>,
    /// Filter chains for a listener.
    pub(crate) listeners: Vec<(Arc<str>, ListenerPiece)>,
    /// What people should know.
    pub(crate) reports: BTreeSet<Report>,
    /// The resources that people wrote and this was made from.
    pub(crate) sources: BTreeSet<Key>,
}

impl Part {
    /// Whether it has something to do with a resource.
    pub(crate) fn makes(&self, ty: ResourceType, name: &str) -> bool {
        match ty {
            ResourceType::Route if self.virtual_hosts.iter().any(|(route, _)| **route == *name) => {
                true
            }
            ResourceType::Listener
                if self
                    .listeners
                    .iter()
                    .any(|(listener, _)| **listener == *name) =>
            {
                true
            }
            _ => self
                .resources
                .iter()
                .any(|resource| resource.ty() == ty && **resource.name() == *name),
        }
    }
}

/// The parts that one owner contributes.
pub(crate) type Parts = Arc<[Arc<Part>]>;
