//! Leaf translations: from one typed piece of policy to one Envoy message.
//!
//! Everything a function needs is passed in: the spec, what its destinations resolve to, and where the proxy stands. What comes
//! out is protobuf. Which services a proxy sees, which listeners it has and what it subscribes to is decided by the callers.
//!
//! *Invariant:* nothing here looks anything up in the mesh, and equal arguments give equal bytes.

pub(crate) mod authz;
pub(crate) mod cluster;
pub(crate) mod domains;
pub(crate) mod endpoint;
pub(crate) mod jwt;
pub(crate) mod locality;
pub(crate) mod mtls;
pub(crate) mod names;
pub(crate) mod pb;
pub(crate) mod policy;
pub(crate) mod route;
pub(crate) mod secrets;
pub(crate) mod server_tls;
pub(crate) mod tcp;

#[cfg(test)]
mod behaviour;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod validate;
