//! The gate: from the credentials of a request to its [`Caller`].
//!
//! *Invariant:* credentials that are no good are refused, never ignored; nothing of them is logged.

use std::sync::Arc;

use axum::extract::MatchedPath;
use http::request::Parts;
use http::{StatusCode, header};
use store::Member;
use telemetry::{Health, Tasks};
use tracing::warn;

use super::oidc::{Fetcher, Oidc, Origin, Refusal, Settings};
use super::tokens::Tokens;
use super::{ANONYMOUS, Caller, Subject, peer};
use crate::access::Grants;
use crate::config::{AccessConfig, AccessError};
use crate::http::serve::Connection;
use crate::http::status::Status;
use crate::reload::Reloaded;

/// Knows how identities are proved, and what they may do.
pub(crate) struct Gate {
    tokens: Option<Arc<Reloaded<Tokens>>>,
    oidc: Option<Oidc>,
    certificates: bool,
    /// Whether replicas know each other by the mesh's certificates.
    mutual: bool,
    /// `None`: callers are not authenticated.
    grants: Option<Arc<Reloaded<Grants>>>,
}

/// What has to run for the gate to stay up to date.
#[derive(Default)]
pub(crate) struct Followers {
    tokens: Option<Arc<Reloaded<Tokens>>>,
    grants: Option<Arc<Reloaded<Grants>>>,
    oidc: Option<Fetcher>,
}

impl Followers {
    pub(crate) fn spawn(self, tasks: &mut Tasks, health: &Health) {
        let why = "not started yet";
        if let Some(tokens) = self.tokens {
            let check = health.check("token-hashes-file", why);
            tasks.spawn_until_shutdown("token-hashes-file", tokens.follow(check));
        }
        if let Some(oidc) = self.oidc {
            let check = health.check("oidc-keys", why);
            tasks.spawn_until_shutdown("oidc-keys", oidc.run(check));
        }
        match self.grants {
            Some(grants) => {
                let check = health.check("access-file", why);
                tasks.spawn_until_shutdown("access-file", grants.follow(check));
            }
            None => {
                warn!(
                    "callers are not authenticated: everybody who reaches this address may do everything"
                );
                health.check("access", why).degraded(
                    "callers are not authenticated: everybody who reaches this address may do everything \
                     (--token-hashes-file, --client-ca-file, --mesh-client-certificates or --oidc-issuer, with --access-file, changes that)",
                );
            }
        }
    }
}

impl Gate {
    /// The gate that the flags ask for.
    ///
    /// # Errors
    /// If a file cannot be read or understood. `mutual`: whether replicas know each other by the mesh's certificates.
    pub(crate) fn new(
        config: &AccessConfig,
        mutual: bool,
    ) -> Result<(Self, Followers), AccessError> {
        let file = |flag| move |why: String| AccessError::File(flag, why);
        let text = |bytes: &[u8]| {
            String::from_utf8(bytes.to_vec()).map_err(|error| format!("it is not UTF-8: {error}"))
        };
        let tokens = config.token_hashes_file.clone().map(|path| {
            Reloaded::open("static tokens", vec![path], move |contents| {
                Tokens::parse(&text(&contents[0])?)
            })
        });
        let tokens = tokens.transpose().map_err(file("--token-hashes-file"))?;
        let grants = config.access_file.clone().map(|path| {
            Reloaded::open("grants", vec![path], move |contents| {
                Grants::parse(&text(&contents[0])?)
            })
        });
        let grants = grants.transpose().map_err(file("--access-file"))?;
        let fetcher = fetcher(config)?;
        let oidc = fetcher.as_ref().and_then(|fetcher| {
            let settings = Settings {
                issuer: config.oidc_issuer.clone()?,
                audience: config.oidc_audience.clone()?,
                algorithms: config.oidc_algorithms.clone(),
                name_claim: config.oidc_name_claim.clone(),
                groups_claim: config.oidc_groups_claim.clone(),
            };
            Some(Oidc::new(settings, fetcher.keys()))
        });
        let followers = Followers {
            tokens: tokens.clone(),
            grants: grants.clone(),
            oidc: fetcher,
        };
        let gate = Self {
            tokens,
            oidc,
            certificates: config.client_ca_file.is_some() || config.mesh_client_certificates,
            mutual,
            grants,
        };
        Ok((gate, followers))
    }

