//! One atomic batch: from operations, over what is there now, to a transaction and what its refusal means.
//!
//! *Invariant:* nothing here does I/O.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use model::{Key, Kind, Revision};
use uuid::Uuid;

use crate::keys::{Layout, is_name};
use crate::kv::{KeyValue, Txn, Write};
use crate::{Author, ChangeRecord, Edit, Error, Expect, Op, Result, Scope, Turn, codec};

/// A batch of operations that are distinct and well named.
pub(super) struct Batch {
    ops: Vec<Op>,
    etcd_keys: Vec<String>,
    /// How many of `ops` were asked for; the rest are implied.
    asked: usize,
    guards: Vec<(Kind, Revision)>,
}

/// A batch as it is sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) txn: Txn,
    /// The resources behind the first of `txn.expect`; its last entry is the record's and has none.
    keys: Vec<Key>,
    /// The rollouts behind those in between.
    rollouts: Vec<Uuid>,
    guards: Vec<(Kind, Revision)>,
}

impl Batch {
    pub(super) fn new(layout: &Layout, mut ops: Vec<Op>) -> Result<Self> {
        let mut guards = Vec::new();
        ops.retain(|op| match op {
            Op::Guard { kind, since } => {
                guards.push((*kind, *since));
                false
            }
            _ => true,
        });
        let asked = ops.len();
        let mut seen = HashSet::new();
        let mut etcd_keys = Vec::with_capacity(asked);
        let mut implied = Vec::new();
        for op in &ops {
            let (key, etcd_key) = match op {
                Op::Put { object, .. } => (object.key(), layout.config(&object.key())),
                Op::Delete { key, .. } => (key.clone(), layout.config(key)),
                Op::Liveness {
                    namespace, name, ..
                } => {
                    let key = Key::new(Kind::WorkloadEntry, namespace.clone(), name.clone());
                    (key, layout.down(namespace, name))
                }
                Op::Rollout { rollout, .. } => {
                    etcd_keys.push(layout.rollout(rollout.id));
                    continue;
                }
                Op::Forget { id, .. } => {
                    etcd_keys.push(layout.rollout(*id));
                    continue;
                }
                Op::Guard { .. } => continue,
            };
            if !is_name(&key.namespace, &key.name) {
                return Err(Error::Name { key });
            }
            if !seen.insert(etcd_key.clone()) {
                return Err(Error::Duplicate { key });
            }
            etcd_keys.push(etcd_key);
            implied.extend(new_life(op));
        }
        // A new workload is not down because an older one of its name was.
        for (namespace, name) in implied {
            let etcd_key = layout.down(&namespace, &name);
            if seen.insert(etcd_key.clone()) {
                etcd_keys.push(etcd_key);
                ops.push(Op::Liveness {
                    namespace,
                    name,
                    up: true,
                });
            }
        }
        Ok(Self {
            ops,
            etcd_keys,
            asked,
            guards,
        })
    }

    /// How many operations were asked for.
    pub(super) fn len(&self) -> usize {
        self.asked
    }

    /// What to read; first, and in their order, the keys of the operations that were asked for.
    pub(super) fn etcd_keys(&self) -> &[String] {
        &self.etcd_keys
    }

    /// The transaction, given what is at each of [`Self::etcd_keys`]; `None` if it would change nothing.
    pub(super) fn write(
        self,
        layout: &Layout,
        priors: Vec<Option<KeyValue>>,
        author: Author,
    ) -> Result<Option<Sent>> {
        let id = Uuid::now_v7();
        let mut record = ChangeRecord {
            id,
            revision: Revision::default(),
            time: jiff::Timestamp::now().to_string(),
            author,
            edits: Vec::new(),
            liveness: Vec::new(),
            deeds: Vec::new(),
        };
        let mut txn = Txn::default();
        let mut rollouts = Vec::new();
        for ((op, etcd_key), prior) in self.ops.into_iter().zip(self.etcd_keys).zip(priors) {
            let (key, expect, after) = match op {
                Op::Put { object, expect } => (object.key(), expect, Some(object)),
                Op::Delete { key, expect } => (key, expect, None),
                Op::Guard { .. } => continue,
                Op::Rollout { rollout, expect } => {
                    let expected = revision_of(expect);
                    if prior.as_ref().map_or(0, |kv| kv.modified) != expected {
                        return Err(Error::Moved { id: rollout.id });
                    }
                    rollouts.push((rollout.id, etcd_key.clone(), expected));
                    txn.writes.push(Write::Put {
                        key: etcd_key,
                        value: codec::encode_rollout(&rollout),
                        lease: None,
                    });
                    continue;
                }
                Op::Forget { id, expect } => {
                    if prior.as_ref().map_or(0, |kv| kv.modified) != expect.0 {
                        return Err(Error::Moved { id });
                    }
                    rollouts.push((id, etcd_key.clone(), expect.0));
                    txn.writes.push(Write::Delete { key: etcd_key });
                    continue;
                }
                Op::Liveness {
                    namespace,
                    name,
                    up,
                } => {
                    match (up, prior.is_some()) {
                        (true, true) => txn.writes.push(Write::Delete { key: etcd_key }),
                        (false, false) => {
                            let value = format!("down since {}", record.time).into_bytes();
                            txn.writes.push(Write::Put {
                                key: etcd_key,
                                value,
                                lease: None,
                            });
                        }
                        _ => continue,
                    }
                    record.liveness.push(Turn {
                        namespace,
                        name,
                        up,
                    });
                    continue;
                }
            };
            let actual = prior.as_ref().map(|kv| Revision(kv.modified));
            let expected = match expect {
                Expect::Absent => None,
                Expect::At(revision) => Some(revision),
            };
            if actual != expected {
                return Err(Error::Conflict { key, actual });
            }
            txn.expect
                .push((etcd_key.clone(), expected.unwrap_or_default().0));
            txn.writes.push(match &after {
                Some(object) => Write::Put {
                    key: etcd_key,
                    value: codec::encode(object),
                    lease: None,
                },
                None => Write::Delete { key: etcd_key },
            });
            // What cannot be decoded cannot be recorded either; it is repaired by being replaced.
            let before = prior.and_then(|kv| codec::decode(layout, &kv).ok());
            record.edits.push(Edit { key, before, after });
        }
        if txn.writes.is_empty() {
            return Ok(None);
        }
        let keys = record.edits.iter().map(|edit| edit.key.clone()).collect();
        let mut moved = Vec::new();
        for (id, etcd_key, expected) in rollouts {
            txn.expect.push((etcd_key, expected));
            moved.push(id);
        }
        for (kind, since) in &self.guards {
            let every = Scope {
                kind: Some(*kind),
                namespace: None,
            };
            txn.unwritten.push((layout.configs(&every), since.0));
        }
        txn.expect.push((layout.record(id), 0));
        txn.writes.push(Write::Put {
            key: layout.record(id),
            value: codec::encode_record(&record),
            lease: None,
        });
        Ok(Some(Sent {
            txn,
            keys,
            rollouts: moved,
            guards: self.guards,
        }))
    }
}

