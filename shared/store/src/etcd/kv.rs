//! etcd's operations, each with its deadline and its errors sorted.
//!
//! *Invariant:* nothing here is tried twice; whether that is safe is the caller's knowledge.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, Error, GetOptions, KvClient, PutOptions, SortOrder,
    SortTarget, TxnOp, TxnOpResponse,
};
use futures::Stream;

use super::EtcdConfig;
use super::servers::Servers;
use crate::keys::Span;
use crate::kv::{Batch, Fault, KeyValue, Kv, Limits, Outcome, Pace, Range, Ranged, Txn, Write};

/// The largest answer that is accepted: a page of the largest values that a batch can write, each half a request.
pub(super) const MAX_ANSWER: usize = 256 << 20;

/// The key-value store behind [`super::EtcdStore`].
pub struct EtcdKv {
    pub(super) servers: Arc<Servers>,
}

impl EtcdKv {
    pub(super) fn new(config: EtcdConfig) -> Self {
        Self {
            servers: Arc::new(Servers::new(config)),
        }
    }
}

fn kv(client: &Client) -> KvClient {
    client.kv_client().max_decoding_message_size(MAX_ANSWER)
}

impl Kv for EtcdKv {
    fn limits(&self) -> Limits {
        self.servers.config.limits
    }

    fn pace(&self) -> Pace {
        Pace {
            patience: self.servers.config.patience,
            pause: (Duration::from_millis(20), Duration::from_secs(1)),
        }
    }

    async fn range(&self, range: &Range) -> Result<Ranged, Fault> {
        let mut options = GetOptions::new()
            .with_range(range.span.end.as_str())
            .with_limit(i64::try_from(range.limit).expect("pages are small"))
            .with_revision(range.at);
        if range.descending {
            options = options.with_sort(SortTarget::Key, SortOrder::Descend);
        }
        if range.keys_only {
            options = options.with_keys_only();
        }
        let start = range.span.start.as_str();
        let mut answer = self
            .servers
            .ask("range", |client| async move {
                kv(&client).get(start, Some(options)).await
            })
            .await?;
        Ok(Ranged {
            revision: answer.header().map_or(0, |header| header.revision()),
            count: usize::try_from(answer.count()).unwrap_or_default(),
            kvs: answer.take_kvs().into_iter().map(key_value).collect(),
        })
    }

    async fn get(&self, keys: &[String]) -> Result<(i64, Vec<Option<KeyValue>>), Fault> {
        let gets: Vec<TxnOp> = keys
            .iter()
            .map(|key| TxnOp::get(key.as_str(), None))
            .collect();
        let request = etcd_client::Txn::new().and_then(gets);
        let answer = self
            .servers
            .ask(
                "get",
                |client| async move { kv(&client).txn(request).await },
            )
            .await?;
        let revision = answer.header().map_or(0, |header| header.revision());
        Ok((revision, firsts(&answer)))
    }

    async fn txn(&self, txn: &Txn) -> Result<Outcome, Fault> {
        let compares: Vec<Compare> = txn
            .expect
            .iter()
            .map(|(key, revision)| Compare::mod_revision(key.as_str(), CompareOp::Equal, *revision))
            .chain(txn.unwritten.iter().map(|(span, since)| {
                // Of a range, every key is compared.
                Compare::mod_revision(span.start.as_str(), CompareOp::Less, since + 1)
                    .with_range(span.end.as_str())
            }))
            .collect();
        let writes: Vec<TxnOp> = txn
            .writes
            .iter()
            .map(|write| match write {
                Write::Put { key, value, lease } => {
                    let options = lease.map(|lease| PutOptions::new().with_lease(lease));
                    TxnOp::put(key.as_str(), value.as_slice(), options)
                }
                Write::Delete { key } => TxnOp::delete(key.as_str(), None),
            })
            .collect();
        let gets: Vec<TxnOp> = txn
            .expect
            .iter()
            .map(|(key, _)| TxnOp::get(key.as_str(), Some(GetOptions::new().with_keys_only())))
            .collect();
        let request = etcd_client::Txn::new()
            .when(compares)
            .and_then(writes)
            .or_else(gets);
        let answer = self
            .servers
            .ask(
                "txn",
                |client| async move { kv(&client).txn(request).await },
            )
            .await?;
        if answer.succeeded() {
            return Ok(Outcome::Done(
                answer.header().map_or(0, |header| header.revision()),
            ));
        }
        Ok(Outcome::Refused(
            firsts(&answer)
                .into_iter()
                .map(|kv| kv.map_or(0, |kv| kv.modified))
                .collect(),
        ))
    }

