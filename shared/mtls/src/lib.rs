//! Mutual TLS between the parts of the mesh, by identities of the mesh: a service's own certificate, fetched from the
//! issuer and renewed; connections whose peer is known; and channels to a peer that must be who it should be.
//!
//! *Invariant:* a peer is its one SPIFFE ID, verified by the roots of this moment; no name and no address counts. Sessions
//! are never resumed, so no connection outlives the trust of its handshake unnoticed.

mod accept;
mod channel;
mod issuers;
mod keep;
mod leaf;
mod material;
mod own;

pub use accept::{Connection, Serving, Stream, accept};
pub use channel::{ChannelError, channel, channel_to};
pub use issuers::{Issuers, Tried};
pub use leaf::{LeafError, leaf};
pub use material::{Current, Material, MaterialError, anonymous};
pub use own::{IdentityFlags, Own, place};
