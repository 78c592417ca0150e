//! Who calls, and whether they may: every request passes here before its handler.
//!
//! Credentials are a bearer token (static, or a JWT) or the connection's client certificate. Where no way to prove an
//! identity is configured, everybody is `anonymous` and may do everything.
//!
//! *Invariant:* no handler reads an identity from anywhere but the [`Caller`] extension.

mod certificate;
mod gate;
mod guard;
mod oidc;
mod peer;
mod site;
mod tokens;

use store::Author;
use telemetry::trace::{Carried, Context};

use crate::access::{self, Act, Rights, Role};
use crate::http::status::Result;
pub(crate) use certificate::Certificate;
pub(crate) use gate::{Followers, Gate};
pub(crate) use guard::{Guard, guard};
pub use oidc::Signature;
pub(crate) use peer::{CALLER, FORWARDED, PROOF, Proof};
pub(crate) use site::Sites;
pub(crate) use tokens::Subject;

/// Everybody, where nobody is authenticated.
pub(crate) const ANONYMOUS: &str = "anonymous";

/// The caller of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// As authenticated.
    pub(crate) who: String,
    /// The groups they are in, as authenticated.
    pub(crate) groups: Vec<String>,
    /// What they may do.
    pub(crate) rights: Rights,
}

impl Caller {
    /// Somebody who may do everything: nobody is authenticated, or another replica has asked already.
    fn anywhere(who: String) -> Self {
        Self {
            who,
            groups: Vec::new(),
            rights: Rights::Open,
        }
    }

    /// The author of a write by this caller; the transaction adds its trace context.
    pub(crate) fn author(&self, verb: &str) -> Author {
        Author {
            who: self.who.clone(),
            verb: verb.to_owned(),
            ..Author::default()
        }
    }

    /// The author of a write in the trace of the request that is being answered.
    pub(crate) fn traced(&self, verb: &str) -> Author {
        let carried = Carried::of(&Context::current());
        Author {
            traceparent: carried.traceparent,
            tracestate: carried.tracestate,
            ..self.author(verb)
        }
    }

    /// Refuses all of these acts if the caller may not do one of them.
    pub(crate) fn require(&self, acts: &[(Act<'_>, String)]) -> Result<()> {
        access::require(&self.who, &self.rights, acts)
    }

    /// Whether the caller may read what is in a namespace.
    pub(crate) fn sees(&self, namespace: &str) -> bool {
        self.rights.role(Some(namespace)) >= Some(Role::Viewer)
    }

    /// Whether the caller may read what is in every namespace.
    pub(crate) fn sees_all(&self) -> bool {
        self.rights.role(None) >= Some(Role::Viewer)
    }
}
