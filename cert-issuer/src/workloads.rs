//! The secrets of connected workloads: what was uploaded in their namespace, their tokens, and their certificates, signed
//! when a proxy connects, renewed at half of their life, and signed anew when the authority changes. One task owns them.
//!
//! *Invariant:* a workload keeps its last certificate until there is a newer one; its key is nowhere else.

mod tokens;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use metrics::{counter, gauge};
use model::{Identity, TrustDomain};
use ring::rand::SystemRandom;
use rustls::pki_types::CertificateDer;
use telemetry::Check;
use telemetry::trace::{Context, KeyValue, TraceContextExt};
use tokio::sync::{mpsc, watch};
use tracing::{debug, warn};
use xds::{Resource, Snapshot, make};

use crate::authority::{Authority, AuthorityError};
use crate::ca::{Current, chain};
use crate::caller::refusal;
use crate::federation::Federated;
use crate::key::PrivateKey;
use crate::sds::{DEFAULT, ROOT_CA, bundle_name, renewal};
use crate::trace::{self, Causes};
use crate::uploads::{OfNamespace, Uploads};
use crate::x509::certificates_pem;
use tokens::{MOST, Tokens};
pub(crate) use tokens::{Terms, is_token};

/// How long after a failure signing is tried again.
const AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// How often certificates of proxies that are gone are forgotten.
const FORGET: Duration = Duration::from_secs(60);

/// Whose certificate it is: proxies of one account have a key each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Workload {
    /// The identity that was proved.
    pub identity: Identity,
    /// The node id.
    pub node: Arc<str>,
}

/// What a proxy asks for.
pub(crate) enum Ask {
    /// To be shown its secrets on one more stream.
    Connect {
        workload: Workload,
        publish: Publish,
    },
    /// These secrets with tokens, among its secrets.
    Tokens {
        workload: Workload,
        names: Vec<String>,
    },
}

pub(crate) type Publish = watch::Sender<Option<Arc<Snapshot>>>;

/// A workload's certificate and the streams that it is shown on.
struct Held {
    namespace: Arc<str>,
    streams: Vec<Publish>,
    snapshot: Option<Arc<Snapshot>>,
    /// What signed it.
    issuer: Option<CertificateDer<'static>>,
    /// The certificate's secrets, to be put beside a newer bundle.
    own: Vec<Resource>,
    /// When the certificate is to be signed anew.
    certificate_due: Timestamp,
    /// When it expires; `None` before there is one.
    not_after: Option<Timestamp>,
    tokens: Tokens,
    /// When the first of all that is due.
    due: Timestamp,
    /// What is shown of its namespace's uploads.
    uploaded: Option<OfNamespace>,
}

/// What is shown beside what is signed here; nothing is shown before both were read.
pub(crate) struct Beside {
    /// What was uploaded.
    pub(crate) uploads: watch::Receiver<Option<Uploads>>,
    /// What other trust domains are known by.
    pub(crate) federated: watch::Receiver<Option<Federated>>,
}

/// The owner of the certificates.
pub(crate) struct Workloads {
    current: Current,
    beside: Beside,
    causes: Causes,
    ttl: SignedDuration,
    terms: Terms,
    random: SystemRandom,
    held: HashMap<Workload, Held>,
    /// When each is due.
    queue: BTreeSet<(Timestamp, Workload)>,
    check: Check,
}

impl Workloads {
    pub(crate) fn new(
        current: Current,
        beside: Beside,
        causes: Causes,
        ttl: SignedDuration,
        terms: Terms,
        check: Check,
    ) -> Self {
        Self {
            current,
            beside,
            causes,
            ttl,
            terms,
            random: SystemRandom::new(),
            held: HashMap::new(),
            queue: BTreeSet::new(),
            check,
        }
    }

