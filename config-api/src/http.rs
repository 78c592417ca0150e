//! HTTP as this API speaks it: errors, negotiation, bodies, parameters, limits, and the server loop.
//!
//! *Invariant:* nothing here knows a resource beyond its key.

pub(crate) mod body;
pub(crate) mod limits;
pub(crate) mod mesh;
pub(crate) mod negotiate;
pub(crate) mod query;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod tls;
pub(crate) mod warning;
