//! What operators ask for, taken up by the replica that leads: a request and its answer are one value in the store, so that
//! nobody but the issuer needs its keys, and nobody needs a way to the issuer.
//!
//! *Invariant:* the answer is written in the transaction that does what was asked.

use jiff::{SignedDuration, Timestamp};
use model::{AuthorityOutcome, AuthorityRequest, AuthorityStep, Revision};
use serde_json::{Value, json};
use store::{Area, Author, Deed, Entries, Expect, Fence, VaultOp};
use telemetry::trace::{self, Carried, Context, FutureExt, KeyValue, SpanKind};
use tracing::{info, warn};

use super::{Ca, CaError, chain};
use crate::authority::Authority;
use crate::authority::rotation::Step;
use crate::x509::Signer;

/// Where requests are, below [`Area::Ca`].
const REQUESTS: &str = "requests/";

/// How long an answer waits for who asked.
const KEPT: SignedDuration = SignedDuration::from_mins(10);

impl Ca {
    /// Answers a request, or forgets one; whether there was any.
    pub(super) async fn answer(&self, fence: &Fence) -> Result<bool, CaError> {
        let now = Timestamp::now();
        let all = self.vault.read_all(Area::Ca).await?;
        for (path, entry) in all.iter().filter(|(path, _)| path.starts_with(REQUESTS)) {
            let delete = || VaultOp::Delete {
                path: path.to_string(),
                expect: entry.revision,
            };
            let mut record = None;
            let ops = match AuthorityRequest::from_bytes(&entry.value) {
                Err(error) => {
                    warn!(%error, path = format!("ca/{path}"), "no request; deleted");
                    vec![delete()]
                }
                Ok(request) if request.outcome.is_some() => {
                    if now.duration_since(request.made) < KEPT {
                        continue;
                    }
                    vec![delete()]
                }
                Ok(request) => {
                    let cx = rotation(step(&request.step).name(), &cause(&request));
                    let fulfilled = self.fulfil(&request, now).with_context(cx.clone());
                    let (outcome, mut ops, at) = fulfilled.await?;
                    if outcome == AuthorityOutcome::Done {
                        let author = Author {
                            who: request.who.clone(),
                            verb: "POST /v1/ca".into(),
                            traceparent: request.traceparent.clone(),
                            tracestate: request.tracestate.clone(),
                        };
                        record = Some((author, deed(&request.step.to_string(), Expect::At(at))));
                    }
                    if let AuthorityOutcome::Refused(why) = &outcome {
                        trace::failed(&cx, why);
                    }
                    let answered = AuthorityRequest {
                        outcome: Some(outcome),
                        ..request
                    };
                    ops.push(VaultOp::Put {
                        path: path.to_string(),
                        value: answered.to_bytes(),
                        expect: Expect::At(entry.revision),
                    });
                    ops
                }
            };
            match record {
                Some((author, deed)) => {
                    (self.vault)
                        .write_recorded(Area::Ca, ops, Some(fence), author, vec![deed])
                        .await?
                }
                None => self.vault.write(Area::Ca, ops, Some(fence)).await?,
            };
            return Ok(true);
        }
        Ok(false)
    }

    /// What comes of a request, what is to be written for it, and over what was written when.
    async fn fulfil(
        &self,
        request: &AuthorityRequest,
        now: Timestamp,
    ) -> Result<(AuthorityOutcome, Vec<VaultOp>, Revision), CaError> {
        let (authority, at) = self.load().await?;
        let step = step(&request.step);
        match authority.take(&step, &self.policy, now, &self.random) {
            Ok(next) => {
                info!(?step, who = request.who, "as an operator asks");
                let ops = self.ops(&next, Expect::At(at)).await?;
                Ok((AuthorityOutcome::Done, ops, at))
            }
            Err(error) => {
                let why = chain(&error);
                warn!(
                    ?step,
                    who = request.who,
                    why,
                    "an operator's request is refused"
                );
                Ok((AuthorityOutcome::Refused(why), Vec::new(), at))
            }
        }
    }
}

/// What the change record of a step says.
pub(super) fn deed(step: &str, expect: Expect) -> Deed {
    Deed {
        kind: "CertificateAuthority".into(),
        namespace: String::new(),
        name: step.into(),
        before: match expect {
            Expect::Absent => None,
            Expect::At(at) => Some(at),
        },
        after: true,
    }
}

fn step(asked: &AuthorityStep) -> Step {
    match asked {
        AuthorityStep::RotateIssuing => Step::RotateIssuing,
        AuthorityStep::RotateRoot => Step::PrepareRoot,
        AuthorityStep::RevokeRoot(name) => Step::RevokeRoot(name.clone()),
    }
}

/// The trace in which a request was made.
fn cause(request: &AuthorityRequest) -> Context {
    let carried = Carried {
        traceparent: request.traceparent.clone(),
        tracestate: request.tracestate.clone(),
    };
    carried.context()
}

/// The trace of the request that led to what was stored at a revision: its answer was written together with it.
pub(super) fn cause_of(entries: &Entries, at: Revision) -> Context {
    let answered = entries
        .iter()
        .find(|(path, entry)| path.starts_with(REQUESTS) && entry.revision == at);
    let request = answered.and_then(|(_, entry)| AuthorityRequest::from_bytes(&entry.value).ok());
    request.map_or_else(Context::new, |request| cause(&request))
}

/// The span of a step.
pub(super) fn rotation(step: &'static str, parent: &Context) -> Context {
    let attributes = vec![KeyValue::new("ca.step", step)];
    let span = trace::span("rotate", SpanKind::Internal).with_attributes(attributes);
    trace::start(span, parent)
}

/// What everybody may know of an authority.
pub(super) fn status(authority: &Authority) -> Value {
    let roots = authority.roots().iter().map(|root| {
        let certified: Vec<&str> = root.lineage.iter().map(|cross| &*cross.by).collect();
        json!({
            "name": root.name, "stage": root.stage, "since": root.since, "expires": root.signer.not_after(),
            "certifiedBy": certified, "sha256": fingerprint(&root.signer),
        })
    });
    let keys = authority.jwt_keys().iter();
    let keys = keys.map(|key| json!({"name": key.id, "stage": key.stage, "since": key.since}));
    json!({
        "trustDomain": authority.trust_domain().as_str(),
        "sequence": authority.sequence(),
        "roots": roots.collect::<Vec<_>>(),
        "issuing": {"expires": authority.issuing().not_after(), "sha256": fingerprint(authority.issuing())},
        "tokenKeys": keys.collect::<Vec<_>>(),
    })
}

/// The SHA-256 of a certificate, as `openssl x509 -fingerprint` shows it but for the colons.
fn fingerprint(signer: &Signer) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, signer.certificate());
    let bytes = digest.as_ref().iter();
    bytes.map(|byte| format!("{byte:02X}")).collect()
}
