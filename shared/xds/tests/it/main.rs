//! Tests with real sockets, and with real Envoys.

#![allow(clippy::unwrap_used)]

mod envoy;
mod examples;
mod extensions;
mod grpc_client;
mod hooks;
mod live;
mod rest;
mod restart;
mod rules;
mod server;
