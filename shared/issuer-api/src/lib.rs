//! The gRPC service of the certificate issuer, generated from `weft/issuer/v1/issuer.proto`.
//!
//! *Invariant:* no code of our own.

/// `weft.issuer.v1`.
#[allow(clippy::all, missing_docs, unused_qualifications, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("weft.issuer.v1");

    /// The file it was generated from, as protoc describes it.
    pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("issuer");
}
