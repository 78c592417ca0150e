//! Static bearer tokens: a file that names their owners and holds their hashes only.
//!
//! *Invariant:* no token is stored or logged, and how long a comparison takes tells nothing about one.

use ring::digest::{SHA256, digest};
use serde::Deserialize;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// Who somebody is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) groups: Vec<String>,
}

/// A SHA-256 digest.
pub(crate) type Hash = [u8; 32];

/// The owners of static tokens, by the tokens' hashes.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Vec<(Hash, Subject)>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tokens: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    hash: String,
    name: String,
    #[serde(default)]
    groups: Vec<String>,
}

impl Tokens {
    /// Reads `tokens: [{hash: "sha256:<64 hex digits>", name, groups}]`.
    ///
    /// # Errors
    /// Which entry is wrong, and the rule.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let file: File = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        let mut tokens = Vec::with_capacity(file.tokens.len());
        for (index, entry) in file.tokens.into_iter().enumerate() {
            let wrong = |field: &str, why: String| format!("tokens[{index}].{field}: {why}");
            let hash = hash(&entry.hash).ok_or_else(|| {
                // The value is not repeated: it could be a token, put there by mistake.
                let rule = "must be sha256: and 64 hexadecimal digits; make it by printf %s \"$TOKEN\" | sha256sum";
                wrong("hash", rule.into())
            })?;
            if tokens.iter().any(|(other, _)| *other == hash) {
                return Err(wrong(
                    "hash",
                    "is that of an earlier token; remove one".into(),
                ));
            }
            own(&entry.name).map_err(|why| wrong("name", why))?;
            for group in &entry.groups {
                own(group).map_err(|why| wrong("groups", why))?;
            }
            let subject = Subject {
                name: entry.name,
                groups: entry.groups,
            };
            tokens.push((hash, subject));
        }
        Ok(Self(tokens))
    }

    /// The owner of a token.
    pub(crate) fn owner(&self, token: &str) -> Option<&Subject> {
        let presented = hash_of(token);
        // Every hash is compared, and the place of the match is chosen without a branch.
        let mut found = u64::MAX;
        for (index, (hash, _)) in (0u64..).zip(&self.0) {
            let equal: Choice = hash.ct_eq(&presented);
            found.conditional_assign(&index, equal);
        }
        let index = usize::try_from(found).ok()?;
        self.0.get(index).map(|(_, subject)| subject)
    }
}

/// The hash of a token.
pub(crate) fn hash_of(token: &str) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}

/// `sha256:<64 hexadecimal digits>`.
fn hash(text: &str) -> Option<Hash> {
    let digits = text.strip_prefix("sha256:")?.as_bytes();
    let mut hash = Hash::default();
    if digits.len() != 2 * hash.len() {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
        let digit = |c: u8| char::from(c).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(hash)
}

/// What other ways of proving an identity give names to.
const OTHERS: [&str; 4] = ["spiffe:", "cert:", "oidc:", "system:"];

/// Whether a name or group may be given out by the token file.
fn own(name: &str) -> Result<(), String> {
    if name.is_empty() || name.chars().any(|c| c.is_control()) || name == super::ANONYMOUS {
        return Err(format!(
            "{name:?} must not be empty, have control characters, or be {:?}",
            super::ANONYMOUS
        ));
    }
    match OTHERS.iter().find(|prefix| name.starts_with(**prefix)) {
        Some(prefix) => Err(format!(
            "{name:?} must not begin with {prefix:?}: such names are proved by other means"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// printf %s s3cret | sha256sum
    const S3CRET: &str = "1ec1c26b50d5d3c58d9583181af8076655fe00756bf7285940ba3670f99fcba0";

    #[test]
    fn a_token_is_known_by_its_hash_alone() {
        let file = format!(
            "tokens:\n- {{hash: 'sha256:{}', name: other}}\n- {{hash: 'sha256:{S3CRET}', name: alice, groups: [shop]}}\n",
            "0".repeat(64)
        );
        let tokens = Tokens::parse(&file).unwrap();
        let alice = tokens.owner("s3cret").unwrap();
        assert_eq!(
            (alice.name.as_str(), &alice.groups),
            ("alice", &vec!["shop".to_owned()])
        );
        for wrong in ["", "s3cre", "s3cret ", S3CRET, &format!("sha256:{S3CRET}")] {
            assert_eq!(tokens.owner(wrong), None, "{wrong}");
        }
        assert_eq!(Tokens::default().owner("s3cret"), None);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_named() {
        let entry =
            |hash: &str, name: &str| format!("tokens: [{{hash: '{hash}', name: '{name}'}}]");
        let good = format!("sha256:{S3CRET}");
        for (file, place) in [
            (entry("s3cret", "a"), "tokens[0].hash"),
            (entry(&good[..70], "a"), "tokens[0].hash"),
            (entry(&good.replace('1', "x"), "a"), "tokens[0].hash"),
            (entry(&good, ""), "tokens[0].name"),
            (entry(&good, "spiffe://a/ns/b/sa/c"), "tokens[0].name"),
            (entry(&good, "anonymous"), "tokens[0].name"),
            (
                format!("tokens: [{{hash: '{good}', name: a}}, {{hash: '{good}', name: b}}]"),
                "tokens[1].hash",
            ),
            (
                format!("tokens: [{{hash: '{good}', name: a, role: admin}}]"),
                "role",
            ),
        ] {
            let error = Tokens::parse(&file).unwrap_err();
            assert!(error.contains(place), "{file}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
