//! Who calls: a workload with its credential.
//!
//! A certificate proves nothing here: it outlives the credential that it was got by, so who could renew it by itself could
//! not be stopped (decision 030).
//!
//! *Invariant:* nothing that a caller merely says makes it somebody, and nothing does once its credential is revoked.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use metrics::counter;
use model::{Credential, CredentialRecord, Identity, TrustDomain};
use mtls::Connection;
use store::{Area, Entries, Vault};
use tokio::sync::watch;
use tonic::{Code, Status};
use tracing::warn;
use xds::PeerIdentity;

/// How long a request may wait until its credential is known.
const HEARING: Duration = Duration::from_secs(2);

/// A caller, by the credential it showed.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who it is.
    pub identity: Identity,
    /// The credential's hash.
    pub hash: Arc<str>,
    /// The workload that the credential was made for.
    pub workload: Arc<str>,
}

/// Decides who callers are.
#[derive(Clone)]
pub struct Gate {
    trust_domain: TrustDomain,
    /// Credentials by their hashes; `None` until they were read.
    credentials: watch::Receiver<Option<Entries>>,
    /// Where to look for a credential that nobody has told of yet.
    vault: Arc<dyn Vault>,
    looks: Arc<Mutex<Allowance>>,
}

impl Gate {
    pub(crate) fn new(
        trust_domain: TrustDomain,
        credentials: watch::Receiver<Option<Entries>>,
        vault: Arc<dyn Vault>,
    ) -> Self {
        Self {
            trust_domain,
            credentials,
            vault,
            looks: Arc::new(Mutex::new(Allowance::full(Instant::now()))),
        }
    }

    /// Whom a request is from. Before an unknown credential is refused the store is read: it may have been made a moment ago.
    async fn known(&self, headers: &HeaderMap) -> Result<Caller, Status> {
        let caller = self.caller(headers);
        let header = headers.get(header::AUTHORIZATION);
        let given = header.and_then(|value| given(value.as_bytes()));
        match (caller, given) {
            (Err(status), Some(credential)) if status.code() == Code::Unauthenticated => {
                self.hear_of(&credential.hash()).await;
                self.caller(headers)
            }
            (caller, _) => caller,
        }
    }

    /// Returns when a credential that is stored is known here, too; at once if it is not stored, or if so much was asked for
    /// lately that the store must be spared.
    async fn hear_of(&self, hash: &str) {
        let mut credentials = self.credentials.clone();
        let knows = |set: &Option<Entries>| set.as_ref().is_some_and(|set| set.contains_key(hash));
        let allowed = |looks: &Mutex<Allowance>| {
            let mut looks = looks.lock().unwrap_or_else(PoisonError::into_inner);
            looks.take(Instant::now())
        };
        if knows(&credentials.borrow()) || !allowed(&self.looks) {
            return;
        }
        let hear = async {
            if let Ok(Some(_)) = self.vault.read(Area::Tokens, hash).await {
                drop(credentials.wait_for(knows).await);
            }
        };
        drop(tokio::time::timeout(HEARING, hear).await);
    }

    /// Whom a request is from.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`, or `UNAVAILABLE` while credentials cannot be looked up.
    #[allow(clippy::result_large_err, reason = "it is what the request ends with")]
    pub fn caller(&self, headers: &HeaderMap) -> Result<Caller, Status> {
        let mut shown = headers.get_all(header::AUTHORIZATION).iter();
        let shown = match (shown.next(), shown.next()) {
            (Some(one), None) => one,
            (None, _) => {
                return Err(Status::unauthenticated(
                    "show the workload's credential (authorization: Bearer …), which its bootstrap holds; \
                     a certificate is not enough",
                ));
            }
            (Some(_), Some(_)) => {
                return Err(Status::unauthenticated(
                    "there is more than one authorization header",
                ));
            }
        };
        let token = given(shown.as_bytes())
            .ok_or_else(|| Status::unauthenticated("the credential has not the form of one"))?;
        let hash = token.hash();
        let record = self.record(&hash)?;
        let caller = Caller {
            identity: record.identity,
            hash: hash.into(),
            workload: record.workload.into(),
        };
        self.still(&caller)?;
        Ok(caller)
    }

