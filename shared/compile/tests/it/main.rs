//! What the compiler promises, shown on its public API.
#![allow(missing_docs, clippy::unwrap_used)]

extern crate weft_compile as compile;

mod counting;
mod envoy;
mod ext_authz;
mod golden;
mod incremental;
mod keys;
mod mtls;
mod processes;
mod support;
