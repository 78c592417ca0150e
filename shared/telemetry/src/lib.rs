//! What every service needs around its work: logs, traces, metrics, health and an orderly end.
//!
//! A service calls [`init`] once, hands [`Health`] to its parts, serves [`router`], and runs its parts under [`Tasks`].
//!
//! *Invariant:* nothing here knows what the service does, and nothing here ends the process.

mod health;
mod log;
mod memory;
mod metrics;
mod requests;
mod tasks;
pub mod trace;

use axum::Router;

pub use health::{Check, Health, grpc_health};
pub use log::{Format, InitError, LogOptions, init};
pub use memory::forbid_core_dumps;
pub use metrics::{Metrics, expires};
pub use requests::{counted, is_probe};
pub use tasks::{TaskError, Tasks, closed, shutdown_signal};
pub use trace::Traces;

/// `/livez`, `/readyz`, gRPC's health protocol and `/metrics` of one service.
pub fn router(health: &Health, metrics: Metrics) -> Router {
    health::router(health).merge(metrics::router(metrics))
}
