//! End to end: real etcd, the real services, real Envoys, and what the backends received.
//!
//! Most scenarios run one mesh with four gateways at once: SotW and delta, on the newest and the oldest Envoy.
#![allow(clippy::unwrap_used, missing_docs)]

mod api_https;
mod authz;
mod canaries;
mod canary;
mod certificates;
mod churn;
mod clients;
mod docker;
mod documents;
mod edge;
mod etcd;
mod etcd_tls;
mod explicit;
mod faults;
mod gradual;
mod harness;
mod health;
mod heartbeats;
mod identity;
mod l4;
mod left;
mod library;
mod limits;
mod meshctl;
mod metrics;
mod mtls;
mod mtls_status;
mod observability;
mod paths;
mod preview;
mod probes;
mod refused;
mod rollouts;
mod runtime;
mod scale;
mod shards;
mod sidecars;
mod site;
mod skips;
mod trace;
mod transparent;
mod trust;
mod up;
