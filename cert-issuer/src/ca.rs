//! The authority as replicas share it through the store: everyone follows it, the leader creates and rotates it.
//!
//! *Invariant:* only the holder of the office writes by itself, fenced; what cannot be opened replaces nothing.

mod requests;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use model::{Revision, TrustDomain};
use ring::rand::SystemRandom;
use store::{Area, Author, Entry, Expect, Fence, Vault, VaultError, VaultOp, until_answered};
use telemetry::Check;
use telemetry::trace::{self, Context, FutureExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::authority::rotation::{Acknowledged, Step};
use crate::authority::{Authority, AuthorityError, CodecError, Policy};
use crate::envelope::{EnvelopeError, KeyList};
use crate::trace::Cause;

/// Where the authority is stored, below [`Area::Ca`].
const STATE: &str = "state";

/// Where the bundle is stored for everybody, in PEM. It is public.
const BUNDLE: &str = "bundle.pem";

/// Where it is stored how far roots and keys have come, for operators. It is public.
const STATUS: &str = "status.json";

/// The office of the replica that rotates.
const OFFICE: &str = "cert-issuer";

/// How long an office survives its holder.
const OFFICE_TTL: Duration = Duration::from_secs(5);

/// Why the stored authority cannot be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The store.
    #[error("the store did not take or give the certificate authority")]
    Vault(#[from] VaultError),
    /// The envelope.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The contents.
    #[error("ca/{STATE} holds no certificate authority")]
    Codec(#[from] CodecError),
    /// A step.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Another mesh's.
    #[error(
        "the store holds the certificate authority of {stored}, not of {wanted}; set --trust-domain {stored}"
    )]
    TrustDomain {
        /// What is stored.
        stored: TrustDomain,
        /// What this process was told.
        wanted: TrustDomain,
    },
    /// Nothing is stored yet.
    #[error("there is no certificate authority yet; start the issuer first")]
    Absent,
}

impl From<store::Error> for CaError {
    fn from(error: store::Error) -> Self {
        Self::Vault(error.into())
    }
}

/// The authority that is in force; `None` until it was read.
pub type Current = watch::Receiver<Option<Arc<Authority>>>;

/// The stored authority.
#[derive(Clone)]
pub struct Ca {
    vault: Arc<dyn Vault>,
    keys: Arc<KeyList>,
    trust_domain: TrustDomain,
    policy: Policy,
    random: SystemRandom,
}

impl Ca {
    /// The authority of a trust domain, in this store, under these keys.
    pub fn new(
        vault: Arc<dyn Vault>,
        keys: KeyList,
        trust_domain: TrustDomain,
        policy: Policy,
    ) -> Self {
        Self {
            vault,
            keys: Arc::new(keys),
            trust_domain,
            policy,
            random: SystemRandom::new(),
        }
    }

    /// Publishes what is stored, for ever.
    pub(crate) async fn follow(
        self,
        publish: watch::Sender<Option<Arc<Authority>>>,
        cause: Cause,
        check: Check,
    ) {
        let follow = || self.vault.follow(Area::Ca);
        let mut sets = until_answered("follow the certificate authority", follow).await;
        let mut revision = Revision::default();
        while let Some(set) = sets.next().await {
            let Some(entry) = set.get(STATE) else {
                if publish.borrow().is_some() {
                    // An operator's mistake must not take everybody's identity.
                    error!("ca/{STATE} was deleted; the last one known stays in force here");
                    check.degraded(format!("ca/{STATE} was deleted from the store; restore it"));
                }
                continue;
            };
            if entry.revision == revision {
                continue;
            }
            match self.decode(entry) {
                Ok(authority) => {
                    revision = entry.revision;
                    let (root, sequence) = (&authority.active_root().name, authority.sequence());
                    info!(%revision, root, sequence, "the certificate authority is in force");
                    check.ok();
                    cause.set(requests::cause_of(&set, revision));
                    let root = authority.active_root().signer.not_after();
                    telemetry::expires("root", root.as_second());
                    telemetry::expires("issuing", authority.issuing().not_after().as_second());
                    publish.send_replace(Some(Arc::new(authority)));
                }
                Err(error) => {
                    let chain = chain(&error);
                    error!(
                        error = chain,
                        "the stored certificate authority cannot be used"
                    );
                    if publish.borrow().is_some() {
                        check.degraded(chain);
                    } else {
                        check.fail(chain);
                    }
                }
            }
        }
    }

