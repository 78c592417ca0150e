//! Waiting for a condition, never for a time.
//!
//! *Invariant:* nothing waits without a deadline, and no deadline passes without saying what was waited for.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long what is sure to come may take: what a machine busy with other tests needs, many times over.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// How often a condition is probed.
const PACE: Duration = Duration::from_millis(25);

/// Probes until it succeeds.
///
/// # Errors
/// When `limit` has passed: names `what` and gives the last probe's reason.
pub async fn until<T, E: Display>(
    what: &str,
    limit: Duration,
    mut probe: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T> {
    let start = Instant::now();
    let mut reason = String::new();
    loop {
        let remaining = limit.saturating_sub(start.elapsed());
        reason = match tokio::time::timeout(remaining.max(PACE), probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(reason)) => format!("{reason:#}"),
            Err(_) => format!("the last probe did not answer; before: {reason}"),
        };
        if start.elapsed() >= limit {
            bail!("waited {limit:?} for {what}: {reason}");
        }
        tokio::time::sleep(PACE).await;
    }
}
