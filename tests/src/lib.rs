//! The harness: runs the real stack (etcd, the services of this workspace, Envoys, demo backends) as processes and
//! watches it from outside, for `make up` and for the end-to-end tests.
//!
//! Data comes from the tools under `.tools/` and the binaries beside the running one; it goes to one run directory that
//! holds every log. *Invariant:* nothing here knows how a resource is compiled; what a test asserts, it saw on a socket.

pub mod backend;
pub mod bench;
pub mod binaries;
pub mod docs;
pub mod envoy;
pub mod http;
pub mod ledger;
pub mod load;
pub mod mesh;
pub mod namespace;
pub mod net;
pub mod otlp;
pub mod process;
pub mod run;
pub mod skip;
pub mod stack;
pub mod up;
pub mod wait;
pub mod xds_client;

#[cfg(test)]
mod layering;
