//! What [`crate::Keyspace`] needs of a versioned key-value store: etcd's operations, and no more of them than are used.
//!
//! *Invariant:* nothing here knows what a key or a value means.

use std::time::Duration;

use futures::Stream;

use crate::keys::Span;

/// A key, its value, and when it was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KeyValue {
    /// Keys that are not UTF-8 are none of ours; they are shown with replacement characters.
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
    /// The revision of the write that created the key.
    pub(crate) created: i64,
    /// The revision of the last write.
    pub(crate) modified: i64,
}

/// A read of a range.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    pub(crate) span: Span,
    /// At most so many; 0 is no limit.
    pub(crate) limit: usize,
    /// As of this revision; 0 is now, linearizably.
    pub(crate) at: i64,
    /// Descending order of keys.
    pub(crate) descending: bool,
    /// Leave values out.
    pub(crate) keys_only: bool,
}

impl Range {
    /// All of a span, as it is now.
    pub(crate) fn all(span: Span) -> Self {
        Self {
            span,
            limit: 0,
            at: 0,
            descending: false,
            keys_only: false,
        }
    }
}

/// What a range holds.
#[derive(Debug, Default)]
pub(crate) struct Ranged {
    /// The store's revision when it was read.
    pub(crate) revision: i64,
    pub(crate) kvs: Vec<KeyValue>,
    /// How many there are in the range, whatever the limit.
    pub(crate) count: usize,
}

/// One write of a transaction.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Put {
        key: String,
        value: Vec<u8>,
        lease: Option<i64>,
    },
    Delete {
        key: String,
    },
}

/// Writes that happen together if every key of `expect` was last modified at the revision beside it (0: is absent), and
/// nothing in a span of `unwritten` after the one beside it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Txn {
    pub(crate) expect: Vec<(String, i64)>,
    pub(crate) unwritten: Vec<(Span, i64)>,
    pub(crate) writes: Vec<Write>,
}

/// What became of a transaction.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Committed at this revision.
    Done(i64),
    /// Not committed. The revisions at which the keys of `expect` were last modified, in that order; 0 is absent.
    Refused(Vec<i64>),
}

/// A change to one key.
#[derive(Clone, Debug)]
pub(crate) struct KvEvent {
    /// What was written; of a deletion, only the key and the revision count.
    pub(crate) kv: KeyValue,
    pub(crate) deleted: bool,
    /// What was there before, if it is still known.
    pub(crate) before: Option<KeyValue>,
}

/// All that happened in a watched span at one revision. No events: nothing more happened up to there.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) revision: i64,
    pub(crate) events: Vec<KvEvent>,
}

/// Why a key-value store did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the revision is compacted")]
    Compacted,
    #[error("the revision is in the future")]
    Future,
    /// Refused for good; asking again gives the same.
    #[error("{0}")]
    Refused(String),
    /// No answer, or a passing refusal; a write may have happened.
    #[error("{0}")]
    Lost(String),
}

/// What one transaction may hold. etcd counts operations and comparisons apart, each against the same limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Operations in one transaction, the change record included: etcd's `--max-txn-ops`, 128 unless raised.
    pub operations: usize,
    /// Bytes of one request: etcd's `--max-request-bytes`, 1.5 MiB unless raised.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            operations: 128,
            bytes: 1536 * 1024,
        }
    }
}

/// How a store behaves in time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// How long a call is tried before it is answered with [`crate::Error::Unavailable`].
    pub(crate) patience: Duration,
    /// The first pause between attempts, and the longest.
    pub(crate) pause: (Duration, Duration),
}

/// A versioned key-value store with etcd's semantics.
pub(crate) trait Kv: Send + Sync + 'static {
    fn limits(&self) -> Limits;

    fn pace(&self) -> Pace;

    fn range(&self, range: &Range) -> impl Future<Output = Result<Ranged, Fault>> + Send;

    /// These keys at one revision, linearizably: the store's revision, and what each holds.
    fn get(
        &self,
        keys: &[String],
    ) -> impl Future<Output = Result<(i64, Vec<Option<KeyValue>>), Fault>> + Send;

    fn txn(&self, txn: &Txn) -> impl Future<Output = Result<Outcome, Fault>> + Send;

    /// Deletes a span; how many keys there were.
    fn delete(&self, span: &Span) -> impl Future<Output = Result<u64, Fault>> + Send;

    /// Changes in a span from a revision on (inclusive), each revision whole and once. Established when this
    /// returns. Ends after its first error.
    fn watch(
        &self,
        span: &Span,
        from: i64,
    ) -> impl Future<
        Output = Result<impl Stream<Item = Result<Batch, Fault>> + Send + use<Self>, Fault>,
    > + Send;

    fn grant(&self, ttl: Duration) -> impl Future<Output = Result<i64, Fault>> + Send;

    /// Prolongs a lease; false if there is no such lease any more.
    fn keep_alive(&self, lease: i64) -> impl Future<Output = Result<bool, Fault>> + Send;

    fn revoke(&self, lease: i64) -> impl Future<Output = Result<(), Fault>> + Send;
}