    /// Who calls. `peers` are the live replicas of this service.
    pub(super) async fn caller(&self, parts: &Parts, peers: &[Member]) -> Result<Caller, Status> {
        let connection = parts.extensions.get::<Connection>();
        // By identities, only a replica's own certificate makes its word count.
        let peers = match self.mutual && !connection.is_some_and(|it| it.replica) {
            true => &[],
            false => peers,
        };
        let Some(grants) = &self.grants else {
            // What another replica authenticated is taken over; here everybody may claim to be anybody.
            let who = peer::forwarded(&parts.headers, peers).unwrap_or_else(|| ANONYMOUS.into());
            return Ok(Caller::anywhere(who));
        };
        if let Some(who) = forwarded_heartbeat(parts, peers) {
            return Ok(Caller::anywhere(who));
        }
        let subject = self.subject(parts).await?;
        Ok(Caller {
            rights: grants.get().rights(&subject),
            who: subject.name,
            groups: subject.groups,
        })
    }

    async fn subject(&self, parts: &Parts) -> Result<Subject, Status> {
        let mut headers = parts.headers.get_all(header::AUTHORIZATION).iter();
        if let Some(value) = headers.next() {
            let scheme = |text: &'_ str| {
                let (scheme, token) = text.split_once(' ')?;
                let token = token.trim();
                (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
                    .then(|| token.to_owned())
            };
            let token = value.to_str().ok().and_then(scheme);
            return match (token, headers.next()) {
                (Some(token), None) => self.owner(&token).await,
                _ => Err(self.unauthorized("the authorization header is not one \"Bearer TOKEN\"")),
            };
        }
        let connection = parts.extensions.get::<Connection>();
        let certificate = connection.and_then(|c| c.certificate.as_ref());
        let Some(certificate) = certificate.filter(|_| self.certificates) else {
            return Err(self.unauthorized("the request carries no credentials"));
        };
        match certificate.as_ref() {
            Err(why) => {
                Err(self.unauthorized(&format!("the client certificate names nobody: {why}")))
            }
            Ok(c) if c.not_after < jiff::Timestamp::now().as_second() => Err(self.unauthorized(
                "the client certificate has expired since the connection was opened",
            )),
            Ok(c) => Ok(c.subject.clone()),
        }
    }

    async fn owner(&self, token: &str) -> Result<Subject, Status> {
        if let Some(tokens) = &self.tokens
            && let Some(subject) = tokens.get().owner(token)
        {
            return Ok(subject.clone());
        }
        match &self.oidc {
            Some(oidc) if Oidc::is_jwt(token) => oidc.subject(token).await.map_err(|e| match e {
                Refusal::Token(why) => self.unauthorized(&format!("the token is refused: {why}")),
                Refusal::Keys(_) => Status::unavailable(e.to_string()),
            }),
            _ => Err(self.unauthorized("the token is not known here")),
        }
    }

    fn unauthorized(&self, why: &str) -> Status {
        let mut ways = Vec::new();
        if self.tokens.is_some() || self.oidc.is_some() {
            ways.push("a token as \"Authorization: Bearer TOKEN\" (meshctl --token-file, kubectl --token)");
        }
        if self.certificates {
            ways.push(
                "a client certificate (meshctl, kubectl: --client-certificate, --client-key)",
            );
        }
        let message = format!("Unauthorized: {why}; send {}", ways.join(", or "));
        Status::new(StatusCode::UNAUTHORIZED, "Unauthorized", message)
    }
}

fn fetcher(config: &AccessConfig) -> Result<Option<Fetcher>, AccessError> {
    let Some(issuer) = &config.oidc_issuer else {
        return Ok(None);
    };
    let origin = Origin::new(issuer, config.oidc_keys.as_deref())
        .map_err(|why| AccessError::File("OIDC", why))?;
    let failed = |why| AccessError::File("--oidc-ca-file", why);
    let authority = config.oidc_ca_file.as_ref().map(|path| {
        std::fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
    });
    let authority = authority.transpose().map_err(failed)?;
    Fetcher::new(origin, authority.as_deref())
        .map(Some)
        .map_err(failed)
}

/// Who sent a heartbeat that a live replica passes on: that replica has authenticated and authorized them.
fn forwarded_heartbeat(parts: &Parts, peers: &[Member]) -> Option<String> {
    let path = parts.extensions.get::<MatchedPath>()?;
    (path.as_str() == crate::v1::HEARTBEAT).then(|| peer::forwarded(&parts.headers, peers))?
}
