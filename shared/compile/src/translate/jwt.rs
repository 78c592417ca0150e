//! RequestAuthentications as Envoy's JWT filter: every rule a provider, any of which may accept; no token is accepted too.
//!
//! Source: Istio's `security/authn/policy_applier.go` (`convertToEnvoyJwtConfig`).
//!
//! *Invariant:* a rule whose keys cannot be had refuses its issuer's tokens.

use std::time::Duration;

use model::spec::{JwtRule, jwks_host_and_port};
use xds::pb::envoy::extensions::filters::http::jwt_authn::v3 as jwt;
use xds::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;

use crate::listener;
use crate::translate::pb;
use jwt::jwt_requirement::RequiresType;

/// The filter; what it verified is dynamic metadata under this name.
pub(crate) const FILTER: &str = "envoy.filters.http.jwt_authn";
/// The claims in that metadata.
pub(crate) const PAYLOAD: &str = "payload";
/// How long fetching keys may take where nobody says.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long fetched keys are believed; they are fetched again before.
const CACHE: Duration = Duration::from_secs(300);

/// The filter of these rules, each with the cluster its keys are fetched from if it does not hold them itself.
pub(crate) fn filter(rules: &[(&JwtRule, String)]) -> Option<HttpFilter> {
    if rules.is_empty() {
        return None;
    }
    let name = |at: usize| format!("origins-{at}");
    let providers = rules.iter().enumerate();
    let providers = providers.map(|(at, (rule, cluster))| (name(at), provider(rule, cluster)));
    let requirement = |requires_type| jwt::JwtRequirement {
        requires_type: Some(requires_type),
    };
    let accepted = (0..rules.len()).map(|at| requirement(RequiresType::ProviderName(name(at))));
    let missing = requirement(RequiresType::AllowMissing(Default::default()));
    let any = requirement(RequiresType::RequiresAny(jwt::JwtRequirementOrList {
        requirements: accepted.chain([missing]).collect(),
    }));
    let rule = jwt::RequirementRule {
        r#match: Some(pb::RouteMatch {
            path_specifier: Some(pb::route_match::PathSpecifier::Prefix("/".into())),
            ..Default::default()
        }),
        requirement_type: Some(jwt::requirement_rule::RequirementType::Requires(any)),
    };
    let config = jwt::JwtAuthentication {
        providers: providers.collect(),
        rules: vec![rule],
        bypass_cors_preflight: true,
        ..Default::default()
    };
    Some(listener::http_extension(FILTER, pb::any(&config)))
}

fn provider(rule: &JwtRule, cluster: &str) -> jwt::JwtProvider {
    let headers = rule.from_headers.iter().map(|header| jwt::JwtHeader {
        name: header.name.clone(),
        value_prefix: header.prefix.clone(),
    });
    let claims = rule.output_claim_to_headers.iter();
    let claims = claims.map(|to| jwt::JwtClaimToHeader {
        header_name: to.header.clone(),
        claim_name: to.claim.clone(),
        ..Default::default()
    });
    let lists = ["scope", "permission"].map(String::from).into_iter();
    jwt::JwtProvider {
        issuer: rule.issuer.clone(),
        audiences: rule.audiences.clone(),
        forward: rule.forward_original_token,
        from_headers: headers.collect(),
        from_params: rule.from_params.clone(),
        from_cookies: rule.from_cookies.clone(),
        forward_payload_header: rule.output_payload_to_header.clone().unwrap_or_default(),
        payload_in_metadata: PAYLOAD.into(),
        normalize_payload_in_metadata: Some(jwt::jwt_provider::NormalizePayload {
            space_delimited_claims: lists.chain(rule.space_delimited_claims.clone()).collect(),
        }),
        claim_to_headers: claims.collect(),
        jwks_source_specifier: Some(keys(rule, cluster)),
        ..Default::default()
    }
}

fn keys(rule: &JwtRule, cluster: &str) -> jwt::jwt_provider::JwksSourceSpecifier {
    use jwt::jwt_provider::JwksSourceSpecifier::{LocalJwks, RemoteJwks};
    if let Some(jwks) = rule.jwks.as_deref().filter(|text| !text.is_empty()) {
        return LocalJwks(pb::DataSource {
            specifier: Some(pb::data_source::Specifier::InlineString(jwks.into())),
            ..Default::default()
        });
    }
    let timeout = rule.timeout.map_or(TIMEOUT, |timeout| timeout.0);
    RemoteJwks(jwt::RemoteJwks {
        http_uri: Some(pb::HttpUri {
            uri: rule.jwks_uri.clone().unwrap_or_default(),
            timeout: Some(pb::duration(timeout)),
            http_upstream_type: Some(pb::http_uri::HttpUpstreamType::Cluster(cluster.into())),
        }),
        cache_duration: Some(pb::duration(CACHE)),
        async_fetch: Some(jwt::JwksAsyncFetch::default()),
        ..Default::default()
    })
}

/// The name of the cluster that keys are fetched from: `jwks|443|issuer.example`.
pub(crate) fn cluster_name(uri: &str) -> Option<String> {
    let (host, port, _) = jwks_host_and_port(uri)?;
    Some(format!("jwks|{port}|{}", host.to_ascii_lowercase()))
}
