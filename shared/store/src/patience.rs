//! Waiting for a store that does not answer yet.
//!
//! *Invariant:* nothing that changes something is asked for here unless it may happen twice.

use std::time::Duration;

use crate::Result;

/// Asks until there is an answer, with longer and longer pauses up to two seconds. `what` is what cannot be done yet, for
/// the log.
pub async fn until_answered<T, F>(what: &str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T>>,
{
    let mut pause = Duration::from_millis(50);
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => tracing::warn!(%error, "cannot {what} yet; trying again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}
