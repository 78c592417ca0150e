//! The whole service in one process, over the store in memory, spoken to by HTTP clients.
#![allow(clippy::unwrap_used, missing_docs)]

mod access;
mod authority;
mod authz;
mod certificates;
mod clients;
mod credentials;
mod fixture;
mod heartbeats;
mod keyring;
mod many;
mod mtls;
mod ownership;
mod random;
mod refusals;
mod resources;
mod routes;
mod secrets;
mod secure_clients;
#[path = "../../../tests/src/skip.rs"]
#[allow(unreachable_pub, reason = "it is a library's module elsewhere")]
mod skip;
mod watches;
