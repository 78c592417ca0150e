//! Change records: read newest first, pruned by age.
//!
//! *Invariant:* nothing here writes a record; only a batch does, in its own transaction.

use std::time::Duration;

use model::{Key, Revision};
use uuid::{NoContext, Timestamp, Uuid};

use crate::keys::Span;
use crate::keyspace::{Keyspace, PAGE};
use crate::kv::{Kv, Range};
use crate::{ChangeRecord, Result, codec};

/// How far back each read of history looks, in turn, before all of the rest is read: etcd sorts everything in a range
/// to find the newest, so ranges begin small.
const LOOKS: [Duration; 4] = [
    Duration::from_secs(60),
    Duration::from_secs(3600),
    Duration::from_secs(86400),
    Duration::from_secs(7 * 86400),
];
/// How many records one request reads; each may be as large as a request.
const RECORDS: usize = 100;
/// How many of the newest records are compared for the last commit: records are named by their writers' clocks, which
/// differ.
const NEWEST: usize = 32;

impl<K: Kv> Keyspace<K> {
    pub(crate) async fn read_history(
        &self,
        key: Option<&Key>,
        before: Option<Uuid>,
        limit: usize,
    ) -> Result<Vec<ChangeRecord>> {
        let mut records = Vec::new();
        let enough = |records: &Vec<_>| limit != 0 && records.len() == limit;
        for mut span in self.looks(before) {
            while !enough(&records) {
                let wanted = if key.is_none() && limit != 0 {
                    limit - records.len()
                } else {
                    RECORDS
                };
                let limit = wanted.min(RECORDS);
                let range = Range {
                    limit,
                    descending: true,
                    ..Range::all(span.clone())
                };
                let ranged = self.retry(|| self.kv.range(&range)).await?;
                for kv in &ranged.kvs {
                    let Some(id) = self.layout.record_id(&kv.key) else {
                        continue;
                    };
                    match codec::decode_record(id, kv) {
                        Ok(record)
                            if key.is_none_or(|key| {
                                record.edits.iter().any(|edit| edit.key == *key)
                            }) =>
                        {
                            records.push(record);
                        }
                        Ok(_) => {}
                        Err(error) => tracing::warn!(%error, "a change record is skipped"),
                    }
                    if enough(&records) {
                        return Ok(records);
                    }
                }
                match ranged.kvs.last() {
                    Some(last) if ranged.count > ranged.kvs.len() => span.end.clone_from(&last.key),
                    _ => break,
                }
            }
        }
        Ok(records)
    }

    pub(crate) async fn read_last_commit(&self) -> Result<Revision> {
        for span in self.looks(None) {
            let range = Range {
                limit: NEWEST,
                descending: true,
                keys_only: true,
                ..Range::all(span)
            };
            let ranged = self.retry(|| self.kv.range(&range)).await?;
            if let Some(last) = ranged.kvs.iter().map(|kv| kv.created).max() {
                return Ok(Revision(last));
            }
        }
        Ok(Revision::default())
    }

    /// The spans to look for records in, newest first, before a record or from the newest on.
    fn looks(&self, before: Option<Uuid>) -> Vec<Span> {
        let Span {
            start: oldest,
            mut end,
        } = self.layout.records();
        if let Some(before) = before {
            end = self.layout.record(before);
        }
        let now = jiff::Timestamp::now();
        let starts = LOOKS
            .iter()
            .map(|&look| self.layout.record(at(now, look)))
            .chain([oldest]);
        let mut spans = Vec::new();
        for start in starts {
            if start < end {
                spans.push(Span {
                    start: start.clone(),
                    end: std::mem::replace(&mut end, start),
                });
            }
        }
        spans
    }

    pub(crate) async fn delete_history(&self, age: Duration) -> Result<u64> {
        let mut span = self.layout.records();
        span.end = self.layout.record(at(jiff::Timestamp::now(), age));
        let mut deleted = 0;
        loop {
            // In pieces, for each is one transaction that every watcher is told of.
            let range = Range {
                limit: PAGE,
                keys_only: true,
                ..Range::all(span.clone())
            };
            let ranged = self.retry(|| self.kv.range(&range)).await?;
            let Some(last) = ranged.kvs.last() else {
                return Ok(deleted);
            };
            let piece = Span {
                start: span.start.clone(),
                end: format!("{}\0", last.key),
            };
            deleted += self.retry(|| self.kv.delete(&piece)).await?;
        }
    }
}

/// The least record id of this long ago.
fn at(now: jiff::Timestamp, ago: Duration) -> Uuid {
    let millis = u64::try_from(now.as_millisecond()).unwrap_or_default();
    let millis = millis.saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX));
    let nanos = u32::try_from(millis % 1000).expect("below a thousand") * 1_000_000;
    let id = Uuid::new_v7(Timestamp::from_unix(NoContext, millis / 1000, nanos));
    // Everything after the time and the version is random; clear it.
    Uuid::from_u128(id.as_u128() & (u128::MAX << 76))
}
