//! The `continue` token of a paged list: which revision, and where the next page starts.
//!
//! *Invariant:* a token carries no secret and grants nothing; a forged one can only name another place in the same list.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::{Key, Kind, Revision};
use serde::{Deserialize, Serialize};

use crate::http::query::invalid;
use crate::http::status::Result;

/// Where a list goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Continue {
    v: u8,
    rv: i64,
    ns: String,
    name: String,
}

impl Continue {
    /// The token for the page that starts at `next`, read at `revision`.
    pub(crate) fn encode(revision: Revision, next: &Key) -> String {
        let token = Self {
            v: 1,
            rv: revision.0,
            ns: next.namespace.to_string(),
            name: next.name.to_string(),
        };
        URL_SAFE_NO_PAD
            .encode(serde_json::to_vec(&token).expect("strings and numbers always serialise"))
    }

    /// What a token says, for a list of `kind`.
    pub(crate) fn decode(kind: Kind, text: &str) -> Result<(Revision, Key)> {
        let token: Option<Self> = URL_SAFE_NO_PAD
            .decode(text)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        match token {
            Some(t) if t.v == 1 && t.rv > 0 => Ok((Revision(t.rv), Key::new(kind, t.ns, t.name))),
            _ => Err(invalid(
                "continue",
                text,
                "is not a token that this API gave out; start the list again",
            )),
        }
    }
}
