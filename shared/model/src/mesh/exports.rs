//! Who may see a resource: the meaning of `exportTo`.
//!
//! *Invariant:* an empty list means what the mesh says it means, never "nobody".

use std::collections::BTreeSet;
use std::sync::Arc;

/// The namespaces a resource is exported to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exports {
    /// It does not say; the mesh's default holds.
    Unsaid,
    /// `*`.
    All,
    /// These, perhaps none (`~`).
    Only(BTreeSet<Arc<str>>),
}

impl Exports {
    /// Reads `exportTo` of a resource of a namespace: `.` is that namespace, `*` all, `~` none.
    pub fn new(export_to: &[String], namespace: &str) -> Self {
        if export_to.is_empty() {
            return Self::Unsaid;
        }
        if export_to.iter().any(|to| to == "*") {
            return Self::All;
        }
        let names = export_to.iter().map(String::as_str).filter(|to| *to != "~");
        Self::Only(
            names
                .map(|to| {
                    if to == "." {
                        namespace.into()
                    } else {
                        to.into()
                    }
                })
                .collect(),
        )
    }

    /// Whether a proxy of a namespace sees a resource of the namespace `of`. `default` is the mesh's `exportTo` for its kind,
    /// where nothing means everybody.
    pub fn reach(&self, namespace: &str, of: &str, default: &[String]) -> bool {
        match self {
            Self::Unsaid if default.is_empty() => true,
            Self::Unsaid => Self::new(default, of).reach(namespace, of, &[]),
            Self::All => true,
            Self::Only(names) => names.contains(namespace),
        }
    }
}
