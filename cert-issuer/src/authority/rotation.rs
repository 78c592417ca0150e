//! How an authority becomes the next one: roots and keys are prepared, shown to everybody, activated, and retired when
//! nothing they signed is valid any more.
//!
//! [`Authority::due`] says which step is due, from the time and from what proxies acknowledged; [`Authority::take`] takes
//! it. *Invariant:* a root signs only after it was shown, and leaves only after what it signed expired; the one exception
//! is a root that is revoked.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use model::TrustDomain;
use ring::rand::SecureRandom;
use seal::OpeningKey;

use super::{Authority, AuthorityError, JwtKey, Policy, Root, Stage, bytes, serial};
use crate::key::{KeyError, PrivateKey};
use crate::x509::{LEEWAY, Signer};

/// A step from one authority to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A new issuing certificate under the active root. It travels with every certificate it signs, so nobody has to be
    /// told first, and the key before it is forgotten at once.
    RotateIssuing,
    /// A new root, to be trusted and not to sign yet.
    PrepareRoot,
    /// The prepared root signs from now on, through a new issuing certificate; the one before it retires.
    ActivateRoot,
    /// A root that retired is trusted no longer.
    RetireRoot(String),
    /// A root is trusted no longer, at once, whatever it signed, its successors' certificates included. If it was the active one, another takes its place.
    RevokeRoot(String),
    /// A new key for tokens, to be shown and not to sign yet.
    PrepareJwtKey,
    /// The prepared key signs tokens from now on.
    ActivateJwtKey,
    /// A key that retired verifies no token any more.
    RetireJwtKey(String),
    /// A new key to seal uploaded private keys with. Those before it still open what they sealed.
    RotateSealingKey,
}

impl Step {
    /// Its name in traces.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RotateIssuing => "rotateIssuing",
            Self::PrepareRoot => "prepareRoot",
            Self::ActivateRoot => "activateRoot",
            Self::RetireRoot(_) => "retireRoot",
            Self::RevokeRoot(_) => "revokeRoot",
            Self::PrepareJwtKey => "prepareJwtKey",
            Self::ActivateJwtKey => "activateJwtKey",
            Self::RetireJwtKey(_) => "retireJwtKey",
            Self::RotateSealingKey => "rotateSealingKey",
        }
    }
}

/// What proxies have acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// Every proxy that is connected has this bundle or a later one.
    Sequence(u64),
    /// No proxy is connected.
    Nobody,
    /// A replica of the issuer could not be asked.
    Unknown,
}

impl Acknowledged {
    fn covers(self, sequence: u64) -> bool {
        match self {
            Self::Sequence(acknowledged) => acknowledged >= sequence,
            Self::Nobody => true,
            Self::Unknown => false,
        }
    }
}

impl Authority {
    /// The step that is due now, if one is.
    pub fn due(&self, policy: &Policy, now: Timestamp, seen: Acknowledged) -> Option<Step> {
        let sealing = self.sealing_keys.is_empty();
        let steps = [
            sealing.then_some(Step::RotateSealingKey),
            self.retired_root(policy, now),
            self.root_step(policy, now, seen),
            self.issuing_step(policy, now),
            self.jwt_step(policy, now),
        ];
        steps.into_iter().flatten().next()
    }

    fn retired_root(&self, policy: &Policy, now: Timestamp) -> Option<Step> {
        let over = |root: &&Root| {
            root.stage == Stage::Retiring && now >= root.since + policy.svid_ttl + LEEWAY
        };
        let root = self.roots.iter().find(over)?;
        Some(Step::RetireRoot(root.name.clone()))
    }

    fn root_step(&self, policy: &Policy, now: Timestamp, seen: Acknowledged) -> Option<Step> {
        let active = self.active_root();
        let left = active.signer.not_after().duration_since(now);
        let Some(prepared) = self.root_at(Stage::Prepared) else {
            return (left < policy.root_margin()).then_some(Step::PrepareRoot);
        };
        let shown = now.duration_since(prepared.since);
        let acknowledged = seen.covers(prepared.sequence) && shown >= policy.overlap;
        // What the old root signs must not outlast it.
        let last_moment = left <= policy.svid_ttl;
        (acknowledged || shown >= policy.patience || last_moment).then_some(Step::ActivateRoot)
    }

