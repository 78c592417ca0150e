//! `PeerAuthentication`: whether what comes to a workload must come over mutual TLS.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::PolicySelector;

/// Says whether connections to workloads must be mutual TLS: for the mesh (in the root namespace), for a namespace, or for
/// selected workloads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PeerAuthentication {
    /// The workloads; all of the namespace by default, of the mesh in the root namespace.
    pub selector: Option<PolicySelector>,
    /// What holds for every port.
    pub mtls: Option<MutualTls>,
    /// What holds for single ports of the workload itself, not of a service (needs a selector).
    #[serde(deserialize_with = "ports")]
    #[schemars(with = "Option<BTreeMap<String, MutualTls>>")]
    pub port_level_mtls: Option<BTreeMap<u16, MutualTls>>,
}

/// Whether mutual TLS is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MutualTls {
    /// The mode.
    pub mode: PeerMode,
}

/// A mode of mutual TLS, as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PeerMode {
    /// What holds around: for a port the workload's, for a workload the namespace's, for a namespace the mesh's.
    #[default]
    Unset,
    /// Plaintext; what is TLS is left to the workload.
    Disable,
    /// The same as `DISABLE`.
    None,
    /// Plaintext and mutual TLS; the default of a mesh that says nothing.
    Permissive,
    /// Mutual TLS only.
    Strict,
}

/// JSON's names are texts: those that are no port are named in the error.
fn ports<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<BTreeMap<u16, MutualTls>>, D::Error> {
    let Some(written) = Option::<BTreeMap<String, MutualTls>>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let ports = written.into_iter().map(|(port, mtls)| {
        let port: u16 = port.parse().map_err(|_| {
            D::Error::custom(format!("{port:?} must be a port, a number from 1 to 65535"))
        })?;
        Ok((port, mtls))
    });
    ports.collect::<Result<_, _>>().map(Some)
}