    /// Whether a caller is still who it proved to be: its credential was not revoked.
    ///
    /// # Errors
    /// As [`Self::caller`].
    #[allow(clippy::result_large_err, reason = "it is what the request ends with")]
    pub fn still(&self, caller: &Caller) -> Result<(), Status> {
        self.record(&caller.hash)?;
        if *caller.identity.trust_domain() != self.trust_domain {
            return Err(Status::unauthenticated(format!(
                "{} is not of the trust domain {}",
                caller.identity, self.trust_domain
            )));
        }
        Ok(())
    }

    #[allow(clippy::result_large_err, reason = "it is what the request ends with")]
    fn record(&self, hash: &str) -> Result<CredentialRecord, Status> {
        let credentials = self.credentials.borrow();
        let known = credentials.as_ref().ok_or_else(|| {
            Status::unavailable("credentials cannot be looked up yet: the store does not answer")
        })?;
        let entry = known.get(hash).ok_or_else(|| {
            Status::unauthenticated("the credential is unknown; it may have been revoked")
        })?;
        CredentialRecord::from_bytes(&entry.value).map_err(|error| {
            warn!(%error, path = format!("tokens/{hash}"), "a stored credential cannot be read");
            Status::unauthenticated("the credential's record is damaged; make a new one")
        })
    }
}

/// The credential in a header.
fn given(header: &[u8]) -> Option<Credential> {
    let (scheme, token) = std::str::from_utf8(header).ok()?.split_once(' ')?;
    let bearer = scheme.eq_ignore_ascii_case("bearer");
    bearer.then(|| Credential::parse(token.trim()))?
}

/// How often something may be done: at once so many times, then so many times a second.
#[derive(Debug)]
struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    const MOST: f64 = 50.0;
    const A_SECOND: f64 = 10.0;

    fn full(at: Instant) -> Self {
        let left = Self::MOST;
        Self { left, at }
    }

    /// Whether it may be done now.
    fn take(&mut self, now: Instant) -> bool {
        let gained = now.duration_since(self.at).as_secs_f64() * Self::A_SECOND;
        self.left = (self.left + gained).min(Self::MOST);
        self.at = now;
        let enough = self.left >= 1.0;
        if enough {
            self.left -= 1.0;
        }
        enough
    }
}

/// Lets requests in with their [`Caller`] attached, and refuses the others.
pub(crate) async fn authenticate(
    State(gate): State<Gate>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(connection) = request.extensions().get::<Connection>().cloned() else {
        return refused(&request, &Status::internal("the connection is not known"));
    };
    match gate.known(request.headers()).await {
        Ok(caller) => {
            let extensions = request.extensions_mut();
            extensions.insert(PeerIdentity(caller.identity.to_string().into()));
            extensions.insert(connection.address);
            extensions.insert(caller);
            next.run(request).await
        }
        Err(status) => {
            refusal("authentication", &connection.address.to_string(), &status);
            refused(&request, &status)
        }
    }
}

/// Logs and counts a refusal.
pub(crate) fn refusal(reason: &'static str, who: &str, status: &Status) {
    counter!("weft_issuer_refusals_total", "reason" => reason).increment(1);
    warn!(reason, who, code = ?status.code(), message = status.message(), "refused");
}

/// A refusal as the kind of client that asked understands it.
fn refused(request: &Request, status: &Status) -> Response {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let grpc = content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if grpc {
        status.clone().into_http()
    } else {
        rest(status)
    }
}

/// A status over REST.
pub(crate) fn rest(status: &Status) -> Response {
    use axum::http::StatusCode;
    let code = match status.code() {
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (
        code,
        axum::Json(serde_json::json!({"message": status.message()})),
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_is_read_so_often_and_no_more() {
        let start = Instant::now();
        let mut looks = Allowance::full(start);
        let granted = |looks: &mut Allowance, after: u64| {
            let at = start + Duration::from_secs(after);
            (0..1000).filter(|_| looks.take(at)).count()
        };
        assert_eq!(granted(&mut looks, 0), 50);
        assert_eq!(granted(&mut looks, 1), 10);
        assert_eq!(granted(&mut looks, 3600), 50);
    }
}
