//! How replicas of config-api know each other when one passes a request on: each registers the hash of a random token
//! beside its address, and sends the token.
//!
//! *Invariant:* the token itself is nowhere but in this process and in the requests it passes on.

use http::{HeaderMap, HeaderName};
use store::Member;
use subtle::ConstantTimeEq;

use super::tokens::hash_of;

/// Carries the proof of the replica that passes a request on, which is therefore not passed on again.
pub(crate) const FORWARDED: HeaderName = HeaderName::from_static("x-weft-forwarded");
/// Carries the caller's name, as the passing replica authenticated it.
pub(crate) const CALLER: HeaderName = HeaderName::from_static("x-weft-caller");
/// Where a member keeps the hash of its proof, among its addresses.
pub(crate) const PROOF: &str = "proof";

/// What a replica proves itself with.
pub(crate) struct Proof(String);

impl Default for Proof {
    fn default() -> Self {
        let random: [u8; 32] = rand::random();
        Self(hex(&random))
    }
}

impl Proof {
    /// What is sent.
    pub(crate) fn token(&self) -> &str {
        &self.0
    }

    /// What is registered.
    pub(crate) fn hash(&self) -> String {
        hex(&hash_of(&self.0))
    }
}

/// The name of the caller, if a live replica proves that it passes the request on for them.
pub(super) fn forwarded(headers: &HeaderMap, members: &[Member]) -> Option<String> {
    let presented = hex(&hash_of(headers.get(&FORWARDED)?.to_str().ok()?));
    let proved = members
        .iter()
        .filter_map(|member| member.addresses.get(PROOF))
        .any(|hash| bool::from(hash.as_bytes().ct_eq(presented.as_bytes())));
    let caller = headers.get(&CALLER)?.as_bytes().to_vec();
    proved.then(|| String::from_utf8(caller).ok()).flatten()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
