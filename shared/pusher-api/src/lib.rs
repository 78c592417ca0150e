//! The internal gRPC service between config-api and the pushers, generated from `weft/pusher/v1/pusher.proto`.
//!
//! *Invariant:* no code of our own.

/// `weft.pusher.v1`.
#[allow(clippy::all, missing_docs, unused_qualifications, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("weft.pusher.v1");

    /// The file it was generated from, as protoc describes it.
    pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("pusher");
}
