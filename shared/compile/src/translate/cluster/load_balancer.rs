//! Load balancers: `simple`, `consistentHash`, warm-up, and what all of them share (`applyLoadBalancer`).
//!
//! *Invariant:* the panic threshold is always written: Envoy's own would send to unhealthy endpoints when half of them are.

use model::spec::{ConsistentHashLb, LoadBalancerSettings, SimpleLb};
use pb::cluster::common_lb_config::{LocalityConfigSpecifier, LocalityWeightedLbConfig};
use pb::cluster::{
    CommonLbConfig, LbConfig, LbPolicy, LeastRequestLbConfig, MaglevLbConfig, RingHashLbConfig,
    RoundRobinLbConfig, SlowStartConfig,
};

use super::Input;
use crate::translate::locality::Balance;
use crate::translate::pb;

/// What every load balancer shares: `outlierDetection.minHealthPercent`, and weights of localities.
pub(super) fn common(input: &Input<'_>, balance: &Balance<'_>) -> CommonLbConfig {
    let min_health = input
        .policy
        .outlier_detection
        .as_ref()
        .and_then(|it| it.min_health_percent);
    let weighted = (balance.is_weighted() && !input.is_original_dst()).then_some(
        LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig {}),
    );
    CommonLbConfig {
        healthy_panic_threshold: Some(pb::Percent {
            value: f64::from(min_health.unwrap_or(0)),
        }),
        locality_config_specifier: weighted,
        ..Default::default()
    }
}

/// Sets the load balancer; least request where the policy names none.
pub(super) fn apply(cluster: &mut pb::Cluster, settings: Option<&LoadBalancerSettings>) {
    let warmup = settings.and_then(slow_start);
    let simple = settings
        .and_then(|it| it.simple)
        .unwrap_or(SimpleLb::LeastRequest);
    let (policy, config) = match (settings.and_then(|it| it.consistent_hash.as_ref()), simple) {
        (Some(hash), _) => consistent_hash(hash),
        (None, SimpleLb::Random) => (LbPolicy::Random, None),
        (None, SimpleLb::RoundRobin) => {
            let config = |slow_start_config| RoundRobinLbConfig { slow_start_config };
            (
                LbPolicy::RoundRobin,
                warmup.map(|it| LbConfig::RoundRobinLbConfig(config(Some(it)))),
            )
        }
        (None, _) => {
            let config = |slow_start_config| LeastRequestLbConfig {
                slow_start_config,
                ..Default::default()
            };
            (
                LbPolicy::LeastRequest,
                warmup.map(|it| LbConfig::LeastRequestLbConfig(config(Some(it)))),
            )
        }
    };
    cluster.lb_policy = policy.into();
    cluster.lb_config = config;
}

/// Maglev where it is asked for, else a ring of at least 1024 entries unless the policy says another size
/// (`ApplyRingHashLoadBalancer`).
fn consistent_hash(hash: &ConsistentHashLb) -> (LbPolicy, Option<LbConfig>) {
    let size = |value: u64| Some(pb::UInt64Value { value });
    if let Some(maglev) = hash.maglev {
        let config = |value| {
            LbConfig::MaglevLbConfig(MaglevLbConfig {
                table_size: size(value),
            })
        };
        return (LbPolicy::Maglev, maglev.table_size.map(config));
    }
    let minimum = hash
        .ring_hash
        .and_then(|it| it.minimum_ring_size)
        .or(hash.minimum_ring_size);
    let config = RingHashLbConfig {
        minimum_ring_size: size(minimum.unwrap_or(1024)),
        ..Default::default()
    };
    (LbPolicy::RingHash, Some(LbConfig::RingHashLbConfig(config)))
}

/// `warmup`, else the older `warmupDurationSecs`.
fn slow_start(settings: &LoadBalancerSettings) -> Option<SlowStartConfig> {
    let warmup = settings.warmup.as_ref();
    let window = warmup
        .map(|it| it.duration)
        .or(settings.warmup_duration_secs)?;
    Some(SlowStartConfig {
        slow_start_window: Some(pb::duration(*window)),
        aggression: warmup
            .and_then(|it| it.aggression)
            .map(|value| pb::RuntimeDouble {
                default_value: value,
                // Envoy requires a key; nobody sets it.
                runtime_key: "weft.slow_start.aggression".into(),
            }),
        min_weight_percent: warmup
            .and_then(|it| it.minimum_percent)
            .map(|value| pb::Percent { value }),
    })
}
