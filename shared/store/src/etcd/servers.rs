//! Which of etcd's servers is asked: one, until it does not answer; then the next.
//!
//! Asking all of them in turn would make every third request wait for one that is frozen or cut off, for as long as it is.
//! Every store begins with a server chosen at random, so that replicas spread over them.
//!
//! *Invariant:* nothing here is tried twice; whether that is safe is the caller's knowledge.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use etcd_client::{Client, Error};
use metrics::{counter, histogram};
use tokio::sync::OnceCell;

use super::kv::fault;
use super::{EtcdConfig, tls};
use crate::kv::Fault;

/// The servers, connected when they are first asked.
pub(super) struct Servers {
    pub(super) config: EtcdConfig,
    clients: Vec<OnceCell<Client>>,
    /// The place of the one that is asked.
    preferred: AtomicUsize,
}

impl Servers {
    pub(super) fn new(config: EtcdConfig) -> Self {
        let clients: Vec<_> = config.endpoints.iter().map(|_| OnceCell::new()).collect();
        let random = uuid::Uuid::new_v4().as_u64_pair().0;
        let count = u64::try_from(clients.len().max(1)).expect("servers are few");
        Self {
            preferred: usize::try_from(random % count)
                .expect("it is less than the number of servers")
                .into(),
            config,
            clients,
        }
    }

    /// Asks, and waits for an answer as long as a request may take.
    pub(super) async fn ask<T, F>(
        &self,
        operation: &'static str,
        call: impl FnOnce(Client) -> F,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Error>>,
    {
        Ok(self.asked(operation, call).await?.0)
    }

    /// The same; and which server answered.
    pub(super) async fn asked<T, F>(
        &self,
        operation: &'static str,
        call: impl FnOnce(Client) -> F,
    ) -> Result<(T, usize), Fault>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let place = self.preferred.load(Ordering::Relaxed);
        let client = self
            .clients
            .get(place)
            .ok_or_else(|| Fault::Refused("no etcd server is configured".into()))?;
        let begun = Instant::now();
        let limit = self.config.request_timeout;
        let answer = tokio::time::timeout(limit, async {
            let endpoint = &self.config.endpoints[place];
            let connect = || async {
                match &self.config.tls {
                    None => Client::connect([endpoint], Some(self.config.options())).await,
                    Some(tls) => tls::connect(endpoint, &self.config, tls).await,
                }
            };
            call(client.get_or_try_init(connect).await?.clone()).await
        });
        let answer = match answer.await {
            Ok(answer) => answer.map_err(|error| fault(&error)),
            Err(_) => Err(Fault::Lost(format!("etcd gave no answer within {limit:?}"))),
        };
        histogram!("weft_etcd_request_seconds", "operation" => operation)
            .record(begun.elapsed().as_secs_f64());
        // By nothing, too: the first error is a rise then, and not an appearance.
        counter!("weft_etcd_errors_total", "operation" => operation)
            .increment(answer.is_err().into());
        match answer {
            Ok(answer) => Ok((answer, place)),
            Err(fault) => Err(self.left(place, fault)),
        }
    }

    /// A fault of this server; after a loss, the next one is asked from now on.
    pub(super) fn left(&self, place: usize, fault: Fault) -> Fault {
        if matches!(fault, Fault::Lost(_)) {
            self.leave(place);
        }
        fault
    }

    fn leave(&self, place: usize) {
        let next = (place + 1) % self.clients.len();
        // Of many requests that were lost on one server, the first moves on.
        let moved =
            self.preferred
                .compare_exchange(place, next, Ordering::Relaxed, Ordering::Relaxed);
        if moved.is_ok() && next != place {
            tracing::info!(
                from = self.config.endpoints[place],
                to = self.config.endpoints[next],
                "asking another etcd server"
            );
        }
    }
}
