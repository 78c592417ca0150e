//! What every store holds, one function a rule. A [`Rig`] says how to break the store under test.
//!
//! [`contract_suite!`](crate::contract_suite) makes a test of each rule.
//!
//! *Invariant:* nothing here knows which store it tests.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use model::{Key, Kind, Metadata, Object, Revision};
use serde_json::{Value, json};

use super::PATIENCE;
use crate::{Author, Change, Event, Expect, Op, Scope, Snapshot, Store, Vault, Watch};

pub mod batches;
pub mod following;
pub mod lists;
pub mod losses;
pub mod membership;
pub mod offices;
pub mod records;
pub mod rollouts;
pub mod vaults;

/// A store under test, and how to break it.
pub trait Rig: Send + Sync {
    /// The store.
    fn store(&self) -> Arc<dyn Store>;
    /// Another client of the same data, which [`Rig::cut`] does not touch.
    fn other(&self) -> Arc<dyn Store>;
    /// Like [`Rig::store`], but a call that is not answered fails soon.
    fn impatient(&self) -> Arc<dyn Store>;
    /// The store's opaque values.
    fn vault(&self) -> Arc<dyn Vault>;
    /// The same for the other client.
    fn other_vault(&self) -> Arc<dyn Vault>;
    /// Cuts the store off its data.
    fn cut(&self);
    /// Ends that.
    fn restore(&self);
    /// Compacts up to a revision.
    fn compact(&self, revision: Revision) -> BoxFuture<'_, ()>;
    /// Writes any bytes at a key below the root.
    fn put_raw<'a>(&'a self, path: &'a str, value: &'a [u8]) -> BoxFuture<'a, ()>;
    /// Reads what is at a key below the root.
    fn get_raw<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Option<Vec<u8>>>;
    /// Ends every lease, as an operator can.
    fn revoke_leases(&self) -> BoxFuture<'_, ()>;
}

/// Makes a test of every rule of the contract. The argument is an expression that makes a [`Rig`], and may await.
#[macro_export]
macro_rules! contract_suite {
    ($rig:expr) => {
        $crate::contract_suite!($rig;
            batches: a_resource_is_created_read_replaced_and_deleted,
                a_stale_expectation_names_the_key_and_what_it_is, a_batch_is_all_or_nothing,
                a_guard_holds_while_nothing_of_its_kind_is_written,
                a_batch_is_one_revision_and_one_event, a_key_is_written_once_in_a_batch, names_fit_into_keys,
                too_many_operations_are_refused_by_number, too_many_bytes_are_refused_by_number,
                of_concurrent_writers_one_wins, liveness_turns_once, a_new_workload_is_not_down, an_empty_batch_writes_nothing;
            lists: a_list_is_scoped, pages_are_of_one_revision, a_compacted_or_future_page_is_an_error,
                what_cannot_be_decoded_is_listed_apart;
            following: a_watch_begins_with_a_snapshot, a_watch_resumes_after_a_revision, a_watch_of_a_kind_sees_only_it,
                a_damaged_value_is_reported_and_skipped, a_slow_consumer_loses_nothing, a_large_revision_stays_whole,
                others_writes_are_progress;
            losses: a_cut_watch_resumes_without_loss, a_compaction_while_away_relists,
                without_relist_a_watch_ends_at_a_compaction, a_watch_from_a_compacted_revision,
                a_new_epoch_relists, a_watch_may_begin_while_the_store_is_away, calls_fail_while_the_store_is_away;
            records: history_is_newest_first, history_is_paged, history_is_pruned_by_age, secrets_are_not_recorded,
                the_last_commit_is_known, the_epoch_is_stable;
            rollouts: a_rollout_is_seen_with_its_change, of_two_who_move_a_rollout_one_does;
            membership: members_come_and_go, a_member_registers_other_addresses, a_member_that_falls_silent_expires, a_lost_lease_is_renewed,
                nobody_leaves_because_the_store_is_away;
            vaults: a_recorded_write_says_who_did_it, a_value_is_written_once_replaced_and_deleted, values_are_written_all_or_none, areas_are_apart,
                a_follower_sees_every_later_set, a_follower_catches_up_after_a_cut;
            offices: an_office_has_one_holder, of_many_candidates_one_wins, who_lost_the_office_writes_nothing,
                a_holder_that_is_cut_off_loses_the_office, an_office_lasts_while_it_is_held;
        );
    };
    ($rig:expr; $($module:ident: $($case:ident),+;)+) => {
        $(mod $module {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::testing::contract::$module::$case(&$rig).await;
            })+
        })+
    };
}

/// A resource with a spec.
pub fn object(kind: Kind, namespace: &str, name: &str, spec: Value) -> Object {
    let metadata = Metadata {
        name: name.into(),
        namespace: namespace.into(),
        ..Metadata::default()
    };
    Object {
        kind,
        metadata,
        spec,
    }
}

/// A VirtualService in `default` with a number in it.
fn route(name: &str, n: usize) -> Object {
    object(
        Kind::VirtualService,
        "default",
        name,
        json!({ "hosts": [format!("{name}-{n}")] }),
    )
}

fn key(name: &str) -> Key {
    Key::new(Kind::VirtualService, "default", name)
}

fn create(object: Object) -> Op {
    Op::Put {
        object,
        expect: Expect::Absent,
    }
}

fn replace(object: Object, at: Revision) -> Op {
    Op::Put {
        object,
        expect: Expect::At(at),
    }
}

fn delete(name: &str, at: Revision) -> Op {
    Op::Delete {
        key: key(name),
        expect: Expect::At(at),
    }
}

fn by(who: &str) -> Author {
    Author {
        who: who.into(),
        verb: "test".into(),
        ..Author::default()
    }
}

async fn commit(store: &Arc<dyn Store>, ops: impl IntoIterator<Item = Op>) -> Revision {
    store
        .commit(ops.into_iter().collect(), by("tester"))
        .await
        .unwrap()
}

/// A watch of everything and its first snapshot.
async fn watch_all(store: &Arc<dyn Store>) -> (Watch, Snapshot) {
    let mut watch = store.watch(Scope::default(), None, true).await.unwrap();
    let snapshot = snapshot(&mut watch).await;
    (watch, snapshot)
}

async fn next(watch: &mut Watch) -> Option<Event> {
    tokio::time::timeout(PATIENCE, watch.next())
        .await
        .expect("an event in time")
}

/// The next event that is not about the connection.
async fn event(watch: &mut Watch) -> Event {
    loop {
        match next(watch).await.expect("the watch goes on") {
            Event::Progress { .. } | Event::Disconnected { .. } => {}
            event => return event,
        }
    }
}

async fn snapshot(watch: &mut Watch) -> Snapshot {
    match event(watch).await {
        Event::Snapshot(snapshot) => snapshot,
        other => panic!("not a snapshot: {other:?}"),
    }
}

async fn changes(watch: &mut Watch) -> (Revision, Vec<Change>) {
    match event(watch).await {
        Event::Changes {
            revision, changes, ..
        } => (revision, changes),
        other => panic!("no changes: {other:?}"),
    }
}

/// Waits until the watch has noticed that it is cut off.
async fn disconnected(watch: &mut Watch) {
    loop {
        match next(watch).await.expect("the watch goes on") {
            Event::Disconnected { .. } => return,
            Event::Progress { .. } => {}
            other => panic!("not expected before the disconnection: {other:?}"),
        }
    }
}

fn names(snapshot: &Snapshot) -> Vec<&str> {
    snapshot
        .objects
        .iter()
        .map(|object| object.metadata.name.as_str())
        .collect()
}