    async fn delete(&self, span: &Span) -> Result<u64, Fault> {
        let options = DeleteOptions::new().with_range(span.end.as_str());
        let start = span.start.as_str();
        let answer = self
            .servers
            .ask("delete", |client| async move {
                kv(&client).delete(start, Some(options)).await
            })
            .await?;
        Ok(u64::try_from(answer.deleted()).unwrap_or_default())
    }

    async fn watch(
        &self,
        span: &Span,
        from: i64,
    ) -> Result<impl Stream<Item = Result<Batch, Fault>> + Send + use<>, Fault> {
        self.open_watch(span, from).await
    }

    async fn grant(&self, ttl: Duration) -> Result<i64, Fault> {
        // etcd counts in whole seconds.
        let seconds = i64::try_from(ttl.as_millis().div_ceil(1000))
            .unwrap_or(i64::MAX)
            .max(1);
        let granted = self.servers.ask("grant", |client| async move {
            client.lease_client().grant(seconds, None).await
        });
        Ok(granted.await?.id())
    }

    async fn keep_alive(&self, lease: i64) -> Result<bool, Fault> {
        let prolonged = self.servers.ask("keep_alive", |client| async move {
            match client.lease_client().keep_alive(lease).await {
                Ok(_) => Ok(true),
                Err(Error::LeaseKeepAliveError(_)) => Ok(false),
                Err(error) => Err(error),
            }
        });
        prolonged.await
    }

    async fn revoke(&self, lease: i64) -> Result<(), Fault> {
        let revoked = self.servers.ask("revoke", |client| async move {
            client.lease_client().revoke(lease).await
        });
        revoked.await.map(drop)
    }
}

pub(super) fn key_value(kv: etcd_client::KeyValue) -> KeyValue {
    let (created, modified) = (kv.create_revision(), kv.mod_revision());
    let (key, value) = kv.into_key_value();
    let key = String::from_utf8(key)
        .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
    KeyValue {
        key,
        value,
        created,
        modified,
    }
}

/// What each read of a transaction found.
fn firsts(answer: &etcd_client::TxnResponse) -> Vec<Option<KeyValue>> {
    let found = answer
        .op_responses()
        .into_iter()
        .map(|response| match response {
            TxnOpResponse::Get(mut get) => get.take_kvs().into_iter().next().map(key_value),
            _ => None,
        });
    found.collect()
}

/// What etcd says when it will say the same again. Its error texts are part of its interface: its clients in other
/// languages know errors by them.
const REFUSALS: [&str; 9] = [
    "request is too large",
    "too many operations in txn request",
    "larger than max",
    "database space exceeded",
    "permission denied",
    "authentication failed",
    "user name is empty",
    "duplicate key given",
    "decoded message length too large",
];

/// Sorts an error: what it says of the request, and whether asking again may help.
pub(super) fn fault(error: &Error) -> Fault {
    let status = match error {
        Error::GRpcStatus(status) => status,
        Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::InvalidMetadataValue(_) => {
            return Fault::Refused(error.to_string());
        }
        _ => return Fault::Lost(error.to_string()),
    };
    let message = status.message();
    if message.contains("required revision has been compacted") {
        Fault::Compacted
    } else if message.contains("required revision is a future revision") {
        Fault::Future
    } else if REFUSALS.iter().any(|refusal| message.contains(refusal)) {
        Fault::Refused(message.into())
    } else if message.is_empty() {
        Fault::Lost(format!("{:?}", status.code()))
    } else {
        Fault::Lost(message.into())
    }
}
