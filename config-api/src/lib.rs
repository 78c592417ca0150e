//! The REST policy API: Kubernetes conventions for resources, and `/v1` for what Kubernetes has no word for.
//!
//! Requests come from `kubectl`, `meshctl`, `curl` and Kubernetes client libraries; what they write goes to the store in
//! one transaction each; what they read comes from the store, and, where it is about proxies, live from the pushers.
//!
//! *Invariant:* nothing here compiles policy or speaks xDS, and no status is stored.

mod access;
mod app;
mod condition;
mod config;
mod credentials;
mod healthz;
mod http;
mod identity;
mod k8s;
mod liveness;
mod modes;
mod ownership;
mod pushers;
mod reload;
mod rollouts;
mod secrets;
mod server;
mod trace;
mod v1;
mod view;

pub use crate::http::status::Status;
pub use access::{Needs, Role, routes};
pub use config::{AccessConfig, AccessError, Config};
pub use identity::Signature;
pub use server::{Server, StartError};
