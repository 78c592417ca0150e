//! The internal gRPC service between config-api and the pushers, generated from `weft/pusher/v1/pusher.proto`.
//!
//! *Invariant:* no code of our own.

/// `weft.pusher.v1`.
#[allow(clippy::all, missing_docs, unused_qualifications, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("weft.pusher.v1");
}
