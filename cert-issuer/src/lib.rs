//! The mesh's certificate authority: SPIFFE identities for workloads, signed, renewed and rotated.
//!
//! The pure core: [`key`] and [`x509`] make keys and certificates, [`authority`] is what replicas share and how it
//! rotates, [`envelope`] encrypts it.
//!
//! *Invariant:* a private key leaves this process only encrypted, or to the workload whose identity it is.

pub mod authority;
pub mod envelope;
pub mod key;
mod pem;
pub mod x509;
