//! The issuer as its clients see it: real etcd, real Envoys, real TLS.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod backend;
mod callers;
mod envoy;
mod federation;
mod fixture;
mod python;
mod replicas;
mod sealing;
mod tokens;
