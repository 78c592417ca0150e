//! Tests with real sockets, and with real Envoys.

#![allow(clippy::unwrap_used)]

mod envoy;
mod examples;
mod grpc_client;
mod hooks;
mod live;
mod rest;
mod rules;
mod server;
