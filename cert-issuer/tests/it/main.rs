//! The issuer as its clients see it: real etcd, real Envoys, real TLS.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod backend;
mod callers;
mod envoy;
mod federation;
mod fixture;
mod numbers;
mod python;
mod replicas;
mod sealing;
#[path = "../../../tests/src/skip.rs"]
#[allow(unreachable_pub, reason = "it is a library's module elsewhere")]
mod skip;
mod tokens;
