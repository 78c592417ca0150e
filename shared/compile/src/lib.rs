//! From what people declare to what Envoys take: the compiler, pure and incremental.
//!
//! A [`Compiler`] holds the mesh ([`model::mesh::Mesh`]) and the connected proxies. Each change to the mesh costs what depends
//! on it: values are computed by [units](unit::Unit), which note what they read; when that changes they are computed again,
//! and only if something else comes out does anybody hear of it.
//!
//! To find one's way: [`unit`] lists what is computed and by which module; [`compiler`] puts the parts together into
//! snapshots; [`translate`] has the translations of single messages, which know nothing of the mesh.
//!
//! *Invariant:* nothing here awaits, reads a clock or logs, and equal input gives equal bytes in every process.

mod class;
mod compiler;
mod features;
mod gateway;
mod identity;
mod inbound;
mod layer;
mod listener;
mod memo;
mod outbound;
mod part;
mod port;
mod proxy;
mod route_config;
mod routing;
mod runtime;
mod scope;
mod security;
mod settings;
mod sidecar;
mod translate;
mod unit;

pub use compiler::{Applied, Compiler, Counters, ProxyId, Settings};
pub use features::EnvoyVersion;
pub use identity::{AUTHORITIES, CERTIFICATE, ISSUER_CLUSTER, Identities, sds_source};
pub use model::mesh::Change;
pub use proxy::{Interception, NodeError, Proxy, Role};
