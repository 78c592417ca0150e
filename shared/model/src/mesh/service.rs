//! A service: one host of a ServiceEntry.
//!
//! *Invariant:* endpoints are not part of it, so that they come and go without the service changing.

use std::sync::Arc;

use super::{Age, Exports};
use crate::Key;
use crate::spec::ServiceEntry;

/// One host of a ServiceEntry.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// The host, in lower case; may be a wildcard.
    pub host: Arc<str>,
    /// The ServiceEntry.
    pub entry: Key,
    /// Its spec without `endpoints`.
    pub spec: Arc<ServiceEntry>,
    /// Whom it is exported to.
    pub exports: Exports,
    /// How old the ServiceEntry is.
    pub age: Age,
}

impl Service {
    /// The namespace of its ServiceEntry.
    pub fn namespace(&self) -> &Arc<str> {
        &self.entry.namespace
    }
}
