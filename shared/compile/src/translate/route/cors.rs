//! Cross-origin policy, as the CORS filter's configuration per route (`TranslateCORSPolicy`).
//!
//! *Invariant:* nothing is allowed that the policy does not name.

use model::spec::{CorsPolicy, StringMatch, UnmatchedPreflights};

use super::matching;
use crate::translate::pb;

/// The configuration of the CORS filter on this route.
pub(super) fn cors(policy: &CorsPolicy) -> pb::Any {
    let forward = policy.unmatched_preflights != Some(UnmatchedPreflights::Ignore);
    pb::any(&pb::cors::CorsPolicy {
        allow_origin_string_match: origins(policy),
        allow_methods: policy.allow_methods.join(","),
        allow_headers: policy.allow_headers.join(","),
        expose_headers: policy.expose_headers.join(","),
        max_age: policy
            .max_age
            .map(|age| age.as_secs().to_string())
            .unwrap_or_default(),
        allow_credentials: policy
            .allow_credentials
            .map(|value| pb::BoolValue { value }),
        filter_enabled: Some(pb::runtime_fraction(100.0)),
        forward_not_matching_preflights: Some(pb::BoolValue { value: forward }),
        ..Default::default()
    })
}

/// `allowOrigins`, else the older `allowOrigin`.
fn origins(policy: &CorsPolicy) -> Vec<pb::StringMatcher> {
    let older: Vec<_> = policy
        .allow_origin
        .iter()
        .cloned()
        .map(StringMatch::Exact)
        .collect();
    let origins = if policy.allow_origins.is_empty() {
        &older
    } else {
        &policy.allow_origins
    };
    origins
        .iter()
        .filter_map(matching::string_matcher)
        .collect()
}
