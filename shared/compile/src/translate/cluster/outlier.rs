//! Outlier detection: when Envoy takes an endpoint out of the pool by what it saw of it (`applyOutlierDetection`).
//!
//! *Invariant:* ejection by success rate is off: Istio knows only consecutive errors.

use model::spec::OutlierDetection;

use crate::translate::pb;

/// The outlier detection of a cluster.
pub(super) fn outlier_detection(policy: &OutlierDetection) -> pb::OutlierDetection {
    let enforced = |limit: Option<u32>| limit.map(|it| if it > 0 { 100 } else { 0 });
    let value = |value: Option<u32>| value.and_then(pb::u32_value);
    let errors = policy.consecutive_5xx_errors.or(policy.consecutive_errors);
    let split = policy.split_external_local_origin_errors;
    let local = policy
        .consecutive_local_origin_failures
        .filter(|it| split && *it > 0);
    pb::OutlierDetection {
        consecutive_5xx: value(errors),
        enforcing_consecutive_5xx: value(enforced(errors)),
        consecutive_gateway_failure: value(policy.consecutive_gateway_errors),
        enforcing_consecutive_gateway_failure: value(enforced(policy.consecutive_gateway_errors)),
        split_external_local_origin_errors: split,
        consecutive_local_origin_failure: value(local),
        enforcing_consecutive_local_origin_failure: value(enforced(local)),
        enforcing_local_origin_success_rate: split.then_some(pb::UInt32Value { value: 0 }),
        enforcing_success_rate: pb::u32_value(0),
        interval: policy.interval.map(|it| pb::duration(*it)),
        base_ejection_time: policy.base_ejection_time.map(|it| pb::duration(*it)),
        max_ejection_percent: value(policy.max_ejection_percent.filter(|it| *it > 0)),
        ..Default::default()
    }
}
