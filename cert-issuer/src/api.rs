//! Signing by request: `weft.issuer.v1` over gRPC, and the same over REST.
//!
//! *Invariant:* what is signed names the caller's own identity; no request says whose.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response as HttpResponse};
use axum::routing::{get, post};
use axum::{Extension, Json, Router, body::Bytes};
use issuer_api::v1::issuer_server::Issuer;
use issuer_api::v1::{
    Bundle, GetBundleRequest, SignJwtSvidRequest, SignJwtSvidResponse, SignX509SvidRequest,
    SignX509SvidResponse,
};
use jiff::Timestamp;
use metrics::counter;
use model::Identity;
use ring::rand::SystemRandom;
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use serde_json::json;
use telemetry::trace::Context;
use tonic::{Request, Response, Status};
use tracing::error;

use crate::authority::{Authority, Policy};
use crate::ca::{Current, chain};
use crate::caller::{Caller, refusal, rest};
use crate::key::PublicKey;
use crate::sds::renewal;
use crate::trace;
use crate::x509::certificates_pem;

/// The largest request.
const LARGEST: usize = 64 * 1024;

/// What is answered, and when what was signed expires.
type Signed<T> = Result<(T, Timestamp), Status>;

/// Signs for callers.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) current: Current,
    pub(crate) policy: Policy,
    pub(crate) issuer_url: Option<String>,
    /// Who alone has server names in its certificate, and which.
    pub(crate) named: Arc<(Identity, Vec<String>)>,
}

#[allow(clippy::result_large_err, reason = "it is what the request ends with")]
impl Api {
    fn authority(&self) -> Result<Arc<Authority>, Status> {
        let current = self.current.borrow().clone();
        current.ok_or_else(|| Status::unavailable("there is no certificate authority yet"))
    }

    /// Signs in a span of its own, below the one of the caller.
    fn traced<T>(
        kind: &'static str,
        caller: &Caller,
        parent: &Context,
        sign: impl FnOnce() -> Result<(T, Timestamp), Status>,
    ) -> Result<T, Status> {
        let cx = trace::sign(kind, &caller.identity, parent);
        let _current = cx.clone().attach();
        let signed = sign();
        let outcome = signed.as_ref().map(|(_, expires)| *expires);
        trace::signed(&cx, outcome.map_err(|status| status as _));
        signed.map(|(answer, _)| answer)
    }

    fn x509(&self, caller: &Caller, csr: &[u8]) -> Signed<SignX509SvidResponse> {
        let authority = self.authority()?;
        let refused = |error: crate::key::KeyError| {
            let status = Status::invalid_argument(format!("csr: {error}"));
            refusal("request", &caller.identity.to_string(), &status);
            status
        };
        let key = PublicKey::of_request(csr).map_err(refused)?;
        let (now, ttl) = (Timestamp::now(), self.policy.svid_ttl);
        let random = SystemRandom::new();
        let id = caller.identity.id();
        let names: &[String] = match caller.identity == self.named.0 {
            true => &self.named.1,
            false => &[],
        };
        let svid = authority.sign(&id, &key, now, ttl, names, &random);
        let svid = svid.map_err(|error| failed(&error))?;
        counter!("weft_issuer_svids_total", "kind" => "x509").increment(1);
        let answer = SignX509SvidResponse {
            spiffe_id: id.to_string(),
            chain: svid.chain.iter().map(|der| der.to_vec()).collect(),
            expires_at: svid.not_after.as_second(),
            renew_at: renewal(now, svid.not_after, rand::random()).as_second(),
            bundle: Some(self.bundle(&authority)),
        };
        Ok((answer, svid.not_after))
    }

    fn jwt(&self, caller: &Caller, audience: &[String]) -> Signed<SignJwtSvidResponse> {
        use crate::jwt::JwtError;
        let authority = self.authority()?;
        let id = caller.identity.id();
        let url = self.issuer_url.as_deref();
        let svid = authority.sign_jwt(&id, audience, url, Timestamp::now(), self.policy.jwt_ttl);
        let svid = svid.map_err(|error| match error {
            JwtError::Audience => Status::invalid_argument(error.to_string()),
            JwtError::NoKey | JwtError::Sign(_) => failed(&error),
        })?;
        counter!("weft_issuer_svids_total", "kind" => "jwt").increment(1);
        let answer = SignJwtSvidResponse {
            spiffe_id: id.to_string(),
            token: svid.token.to_string(),
            expires_at: svid.not_after.as_second(),
        };
        Ok((answer, svid.not_after))
    }

