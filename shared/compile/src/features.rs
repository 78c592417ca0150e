//! The Envoys that are supported, by version.
//!
//! Everything that is compiled at present is taken by the oldest of them as by the newest, which the golden tests show on both,
//! so a proxy's version does not divide classes. The first feature that the oldest lacks is to be looked up here, becomes part
//! of the class, and is left out and reported where it is missing.
//!
//! *Invariant:* nothing else in this crate compares Envoy versions.

use std::fmt;

/// An Envoy release, `major.minor`; patches do not change what configuration it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnvoyVersion {
    /// 1.
    pub major: u32,
    /// 40 in 1.40.0.
    pub minor: u32,
}

impl EnvoyVersion {
    /// The oldest that is supported; what a proxy that does not say is taken for.
    pub const OLDEST: Self = Self {
        major: 1,
        minor: 36,
    };
    /// The current one.
    pub const CURRENT: Self = Self {
        major: 1,
        minor: 40,
    };
}

impl fmt::Display for EnvoyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}
