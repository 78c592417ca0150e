//! What services count, as Prometheus reads it.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod requests;