    /// Runs for the office, and rotates while it holds it, until the shutdown.
    pub(crate) async fn lead(
        self,
        instance: String,
        current: Current,
        seen: impl Fn() -> Acknowledged + Send + Sync,
        shutdown: CancellationToken,
    ) -> Result<(), std::convert::Infallible> {
        loop {
            let campaign = || self.vault.campaign(OFFICE, &instance, OFFICE_TTL);
            let office = tokio::select! {
                office = until_answered("campaign for the issuer's office", campaign) => office,
                () = shutdown.cancelled() => return Ok(()),
            };
            info!("this replica rotates the certificate authority");
            tokio::select! {
                () = self.rotate(office.fence(), current.clone(), &seen) => {}
                () = office.lost() => warn!("another replica may rotate now"),
                () = shutdown.cancelled() => {}
            }
            office.resign().await;
            if shutdown.is_cancelled() {
                return Ok(());
            }
        }
    }

    /// Takes steps as they are due; returns when the office was lost.
    async fn rotate(&self, fence: &Fence, mut current: Current, seen: impl Fn() -> Acknowledged) {
        // Steps are due at times, and after ACKs, which nobody announces.
        let period = self.policy.svid_ttl.unsigned_abs() / 100;
        let period = period.clamp(Duration::from_millis(100), Duration::from_secs(15));
        let follow = || self.vault.follow(Area::Ca);
        let mut stored = until_answered("follow what operators ask for", follow).await;
        loop {
            let answered = self.answer(fence).await;
            let advanced = match answered {
                Ok(false) | Err(CaError::Absent) => self.advance(fence, seen()).await,
                done => done,
            };
            match advanced {
                Ok(true) => continue,
                Ok(false) => {}
                Err(CaError::Vault(VaultError::Deposed { .. })) => return,
                Err(error) => warn!(
                    error = chain(&error),
                    "the certificate authority cannot be rotated now"
                ),
            }
            tokio::select! {
                // The follower ends with the process.
                _ = current.changed() => {}
                _ = stored.next() => {}
                () = tokio::time::sleep(period) => {}
            }
        }
    }

    /// Creates the authority if there is none, or takes the step that is due; whether there was anything to do.
    async fn advance(&self, fence: &Fence, seen: Acknowledged) -> Result<bool, CaError> {
        let now = Timestamp::now();
        let stored = self.load().await;
        let step;
        let (authority, expect, cx) = match stored {
            Err(CaError::Absent) => {
                step = "create";
                info!(trust_domain = %self.trust_domain, "creating the certificate authority");
                let new = Authority::create(&self.trust_domain, &self.policy, now, &self.random)?;
                let cx = requests::rotation("create", &Context::new());
                (new, Expect::Absent, cx)
            }
            Err(error) => return Err(error),
            Ok((authority, at)) => {
                let Some(due) = authority.due(&self.policy, now, seen) else {
                    return self.show(&authority, fence).await;
                };
                step = due.name();
                info!(step = ?due, "rotating the certificate authority");
                let cx = requests::rotation(step, &Context::new());
                let next = authority.take(&due, &self.policy, now, &self.random)?;
                (next, Expect::At(at), cx)
            }
        };
        let stored = self.store(&authority, expect, Some(fence), step, "as is due");
        let stored = stored.with_context(cx.clone()).await;
        stored.inspect_err(|error| trace::failed(&cx, error))?;
        Ok(true)
    }

    /// Takes a step that an operator asks for, whoever leads.
    ///
    /// # Errors
    /// [`CaError`]; a conflict means that the authority changed meanwhile.
    pub async fn force(&self, step: &Step) -> Result<Authority, CaError> {
        let (authority, at) = self.load().await?;
        let next = authority.take(step, &self.policy, Timestamp::now(), &self.random)?;
        self.store(&next, Expect::At(at), None, step.name(), "cert-issuer ca")
            .await?;
        Ok(next)
    }

