//! The gRPC service of the certificate issuer, generated from `weft/issuer/v1/issuer.proto`.
//!
//! *Invariant:* no code of our own.

/// `weft.issuer.v1`.
#[allow(clippy::all, missing_docs, unused_qualifications, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("weft.issuer.v1");
}