    /// Serves those who ask, until nobody can any more.
    pub(crate) async fn run(mut self, mut asking: mpsc::Receiver<Ask>) {
        let mut current = self.current.clone();
        let mut uploads = self.beside.uploads.clone();
        let mut federated = self.beside.federated.clone();
        let mut forget = tokio::time::interval(FORGET);
        self.check.ok();
        loop {
            let due = self.queue.first().map(|(at, _)| *at);
            let sleep = async {
                match due {
                    Some(at) => {
                        let left = at.duration_since(Timestamp::now());
                        // A clock that was set is noticed within a minute.
                        let left = Duration::try_from(left).unwrap_or_default();
                        tokio::time::sleep(left.min(FORGET)).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ask = asking.recv() => match ask {
                    Some(Ask::Connect { workload, publish }) => self.connect(&workload, publish),
                    Some(Ask::Tokens { workload, names }) => self.want(&workload, &names),
                    None => return,
                },
                changed = current.changed() => match changed {
                    Ok(()) => self.authority_changed(),
                    Err(_) => return,
                },
                changed = uploads.changed() => match changed {
                    Ok(()) => self.uploads_changed(),
                    Err(_) => return,
                },
                changed = federated.changed() => match changed {
                    Ok(()) => self.show_all(),
                    Err(_) => return,
                },
                () = sleep => self.renew(Timestamp::now()),
                _ = forget.tick() => self.forget(),
            }
        }
    }

    fn connect(&mut self, workload: &Workload, publish: Publish) {
        let held = self.held.entry(workload.clone());
        let held = held.or_insert_with_key(Held::new);
        held.streams.retain(|stream| !stream.is_closed());
        match &held.snapshot {
            Some(snapshot) => {
                publish.send_replace(Some(snapshot.clone()));
                held.streams.push(publish);
            }
            None => {
                held.streams.push(publish);
                self.sign(workload, Timestamp::now(), &Context::new());
            }
        }
    }

    /// Signs tokens that are new; together with the certificate if there is none yet.
    fn want(&mut self, workload: &Workload, names: &[String]) {
        let held = self.held.entry(workload.clone());
        let held = held.or_insert_with_key(Held::new);
        for name in names {
            if !held.tokens.want(name) {
                let why = format!("no secret {name:?}: a workload has at most {MOST} tokens");
                let status = tonic::Status::resource_exhausted(why);
                refusal("tokens", &workload.identity.to_string(), &status);
            }
        }
        let now = Timestamp::now();
        if !held.own.is_empty() && held.tokens.due().is_some_and(|due| due <= now) {
            self.sign_tokens(workload, now);
        }
    }

    /// Signs the tokens that are due, and shows them.
    fn sign_tokens(&mut self, workload: &Workload, now: Timestamp) {
        let (Some(authority), Some(held)) = (self.authority(), self.held.get_mut(workload)) else {
            return;
        };
        held.sign_tokens(
            &authority,
            &workload.identity,
            &self.terms,
            now,
            &self.check,
        );
        held.show(&authority, &self.beside);
        self.schedule(workload);
    }

    /// Puts a workload into the queue where it belongs now.
    fn schedule(&mut self, workload: &Workload) {
        if let Some(held) = self.held.get_mut(workload) {
            self.queue.remove(&(held.due, workload.clone()));
            let token_due = held.tokens.due().unwrap_or(Timestamp::MAX);
            held.due = held.certificate_due.min(token_due);
            self.queue.insert((held.due, workload.clone()));
        }
    }

    /// Signs what another issuing certificate signed, and shows everybody the newest bundle.
    fn authority_changed(&mut self) {
        let Some(authority) = self.authority() else {
            return;
        };
        let now = Timestamp::now();
        let issuer = authority.issuing().certificate();
        let workloads: Vec<Workload> = self.held.keys().cloned().collect();
        if workloads.is_empty() {
            return;
        }
        let all = trace::work("sign all", &self.causes.authority.get());
        let (mut named, mut signed) = (all.clone(), 0);
        for workload in &workloads {
            let held = self.held.get_mut(workload).expect("it was just listed");
            if held.issuer.as_ref() == Some(issuer) {
                held.show(&authority, &self.beside);
            } else {
                self.sign(workload, now, &named);
                signed += 1;
                if signed == trace::NAMED {
                    // The rest is only counted.
                    named = trace::unnamed();
                }
            }
        }
        let signed = KeyValue::new("svids.signed", trace::count(signed));
        all.span().set_attribute(signed);
        let nodes: Vec<&str> = workloads.iter().map(|it| &*it.node).collect();
        trace::shown(&all, &nodes);
    }

    /// Shows what was uploaded to the workloads of the namespaces in which something changed.
    fn uploads_changed(&mut self) {
        let Some(authority) = self.authority() else {
            return;
        };
        let changed = |(workload, held): &(&Workload, &mut Held)| {
            let now = of_namespace(&self.beside.uploads, workload.identity.namespace());
            !held.own.is_empty() && held.uploaded != now
        };
        let changed: Vec<_> = self.held.iter_mut().filter(changed).collect();
        if changed.is_empty() {
            return;
        }
        let nodes: Vec<&str> = changed
            .iter()
            .map(|(workload, _)| &*workload.node)
            .collect();
        let cx = trace::work("push secret", &self.causes.uploads.get());
        self.causes.answers.expect(&cx, &nodes);
        for (_, held) in changed {
            held.show(&authority, &self.beside);
        }
        trace::shown(&cx, &nodes);
    }

    /// Shows everybody the bundles that are in force now.
    fn show_all(&mut self) {
        let Some(authority) = self.authority() else {
            return;
        };
        for held in self.held.values_mut().filter(|held| !held.own.is_empty()) {
            held.show(&authority, &self.beside);
        }
    }

    fn renew(&mut self, now: Timestamp) {
        while let Some((at, workload)) = self.queue.first().cloned() {
            if at > now {
                return;
            }
            let held = self.held.get(&workload);
            if held.is_some_and(|held| held.certificate_due > now) {
                self.sign_tokens(&workload, now);
            } else {
                self.sign(&workload, now, &Context::new());
            }
        }
    }

    /// Signs a certificate with a new key and shows it. After a failure it is tried again; the old one stays.
    fn sign(&mut self, workload: &Workload, now: Timestamp, cause: &Context) {
        let Some(authority) = self.authority() else {
            return;
        };
        let cx = trace::sign("x509", &workload.identity, cause);
        cx.span()
            .set_attribute(KeyValue::new("proxy.id", workload.node.to_string()));
        let signed = secrets(&authority, &workload.identity, now, self.ttl, &self.random);
        let Some(held) = self.held.get_mut(workload) else {
            return;
        };
        match signed {
            Ok((own, not_after)) => {
                trace::signed(&cx, Ok(not_after));
                counter!("weft_issuer_svids_total", "kind" => "x509").increment(1);
                debug!(identity = %workload.identity, node = &*workload.node, %not_after, "signed");
                held.own = own;
                held.issuer = Some(authority.issuing().certificate().clone());
                held.certificate_due = renewal(now, not_after, rand::random());
                held.not_after = Some(not_after);
                self.check.ok();
                held.sign_tokens(
                    &authority,
                    &workload.identity,
                    &self.terms,
                    now,
                    &self.check,
                );
                held.show(&authority, &self.beside);
            }
            Err(error) => {
                let error = chain(&error);
                trace::signed(&cx, Err(&error));
                warn!(identity = %workload.identity, error, "a certificate cannot be signed");
                self.check.fail(error);
                held.certificate_due = now + AGAIN;
            }
        }
        self.schedule(workload);
    }

    fn forget(&mut self) {
        let queue = &mut self.queue;
        self.held.retain(|workload, held| {
            held.streams.retain(|stream| !stream.is_closed());
            let used = !held.streams.is_empty();
            if !used {
                queue.remove(&(held.due, workload.clone()));
            }
            used
        });
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        gauge!("weft_issuer_workloads").set(self.held.len() as f64);
        if let Some(first) = self.held.values().filter_map(|held| held.not_after).min() {
            telemetry::expires("issued", first.as_second());
        }
    }

    fn authority(&self) -> Option<Arc<Authority>> {
        self.current.borrow().clone()
    }
}

impl Held {
    fn new(workload: &Workload) -> Self {
        Self {
            namespace: workload.identity.namespace().into(),
            streams: Vec::new(),
            snapshot: None,
            issuer: None,
            own: Vec::new(),
            certificate_due: Timestamp::UNIX_EPOCH,
            not_after: None,
            tokens: Tokens::default(),
            due: Timestamp::UNIX_EPOCH,
            uploaded: None,
        }
    }

    /// Signs the tokens that are due.
    fn sign_tokens(
        &mut self,
        authority: &Authority,
        identity: &Identity,
        terms: &Terms,
        now: Timestamp,
        check: &Check,
    ) {
        if let Err(error) = self.tokens.sign(authority, identity, terms, now) {
            let error = chain(&error);
            warn!(%identity, error, "a token cannot be signed");
            check.fail(error);
        }
    }

    /// Shows the workload's secrets, its namespace's uploads and the bundles to its streams; nothing before all were read, for
    /// what is missing would count as deleted.
    fn show(&mut self, authority: &Authority, beside: &Beside) {
        self.uploaded = of_namespace(&beside.uploads, &self.namespace);
        let federated = beside.federated.borrow().clone();
        let (Some(uploaded), Some(federated)) = (self.uploaded.clone(), federated) else {
            return;
        };
        let bundles = bundles(authority, &federated);
        let revision = i64::try_from(authority.sequence()).unwrap_or(i64::MAX);
        let own = self.own.iter().cloned().chain(self.tokens.secrets());
        let resources = own.chain(bundles).chain(uploaded.iter().cloned());
        let snapshot = Arc::new(Snapshot::of(revision, resources));
        self.streams.retain(|stream| !stream.is_closed());
        for stream in &self.streams {
            stream.send_replace(Some(snapshot.clone()));
        }
        self.snapshot = Some(snapshot);
    }
}

/// The bundles as secrets: each trust domain's own, and what peers are verified by. That is the own roots; with federated trust
/// domains it is each one's roots for its own certificates only.
fn bundles(authority: &Authority, federated: &Federated) -> Vec<Resource> {
    let own = authority.bundle_pem();
    let others: Vec<(&TrustDomain, String)> = (federated.iter())
        // One that gave up its roots vouches for nobody.
        .filter(|(_, bundle)| !bundle.roots().is_empty())
        .map(|(domain, bundle)| (domain, certificates_pem(bundle.roots())))
        .collect();
    let all = [(authority.trust_domain(), own.clone())];
    let all = all.iter().chain(&others);
    let each = all.clone();
    let each = each.map(|(domain, pem)| make::ca_secret(&bundle_name(domain), pem, None));
    let peers = match others.is_empty() {
        true => make::ca_secret(ROOT_CA, &own, None),
        false => make::spiffe_secret(ROOT_CA, all.map(|(domain, pem)| (domain.as_str(), &**pem))),
    };
    let secrets = each.chain([peers]).collect::<Vec<_>>();
    secrets.iter().map(Resource::new).collect()
}

/// What was uploaded in a namespace; nothing before it was read.
fn of_namespace(
    uploads: &watch::Receiver<Option<Uploads>>,
    namespace: &str,
) -> Option<OfNamespace> {
    let uploads = uploads.borrow();
    let found = uploads.as_ref()?.get(namespace).cloned();
    Some(found.unwrap_or_default())
}

/// A new certificate and its key, under its two names, and when it expires.
fn secrets(
    authority: &Authority,
    identity: &Identity,
    now: Timestamp,
    ttl: SignedDuration,
    random: &SystemRandom,
) -> Result<(Vec<Resource>, Timestamp), AuthorityError> {
    let key = PrivateKey::generate(random)?;
    let svid = authority.sign(&identity.id(), &key.public(), now, ttl, &[], random)?;
    let (chain, key) = (svid.pem(), key.pem());
    let secret = |name: &str| Resource::new(&make::tls_secret(name, &chain, &key));
    let own = vec![secret(DEFAULT), secret(&identity.to_string())];
    Ok((own, svid.not_after))
}
