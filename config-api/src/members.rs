//! Who is alive: the registered instances of a service, as the store's leases say.
//!
//! *Invariant:* while the store is away the last known set stays.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use store::{Member, Store};
use tokio::sync::watch;
use tracing::warn;

/// Follows the members of a service for ever.
pub(crate) async fn follow(
    store: Arc<dyn Store>,
    service: &'static str,
    members: watch::Sender<Vec<Member>>,
) {
    loop {
        match store.members(service).await {
            Ok(mut sets) => {
                while let Some(set) = sets.next().await {
                    members.send_if_modified(|present| {
                        let changed = *present != set;
                        *present = set;
                        changed
                    });
                }
                warn!(service, "the stream of members ended; asking again");
            }
            Err(error) => warn!(service, %error, "the members cannot be read; asking again"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
