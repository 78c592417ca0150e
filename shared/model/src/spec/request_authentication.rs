//! `RequestAuthentication`: which JSON web tokens a workload believes.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Duration, PolicySelector, PolicyTargetReference};

/// Says which JSON web tokens the workloads it selects believe. A request with a token that none of the rules accept is
/// refused; one without a token passes, without a request principal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RequestAuthentication {
    /// The workloads; all of the namespace by default, of the mesh in the root namespace.
    pub selector: Option<PolicySelector>,
    /// A Gateway, Service or ServiceEntry to hold for. Not supported yet.
    pub target_ref: Option<PolicyTargetReference>,
    /// Gateways, Services or ServiceEntries to hold for. Not supported yet.
    pub target_refs: Vec<PolicyTargetReference>,
    /// Whom to believe.
    pub jwt_rules: Vec<JwtRule>,
}

/// An issuer whose tokens are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct JwtRule {
    /// The `iss` of its tokens.
    pub issuer: String,
    /// Audiences, of which a token must have one; any if there are none.
    pub audiences: Vec<String>,
    /// Where its public keys are. Either this or `jwks`.
    pub jwks_uri: Option<String>,
    /// Its public keys: a JSON web key set. Either this or `jwksUri`.
    pub jwks: Option<String>,
    /// Headers that carry a token; `Authorization: Bearer` and the parameter `access_token` if no place is named.
    pub from_headers: Vec<JwtHeader>,
    /// Query parameters that carry a token.
    pub from_params: Vec<String>,
    /// Cookies that carry a token.
    pub from_cookies: Vec<String>,
    /// The header in which the workload gets the token's payload, in base64url.
    pub output_payload_to_header: Option<String>,
    /// Whether the workload gets the token itself.
    pub forward_original_token: bool,
    /// Headers in which the workload gets claims.
    pub output_claim_to_headers: Vec<ClaimToHeader>,
    /// How long fetching the keys may take; 5 s by default.
    pub timeout: Option<Duration>,
    /// Claims that are lists written as words with spaces between, beside `scope` and `permission`.
    pub space_delimited_claims: Vec<String>,
}

/// A header that carries a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct JwtHeader {
    /// The header.
    pub name: String,
    /// What stands before the token, such as `Bearer ` with its space.
    pub prefix: String,
}

/// A claim that the workload gets in a header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClaimToHeader {
    /// The header.
    pub header: String,
    /// The claim; dots lead into nested ones.
    pub claim: String,
}

/// The host and port of a `jwksUri`, and whether it is spoken to over TLS; none if it is no such URL.
pub fn jwks_host_and_port(uri: &str) -> Option<(&str, u16, bool)> {
    let (tls, rest) = match uri.split_once("://")? {
        ("https", rest) => (true, rest),
        ("http", rest) => (false, rest),
        _ => return None,
    };
    let authority = rest.split(['/', '?', '#']).next()?;
    if authority.contains('@') || uri.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return None;
    }
    let default = if tls { 443 } else { 80 };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        _ => (authority, default),
    };
    let bare = host
        .strip_prefix('[')
        .map_or(Some(host), |it| it.strip_suffix(']'))?;
    let fine = port != 0 && !bare.is_empty() && (host != bare || !bare.contains(':'));
    fine.then_some((bare, port, tls))
}

/// Whether a host, as a `jwksUri` names it, is of this machine or of the link: where nothing is to be fetched from unless
/// MeshConfig allows it, because clouds keep credentials there.
pub fn is_local(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    if name == "localhost" || name.ends_with(".localhost") || name == "metadata.google.internal" {
        return true;
    }
    // Resolvers read `127.1`, `0x7f000001` and `2130706433` as addresses too.
    let last = name.rsplit('.').next().unwrap_or_default();
    let number = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    match name.parse::<IpAddr>() {
        Ok(address) => is_local_address(address),
        Err(_) => number,
    }
}

/// Whether an address is of this machine or of the link.
pub fn is_local_address(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            address.is_loopback() || address.is_link_local() || address.octets()[0] == 0
        }
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unspecified() || address.is_unicast_link_local()
        }
    }
}