    /// Seals what is stored under the first key-encryption key. Returns whether another one sealed it before.
    ///
    /// # Errors
    /// [`CaError`]; a conflict means that the authority changed meanwhile.
    pub async fn reencrypt(&self) -> Result<bool, CaError> {
        let entry = self.read().await?;
        let outdated = self.keys.is_outdated(&path(), &entry.value)?;
        let authority = self.decode(&entry)?;
        let at = Expect::At(entry.revision);
        self.store(&authority, at, None, "reencrypt", "cert-issuer reencrypt")
            .await?;
        Ok(outdated)
    }

    /// The stored authority and when it was written.
    ///
    /// # Errors
    /// [`CaError`].
    pub async fn load(&self) -> Result<(Authority, Revision), CaError> {
        let entry = self.read().await?;
        Ok((self.decode(&entry)?, entry.revision))
    }

    async fn read(&self) -> Result<Entry, CaError> {
        let entry = self.vault.read(Area::Ca, STATE).await?;
        entry.ok_or(CaError::Absent)
    }

    fn decode(&self, entry: &Entry) -> Result<Authority, CaError> {
        let authority = Authority::from_bytes(&self.keys.open(&path(), &entry.value)?)?;
        if *authority.trust_domain() != self.trust_domain {
            return Err(CaError::TrustDomain {
                stored: authority.trust_domain().clone(),
                wanted: self.trust_domain.clone(),
            });
        }
        Ok(authority)
    }

    async fn store(
        &self,
        authority: &Authority,
        expect: Expect,
        fence: Option<&Fence>,
        step: &str,
        verb: &str,
    ) -> Result<(), CaError> {
        let ops = self.ops(authority, expect).await?;
        let author = Author {
            who: "cert-issuer".into(),
            verb: verb.into(),
            ..Author::default()
        };
        let deeds = vec![requests::deed(step, expect)];
        (self.vault)
            .write_recorded(Area::Ca, ops, fence, author, deeds)
            .await?;
        Ok(())
    }

    /// What is to be written for an authority.
    async fn ops(&self, authority: &Authority, expect: Expect) -> Result<Vec<VaultOp>, CaError> {
        let value = self
            .keys
            .seal(&path(), &authority.to_bytes(), &self.random)?;
        let mut ops = self.shown(authority).await?;
        ops.push(VaultOp::Put {
            path: STATE.into(),
            value,
            expect,
        });
        Ok(ops)
    }

    /// Shows what is public of the stored authority, if it is not shown; whether it was not.
    async fn show(&self, authority: &Authority, fence: &Fence) -> Result<bool, CaError> {
        let ops = self.shown(authority).await?;
        if ops.is_empty() {
            return Ok(false);
        }
        self.vault.write(Area::Ca, ops, Some(fence)).await?;
        Ok(true)
    }

    /// What is to be written so that what is public is shown.
    async fn shown(&self, authority: &Authority) -> Result<Vec<VaultOp>, CaError> {
        let mut ops = Vec::new();
        let sealing = authority.sealing_keys().first();
        let public = [
            (BUNDLE, authority.bundle_pem().into_bytes()),
            (STATUS, requests::status(authority).to_string().into_bytes()),
        ];
        let sealing = sealing.map(|key| (seal::PUBLISHED, key.sealing_key().to_bytes()));
        for (path, value) in public.into_iter().chain(sealing) {
            let shown = self.vault.read(Area::Ca, path).await?;
            if shown.as_ref().is_none_or(|shown| *shown.value != *value) {
                ops.push(VaultOp::Put {
                    path: path.into(),
                    value,
                    expect: shown.map_or(Expect::Absent, |shown| Expect::At(shown.revision)),
                });
            }
        }
        Ok(ops)
    }
}

/// What the authority is sealed for: its path below the root prefix.
fn path() -> String {
    format!("{}/{STATE}", Area::Ca.as_str())
}

/// An error with all its sources, for a log line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
