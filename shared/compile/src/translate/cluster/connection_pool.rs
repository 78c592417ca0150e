//! Connection pools: limits, the time to connect, and keepalive (`applyConnectionPool`).
//!
//! *Invariant:* a limit that nobody set is no limit: Envoy's own defaults reject bursts that a service could take.

use std::time::Duration;

use model::spec::{ConnectionPoolSettings, RetryBudget, TcpKeepalive, TrafficPolicy};
use pb::circuit_breakers::Thresholds;

use super::Defaults;
use crate::translate::pb;

/// `connectionPool.tcp.connectTimeout`, else the mesh's.
pub(super) fn connect_timeout(
    pool: Option<&ConnectionPoolSettings>,
    defaults: Defaults<'_>,
) -> Duration {
    let tcp = pool.and_then(|pool| pool.tcp.as_ref());
    tcp.and_then(|tcp| tcp.connect_timeout)
        .map_or(defaults.connect_timeout, |it| *it)
}

/// `maxConnections`, `http1MaxPendingRequests`, `http2MaxRequests`, `maxRetries`, `retryBudget`; what is absent or 0 has no limit, as in Istio.
pub(super) fn circuit_breakers(policy: &TrafficPolicy) -> pb::CircuitBreakers {
    let pool = policy.connection_pool.as_ref();
    let tcp = pool.and_then(|pool| pool.tcp.as_ref());
    let http = pool.and_then(|pool| pool.http.as_ref());
    let limit = |limit: Option<u32>| pb::u32_value(limit.filter(|it| *it > 0).unwrap_or(u32::MAX));
    pb::CircuitBreakers {
        thresholds: vec![Thresholds {
            max_connections: limit(tcp.and_then(|it| it.max_connections)),
            max_pending_requests: limit(http.and_then(|it| it.http1_max_pending_requests)),
            max_requests: limit(http.and_then(|it| it.http2_max_requests)),
            max_retries: limit(http.and_then(|it| it.max_retries)),
            retry_budget: policy.retry_budget.as_ref().map(retry_budget),
            track_remaining: true,
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// `retryBudget`; where there is one, `maxRetries` does not count.
fn retry_budget(budget: &RetryBudget) -> pb::circuit_breakers::thresholds::RetryBudget {
    pb::circuit_breakers::thresholds::RetryBudget {
        budget_percent: budget.percent.map(|value| pb::Percent { value }),
        min_retry_concurrency: budget.min_retry_concurrency.and_then(pb::u32_value),
        ..Default::default()
    }
}

/// `connectionPool.tcp.tcpKeepalive`, else the mesh's.
pub(super) fn keepalive(
    pool: Option<&ConnectionPoolSettings>,
    defaults: Defaults<'_>,
) -> Option<pb::UpstreamConnectionOptions> {
    let own = pool.and_then(|pool| pool.tcp.as_ref()?.tcp_keepalive.as_ref());
    own.or(defaults.tcp_keepalive)
        .map(|keepalive| pb::UpstreamConnectionOptions {
            tcp_keepalive: Some(tcp_keepalive(keepalive)),
            ..Default::default()
        })
}

fn tcp_keepalive(keepalive: &TcpKeepalive) -> pb::TcpKeepalive {
    let seconds = |duration: Duration| pb::UInt32Value {
        value: u32::try_from(duration.as_secs()).unwrap_or(u32::MAX),
    };
    pb::TcpKeepalive {
        keepalive_probes: keepalive
            .probes
            .filter(|it| *it > 0)
            .and_then(pb::u32_value),
        keepalive_time: keepalive.time.map(|it| seconds(*it)),
        keepalive_interval: keepalive.interval.map(|it| seconds(*it)),
    }
}