    fn bundle(&self, authority: &Authority) -> Bundle {
        let whole = authority.spiffe_bundle(self.policy.refresh_hint());
        Bundle {
            trust_domain: authority.trust_domain().to_string(),
            sequence: authority.sequence(),
            roots: authority.bundle().map(|der| der.to_vec()).collect(),
            jwks: whole.to_string(),
        }
    }

    /// The same over REST, below `/v1`.
    pub(crate) fn rest(self) -> Router {
        Router::new()
            .route("/v1/x509-svid", post(sign_x509))
            .route("/v1/jwt-svid", post(sign_jwt))
            .route("/v1/bundle", get(get_bundle))
            .layer(axum::extract::DefaultBodyLimit::max(LARGEST))
            .with_state(self)
    }
}

fn failed(error: &dyn std::error::Error) -> Status {
    let text = chain(error);
    error!(error = text, "signing failed");
    Status::unavailable(format!("the issuer cannot sign now: {text}"))
}

#[allow(clippy::result_large_err, reason = "it is what the request ends with")]
fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| Status::unauthenticated("the caller is not known"))
}

#[tonic::async_trait]
impl Issuer for Api {
    async fn sign_x509_svid(
        &self,
        request: Request<SignX509SvidRequest>,
    ) -> Result<Response<SignX509SvidResponse>, Status> {
        let caller = caller(&request)?;
        let parent = trace::caller(request.metadata().as_ref());
        let sign = || self.x509(&caller, &request.get_ref().csr);
        Self::traced("x509", &caller, &parent, sign).map(Response::new)
    }

    async fn sign_jwt_svid(
        &self,
        request: Request<SignJwtSvidRequest>,
    ) -> Result<Response<SignJwtSvidResponse>, Status> {
        let caller = caller(&request)?;
        let parent = trace::caller(request.metadata().as_ref());
        let sign = || self.jwt(&caller, &request.get_ref().audience);
        Self::traced("jwt", &caller, &parent, sign).map(Response::new)
    }

    async fn get_bundle(&self, _: Request<GetBundleRequest>) -> Result<Response<Bundle>, Status> {
        Ok(Response::new(self.bundle(&*self.authority()?)))
    }
}

/// `POST /v1/x509-svid`: a certificate signing request in PEM or DER.
async fn sign_x509(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    csr: Bytes,
) -> HttpResponse {
    let sign = || api.x509(&caller, &csr);
    let signed = Api::traced("x509", &caller, &trace::caller(&headers), sign);
    let answer = signed.map(|signed| {
        let pem = |ders: Vec<Vec<u8>>| {
            let ders: Vec<CertificateDer<'static>> = ders.into_iter().map(Into::into).collect();
            certificates_pem(&ders)
        };
        Json(json!({
            "spiffeId": signed.spiffe_id,
            "chain": pem(signed.chain),
            "bundle": pem(signed.bundle.unwrap_or_default().roots),
            "expiresAt": signed.expires_at,
            "renewAt": signed.renew_at,
        }))
    });
    answer.map_or_else(|status| rest(&status), IntoResponse::into_response)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JwtRequest {
    audience: Vec<String>,
}

/// `POST /v1/jwt-svid`: `{"audience": ["…"]}`.
async fn sign_jwt(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> HttpResponse {
    let sign = || {
        let request: JwtRequest = serde_json::from_slice(&body)
            .map_err(|error| Status::invalid_argument(format!("the body: {error}")))?;
        api.jwt(&caller, &request.audience)
    };
    match Api::traced("jwt", &caller, &trace::caller(&headers), sign) {
        Ok(signed) => Json(json!({
            "spiffeId": signed.spiffe_id, "token": signed.token, "expiresAt": signed.expires_at,
        }))
        .into_response(),
        Err(status) => rest(&status),
    }
}

/// `GET /v1/bundle`: the SPIFFE bundle.
async fn get_bundle(State(api): State<Api>) -> HttpResponse {
    match api.authority() {
        Ok(authority) => Json(authority.spiffe_bundle(api.policy.refresh_hint())).into_response(),
        Err(status) => rest(&status),
    }
}
