//! Who an Envoy says it is: role, workload, version and how traffic reaches it, read from its xDS node.
//!
//! *Invariant:* nothing here believes a claim; whoever calls compares the node with the identity that was proved.

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::{Node, node::UserAgentVersionType};
use envoy_types::pb::google::protobuf::{Struct, value::Kind as ValueKind};

use crate::EnvoyVersion;

/// What a proxy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Beside one workload, for its traffic.
    Sidecar,
    /// Alone, at the edge; configured by Gateways.
    Gateway,
}

/// How a sidecar comes into the path of traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interception {
    /// Applications address it: as their HTTP proxy, or by listeners that a Sidecar binds. `INTERCEPTION_MODE: NONE`.
    #[default]
    Explicit,
    /// The kernel redirects to ports 15001 and 15006. `INTERCEPTION_MODE: REDIRECT` or `TPROXY`.
    Transparent,
}

/// An Envoy as its node describes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Proxy {
    /// The node id, `sidecar~<namespace>~<workload>` or `gateway~<namespace>~<workload>`.
    pub id: Arc<str>,
    /// Its role.
    pub role: Role,
    /// The namespace of its workload.
    pub namespace: Arc<str>,
    /// Its workload: the name of a WorkloadEntry.
    pub workload: Arc<str>,
    /// The Envoy's version; the oldest supported one if it does not say.
    pub envoy: EnvoyVersion,
    /// How traffic reaches it. The node metadata `INTERCEPTION_MODE`; the label or annotation
    /// `weft.mesh/interception: transparent` of the WorkloadEntry decides where the node says nothing.
    pub interception: Option<Interception>,
    /// Labels from the node metadata `LABELS`, for a workload that has no WorkloadEntry.
    pub labels: BTreeMap<String, String>,
}

/// Why a node is not a proxy of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// The id has another form.
    #[error(
        "node.id {0:?} is not sidecar~<namespace>~<workload> or gateway~<namespace>~<workload>"
    )]
    Id(String),
    /// The metadata names a mode that does not exist.
    #[error("node.metadata.INTERCEPTION_MODE {0:?} is none of NONE, REDIRECT, TPROXY")]
    Interception(String),
}

impl Proxy {
    /// Reads an xDS node.
    ///
    /// # Errors
    /// If its id or metadata does not have the form this mesh gives out in bootstraps.
    pub fn from_node(node: &Node) -> Result<Self, NodeError> {
        let parts: Vec<&str> = node.id.split('~').collect();
        let (role, namespace, workload) = match parts[..] {
            ["sidecar", ns, name] if !ns.is_empty() && !name.is_empty() => {
                (Role::Sidecar, ns, name)
            }
            ["gateway", ns, name] if !ns.is_empty() && !name.is_empty() => {
                (Role::Gateway, ns, name)
            }
            _ => return Err(NodeError::Id(node.id.clone())),
        };
        let interception = match node
            .metadata
            .as_ref()
            .and_then(|m| text(m, "INTERCEPTION_MODE"))
        {
            None | Some("") => None,
            Some("NONE") => Some(Interception::Explicit),
            Some("REDIRECT" | "TPROXY") => Some(Interception::Transparent),
            Some(other) => return Err(NodeError::Interception(other.into())),
        };
        Ok(Self {
            id: node.id.as_str().into(),
            role,
            namespace: namespace.into(),
            workload: workload.into(),
            envoy: version(node),
            interception,
            labels: node.metadata.as_ref().map(labels).unwrap_or_default(),
        })
    }
}

fn version(node: &Node) -> EnvoyVersion {
    match &node.user_agent_version_type {
        Some(UserAgentVersionType::UserAgentBuildVersion(build)) => {
            build
                .version
                .as_ref()
                .map_or(EnvoyVersion::OLDEST, |v| EnvoyVersion {
                    major: v.major_number,
                    minor: v.minor_number,
                })
        }
        _ => EnvoyVersion::OLDEST,
    }
}

fn text<'a>(metadata: &'a Struct, field: &str) -> Option<&'a str> {
    match metadata.fields.get(field)?.kind.as_ref()? {
        ValueKind::StringValue(text) => Some(text),
        _ => None,
    }
}

fn labels(metadata: &Struct) -> BTreeMap<String, String> {
    let Some(ValueKind::StructValue(labels)) =
        metadata.fields.get("LABELS").and_then(|v| v.kind.as_ref())
    else {
        return BTreeMap::new();
    };
    labels
        .fields
        .keys()
        .filter_map(|name| Some((name.clone(), text(labels, name)?.to_owned())))
        .collect()
}

#[cfg(test)]
mod tests;