/// What etcd compares with.
fn revision_of(expect: Expect) -> i64 {
    match expect {
        Expect::Absent => 0,
        Expect::At(revision) => revision.0,
    }
}

/// The workload that an operation creates or deletes, if it does.
fn new_life(op: &Op) -> Option<(Arc<str>, Arc<str>)> {
    let key = match op {
        Op::Put {
            object,
            expect: Expect::Absent,
        } => object.key(),
        Op::Delete { key, .. } => key.clone(),
        _ => return None,
    };
    (key.kind == Kind::WorkloadEntry).then_some((key.namespace, key.name))
}

impl Sent {
    /// How many operations it holds, the change record included, or comparisons, if those are more: each has the same limit.
    pub(super) fn operations(&self) -> usize {
        let comparisons = self.txn.expect.len() + self.txn.unwritten.len();
        self.txn.writes.len().max(comparisons)
    }

    /// The size of the request, not less than etcd counts it.
    pub(super) fn bytes(&self) -> usize {
        /// What protobuf adds to a key and its value, generously.
        const FRAME: usize = 48;
        let writes = self.txn.writes.iter().map(|write| match write {
            Write::Put { key, value, .. } => key.len() + value.len() + FRAME,
            Write::Delete { key } => key.len() + FRAME,
        });
        // Every expected key is sent twice: to be compared, and to be read if the comparison fails.
        let expects = self
            .txn
            .expect
            .iter()
            .map(|(key, _)| 2 * (key.len() + FRAME));
        writes.chain(expects).sum()
    }

    /// What a refusal means, given the revisions at which the keys of `txn.expect` were last modified: a conflict, or
    /// that an earlier attempt took effect, which the record proves. If an earlier one was `lost`, it may still be under
    /// way, in the socket of a frozen server say, and what refused the later one may be gone when it arrives.
    pub(super) fn refused(&self, actual: &[i64], lost: bool) -> Result<Revision> {
        if let Some(&record) = actual.last().filter(|&&record| record != 0) {
            return Ok(Revision(record));
        }
        if lost && !self.is_final(actual) {
            return Err(Error::Unavailable(
                "an attempt was not answered, and may take effect once what refuses it now is deleted".into(),
            ));
        }
        let expected = self.txn.expect.iter().map(|(_, revision)| revision);
        let conflict = self
            .keys
            .iter()
            .zip(expected.zip(actual))
            .find(|(_, (expected, actual))| expected != actual);
        let Some((key, (_, &actual))) = conflict else {
            let pairs = self.txn.expect.iter().zip(actual).skip(self.keys.len());
            let mut moved = self.rollouts.iter().zip(pairs);
            if let Some((&id, _)) = moved.find(|(_, ((_, expected), actual))| expected != *actual) {
                return Err(Error::Moved { id });
            }
            if let Some(&(kind, since)) = self.guards.first() {
                return Err(Error::Overtaken { kind, since });
            }
            return Err(Error::Unavailable(
                "a transaction was refused although nothing differs".into(),
            ));
        };
        Err(Error::Conflict {
            key: key.clone(),
            actual: (actual != 0).then_some(Revision(actual)),
        })
    }

    /// Whether the transaction can never take effect: a key that was written since is never again at the revision expected
    /// of it. One that is there and should not be may be deleted.
    fn is_final(&self, actual: &[i64]) -> bool {
        let expected = self.txn.expect.iter().map(|(_, revision)| *revision);
        (expected.zip(actual)).any(|(expected, actual)| expected != 0 && expected != *actual)
    }
}
