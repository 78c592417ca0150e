//! The tokens of a workload: one for each secret of that kind that its proxy asked for, signed anew at half of its life.
//!
//! *Invariant:* a workload keeps its last token until there is a newer one.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use metrics::counter;
use model::Identity;
use xds::{Resource, make};
use zeroize::Zeroizing;

use super::AGAIN;
use crate::authority::Authority;
use crate::jwt::{JwtError, LONGEST_AUDIENCE};
use crate::sds::renewal;

/// What the names of secrets with tokens begin with, before the audience, and what stands before the token in them. (The
/// oldest Envoys cannot put `Bearer` before a secret themselves.)
const KINDS: [(&str, &str); 2] = [("jwt:", ""), ("bearer:", "Bearer ")];

/// The most tokens of one workload.
pub(super) const MOST: usize = 32;

/// For which audience the secret of this name holds a token, and what stands before that.
fn parse(name: &str) -> Option<(&str, &'static str)> {
    let mut kinds = KINDS.iter();
    let (audience, before) =
        kinds.find_map(|(kind, before)| Some((name.strip_prefix(kind)?, *before)))?;
    let fits = (1..=LONGEST_AUDIENCE).contains(&audience.len());
    fits.then_some((audience, before))
}

/// Whether the secret of this name holds a token.
pub(crate) fn is_token(name: &str) -> bool {
    parse(name).is_some()
}

/// What tokens say beside whose they are and for whom.
pub(crate) struct Terms {
    /// How long one is valid.
    pub(crate) ttl: SignedDuration,
    /// The issuer's own address, if it has one for OpenID Connect clients.
    pub(crate) issuer_url: Option<String>,
}

/// The tokens of one workload by the names of their secrets.
#[derive(Default)]
pub(super) struct Tokens(BTreeMap<Arc<str>, Token>);

struct Token {
    secret: Option<Resource>,
    due: Timestamp,
}

impl Tokens {
    /// Asks for a token. Returns whether there is room for it.
    pub(super) fn want(&mut self, name: &str) -> bool {
        if self.0.contains_key(name) {
            return true;
        }
        let room = self.0.len() < MOST;
        if room {
            let token = Token {
                secret: None,
                due: Timestamp::UNIX_EPOCH,
            };
            self.0.insert(name.into(), token);
        }
        room
    }

    /// When the next one is to be signed.
    pub(super) fn due(&self) -> Option<Timestamp> {
        self.0.values().map(|token| token.due).min()
    }

    /// The tokens as secrets.
    pub(super) fn secrets(&self) -> impl Iterator<Item = Resource> {
        self.0.values().filter_map(|token| token.secret.clone())
    }

    /// Signs those that are due.
    ///
    /// # Errors
    /// The first that could not be signed; it is due again soon, and what there was stays.
    pub(super) fn sign(
        &mut self,
        authority: &Authority,
        identity: &Identity,
        terms: &Terms,
        now: Timestamp,
    ) -> Result<(), JwtError> {
        let mut result = Ok(());
        let due = self.0.iter_mut().filter(|(_, token)| token.due <= now);
        for (name, token) in due {
            let Some((audience, before)) = parse(name) else {
                continue;
            };
            let (id, issuer) = (identity.id(), terms.issuer_url.as_deref());
            match authority.sign_jwt(&id, &[audience.to_owned()], issuer, now, terms.ttl) {
                Ok(svid) => {
                    counter!("weft_issuer_svids_total", "kind" => "jwt").increment(1);
                    let text = Zeroizing::new(format!("{before}{}", *svid.token));
                    token.secret = Some(Resource::new(&make::generic_secret(name, &text)));
                    token.due = renewal(now, svid.not_after, rand::random());
                }
                Err(error) => {
                    token.due = now + AGAIN;
                    result = Err(error);
                }
            }
        }
        result
    }
}
