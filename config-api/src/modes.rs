//! What proxies acknowledged of mutual TLS, as pushers store it.
//!
//! *Invariant:* while the store is away the last known set stays.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use store::{Area, Entries, Vault};
use tokio::sync::watch;
use tracing::warn;

/// Follows the stored modes for ever; there are none before they were read.
pub(crate) async fn follow(vault: Arc<dyn Vault>, modes: watch::Sender<Option<Entries>>) {
    loop {
        match vault.follow(Area::Mtls).await {
            Ok(mut sets) => {
                while let Some(set) = sets.next().await {
                    modes.send_replace(Some(set));
                }
                warn!("the stream of the modes of mutual TLS ended; asking again");
            }
            Err(error) => warn!(%error, "the modes of mutual TLS cannot be read; asking again"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
