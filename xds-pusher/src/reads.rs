//! Reads that many wait for: who asks gets an answer that was read after it asked, and few reads serve all.
//!
//! *Invariant:* nobody is given what was read before it asked.

use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

/// Reads of one thing.
pub(crate) struct Reads<T> {
    /// A read begins no sooner than this after the one before.
    share: Duration,
    /// When the newest read begins, and its result; who asks before it begins waits for it.
    newest: Mutex<Option<(Instant, watch::Receiver<Option<T>>)>>,
}

impl<T: Copy + Send + Sync + 'static> Reads<T> {
    pub(crate) fn new(share: Duration) -> Self {
        Self {
            share,
            newest: Mutex::new(None),
        }
    }

    /// What was read after this call began, by this call or another; `None` if the read panicked.
    pub(crate) async fn fresh<F>(&self, read: impl FnOnce() -> F) -> Option<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut result = self.join(read).await;
        let read = result.wait_for(Option::is_some).await;
        read.ok().and_then(|read| *read)
    }

    async fn join<F>(&self, read: impl FnOnce() -> F) -> watch::Receiver<Option<T>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let now = Instant::now();
        let mut newest = self.newest.lock().await;
        if let Some((begins, result)) = &*newest
            && *begins >= now
        {
            return result.clone();
        }
        let begins = match &*newest {
            Some((last, _)) => now.max(*last + self.share),
            None => now,
        };
        let (done, result) = watch::channel(None);
        let read = read();
        tokio::spawn(async move {
            tokio::time::sleep_until(begins).await;
            done.send_replace(Some(read.await));
        });
        *newest = Some((begins, result.clone()));
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn one_read_serves_those_who_asked_before_it_began() {
        let reads = Reads::new(Duration::from_millis(200));
        let count = Arc::new(AtomicU32::new(0));
        let read = || {
            let count = count.clone();
            async move { count.fetch_add(1, Ordering::Relaxed) + 1 }
        };
        assert_eq!(reads.fresh(read).await, Some(1));
        // Both asked after the first began.
        let both = tokio::join!(reads.fresh(read), reads.fresh(read));
        assert_eq!(both, (Some(2), Some(2)));
    }
}
