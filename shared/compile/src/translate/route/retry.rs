//! Retries: `HTTPRetry` over Istio's defaults (`retry.ConvertPolicy`).
//!
//! *Invariant:* a retry never leaves the host a consistent hash chose, unless the policy asks for it.

use model::spec::HttpRetry;

use crate::translate::pb;

const DEFAULT_RETRY_ON: &str =
    "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";

/// The retry policy of a route: Istio's defaults where `policy` is silent, none when it says `attempts: 0`.
pub(super) fn retry(policy: Option<&HttpRetry>, consistent_hash: bool) -> Option<pb::RetryPolicy> {
    let Some(policy) = policy else {
        return Some(default(consistent_hash));
    };
    if policy.attempts == 0 {
        return None;
    }
    let default = default(consistent_hash);
    let (retry_on, codes) = match policy.retry_on.as_deref().filter(|it| !it.is_empty()) {
        Some(text) => retry_on(text),
        None => (default.retry_on.clone(), Vec::new()),
    };
    let remote = policy.retry_remote_localities.unwrap_or(false);
    Some(pb::RetryPolicy {
        num_retries: pb::u32_value(policy.attempts),
        retry_on,
        retriable_status_codes: codes,
        per_try_timeout: policy.per_try_timeout.map(|it| pb::duration(*it)),
        retry_host_predicate: match policy.retry_ignore_previous_hosts {
            Some(true) => vec![previous_hosts()],
            Some(false) => Vec::new(),
            None => default.retry_host_predicate.clone(),
        },
        retry_priority: remote.then(previous_priorities),
        retry_back_off: policy.backoff.map(|it| pb::retry_policy::RetryBackOff {
            base_interval: Some(pb::duration(*it)),
            ..Default::default()
        }),
        ..default
    })
}

fn default(consistent_hash: bool) -> pb::RetryPolicy {
    pb::RetryPolicy {
        num_retries: pb::u32_value(2),
        retry_on: DEFAULT_RETRY_ON.into(),
        host_selection_retry_max_attempts: 5,
        retry_host_predicate: if consistent_hash {
            Vec::new()
        } else {
            vec![previous_hosts()]
        },
        ..Default::default()
    }
}

/// Splits `retryOn` into conditions and status codes; codes alone imply that they are retried.
fn retry_on(text: &str) -> (String, Vec<u32>) {
    let parts = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    let (mut conditions, mut codes) = (Vec::new(), Vec::new());
    for part in parts {
        match part.parse::<u32>() {
            Ok(code) if (100..600).contains(&code) => codes.push(code),
            _ => conditions.push(part),
        }
    }
    if !codes.is_empty() && !conditions.contains(&"retriable-status-codes") {
        conditions.push("retriable-status-codes");
    }
    (conditions.join(","), codes)
}

fn previous_hosts() -> pb::retry_policy::RetryHostPredicate {
    let config = pb::any(&pb::previous_hosts::PreviousHostsPredicate {});
    pb::retry_policy::RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".into(),
        config_type: Some(pb::retry_policy::retry_host_predicate::ConfigType::TypedConfig(config)),
    }
}

fn previous_priorities() -> pb::retry_policy::RetryPriority {
    let config = pb::any(&pb::previous_priorities::PreviousPrioritiesConfig {
        update_frequency: 2,
    });
    pb::retry_policy::RetryPriority {
        name: "envoy.retry_priorities.previous_priorities".into(),
        config_type: Some(pb::retry_policy::retry_priority::ConfigType::TypedConfig(
            config,
        )),
    }
}