    fn issuing_step(&self, policy: &Policy, now: Timestamp) -> Option<Step> {
        let end = self.issuing.not_after();
        let late = end.duration_since(now) < policy.issuing_ttl / 2;
        // Under a root that ends soon, another one would end no later.
        let longer = self.active_root().signer.not_after() > end;
        (late && longer).then_some(Step::RotateIssuing)
    }

    fn jwt_step(&self, policy: &Policy, now: Timestamp) -> Option<Step> {
        for key in &self.jwt_keys {
            let age = now.duration_since(key.since);
            match key.stage {
                Stage::Retiring if age >= policy.jwt_ttl + LEEWAY => {
                    return Some(Step::RetireJwtKey(key.id.clone()));
                }
                Stage::Prepared if age >= policy.overlap => return Some(Step::ActivateJwtKey),
                Stage::Active if age >= policy.jwt_key_ttl => {
                    let next = self.jwt_keys.iter().any(|key| key.stage == Stage::Prepared);
                    if !next {
                        return Some(Step::PrepareJwtKey);
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// Takes a step, whether it is due or forced.
    ///
    /// # Errors
    /// The step is not possible as things are, or no key or certificate could be made.
    pub fn take(
        &self,
        step: &Step,
        policy: &Policy,
        now: Timestamp,
        random: &dyn SecureRandom,
    ) -> Result<Self, AuthorityError> {
        let mut next = self.clone();
        match step {
            Step::RotateIssuing => {
                next.issuing = new_issuing(&self.active_root().signer, policy, now, random)?;
            }
            Step::PrepareRoot => {
                if let Some(root) = self.root_at(Stage::Prepared) {
                    return Err(AuthorityError::NotNow(format!(
                        "{:?} is prepared already; wait until it is active",
                        root.name
                    )));
                }
                next.add_root(Stage::Prepared, policy, now, random)?;
            }
            Step::ActivateRoot => {
                if self.root_at(Stage::Prepared).is_none() {
                    let why = "no root is prepared; prepare one first";
                    return Err(AuthorityError::NotNow(why.to_owned()));
                }
                next.set_active_root(Stage::Retiring, now);
                next.promote_root(now);
                next.issuing = new_issuing(&next.active_root().signer, policy, now, random)?;
            }
            Step::RetireRoot(name) => {
                let root = self.root(name)?;
                if root.stage != Stage::Retiring {
                    return Err(AuthorityError::NotNow(format!(
                        "{name:?} is not retiring; activate another one first"
                    )));
                }
                next.remove_root(name);
            }
            Step::RevokeRoot(name) => {
                // A root that retired long ago may still have certified a present one.
                if !self.descends_from(name) {
                    self.root(name)?;
                }
                let was_active = self.active_root().name == *name;
                next.disown(name);
                next.remove_root(name);
                if was_active {
                    if next.root_at(Stage::Prepared).is_some() {
                        next.promote_root(now);
                    } else {
                        next.add_root(Stage::Active, policy, now, random)?;
                    }
                    next.issuing = new_issuing(&next.active_root().signer, policy, now, random)?;
                }
            }
            Step::PrepareJwtKey => {
                next.jwt_keys.push(new_jwt_key(now, random)?);
                next.sequence += 1;
            }
            Step::ActivateJwtKey => {
                let stages = self.jwt_keys.iter().map(|key| key.stage);
                if !stages.into_iter().any(|stage| stage == Stage::Prepared) {
                    let why = "no key for tokens is prepared; prepare one first";
                    return Err(AuthorityError::NotNow(why.to_owned()));
                }
                for key in &mut next.jwt_keys {
                    match key.stage {
                        Stage::Prepared => (key.stage, key.since) = (Stage::Active, now),
                        Stage::Active => (key.stage, key.since) = (Stage::Retiring, now),
                        Stage::Retiring => {}
                    }
                }
            }
            Step::RetireJwtKey(id) => {
                next.jwt_keys
                    .retain(|key| key.id != *id || key.stage != Stage::Retiring);
                next.sequence += 1;
            }
            Step::RotateSealingKey => next.sealing_keys.insert(0, new_sealing_key(random)?),
        }
        Ok(next)
    }

    fn root_at(&self, stage: Stage) -> Option<&Root> {
        self.roots.iter().find(|root| root.stage == stage)
    }

    fn root(&self, name: &str) -> Result<&Root, AuthorityError> {
        let found = self.roots.iter().find(|root| root.name == name);
        found.ok_or_else(|| {
            let known: Vec<_> = self.roots.iter().map(|root| root.name.as_str()).collect();
            AuthorityError::NoSuchRoot {
                name: name.to_owned(),
                known: known.join(", "),
            }
        })
    }

    fn add_root(
        &mut self,
        stage: Stage,
        policy: &Policy,
        now: Timestamp,
        random: &dyn SecureRandom,
    ) -> Result<(), AuthorityError> {
        let (name, signer) = new_root(&self.trust_domain, policy, now, random)?;
        let lineage = match stage {
            Stage::Prepared => self.succession((&name, &signer), now, random)?,
            // In the place of a root that nobody is to trust.
            Stage::Active | Stage::Retiring => Vec::new(),
        };
        self.sequence += 1;
        self.roots.push(Root {
            name,
            signer,
            stage,
            since: now,
            sequence: self.sequence,
            lineage,
        });
        Ok(())
    }

    fn remove_root(&mut self, name: &str) {
        let before = self.roots.len();
        self.roots.retain(|root| root.name != name);
        // What peers are to trust has changed only if it was there.
        self.sequence += u64::from(self.roots.len() < before);
    }

    fn promote_root(&mut self, now: Timestamp) {
        let mut roots = self.roots.iter_mut();
        if let Some(root) = roots.find(|root| root.stage == Stage::Prepared) {
            (root.stage, root.since) = (Stage::Active, now);
        }
    }

    fn set_active_root(&mut self, stage: Stage, now: Timestamp) {
        let mut roots = self.roots.iter_mut();
        if let Some(root) = roots.find(|root| root.stage == Stage::Active) {
            (root.stage, root.since) = (stage, now);
        }
    }
}

impl Policy {
    /// How much of a root's validity is left when the next is prepared: enough to show it to everybody, patiently, while
    /// the old one still signs certificates of full length.
    fn root_margin(&self) -> SignedDuration {
        (self.root_ttl / 5).max(self.patience + self.svid_ttl * 2)
    }
}

pub(super) fn new_root(
    trust_domain: &TrustDomain,
    policy: &Policy,
    now: Timestamp,
    random: &dyn SecureRandom,
) -> Result<(String, Arc<Signer>), AuthorityError> {
    let name = name("root", random)?;
    let key = PrivateKey::generate(random)?;
    let end = now + policy.root_ttl;
    let signer = Signer::root(trust_domain, &name, key, serial(random)?, now, end)?;
    Ok((name, Arc::new(signer)))
}

pub(super) fn new_issuing(
    root: &Signer,
    policy: &Policy,
    now: Timestamp,
    random: &dyn SecureRandom,
) -> Result<Arc<Signer>, AuthorityError> {
    let name = name("issuing", random)?;
    let key = PrivateKey::generate(random)?;
    let end = now + policy.issuing_ttl;
    let signer = root.issuing(&name, key, serial(random)?, now, end)?;
    Ok(Arc::new(signer))
}

pub(super) fn new_jwt_key(
    now: Timestamp,
    random: &dyn SecureRandom,
) -> Result<JwtKey, AuthorityError> {
    Ok(JwtKey {
        id: name("jwt", random)?,
        key: Arc::new(PrivateKey::generate(random)?),
        stage: Stage::Prepared,
        since: now,
    })
}

pub(super) fn new_sealing_key(random: &dyn SecureRandom) -> Result<OpeningKey, KeyError> {
    Ok(OpeningKey::generate(name("sealing", random)?))
}

fn name(what: &str, random: &dyn SecureRandom) -> Result<String, KeyError> {
    let number = u64::from_be_bytes(bytes(random)?);
    Ok(format!("{what}-{number:016x}"))
}
