//! Tells whoever waits when `GetRollout` would answer something that matters to a wait.
//!
//! *Invariant:* says nothing twice, and looks no more often than once in [`APART`].

use std::time::{Duration, Instant};

use futures::Stream;
use pusher_api::v1::{GetRolloutRequest, Progress, Replica, RolloutTurn};
use tokio::sync::watch;

use crate::mesh::Sides;
use model::Revision;

/// What comes within this time is looked at together.
const APART: Duration = Duration::from_millis(20);

/// Somebody who waits.
pub(super) struct Turns {
    pub(super) streams: xds::Streams,
    pub(super) revision: watch::Receiver<Revision>,
    pub(super) sides: watch::Receiver<Option<Sides>>,
    pub(super) request: GetRolloutRequest,
}

impl Turns {
    /// What decides, now and whenever it is something else, until the replica ends.
    pub(super) fn follow(self) -> impl Stream<Item = Result<RolloutTurn, tonic::Status>> + Send {
        let changes = self.streams.changes();
        futures::stream::unfold(
            (self, changes, None),
            |(mut it, mut changes, mut said)| async move {
                loop {
                    changes.mark_unchanged();
                    let (turn, settles) = it.look(Instant::now());
                    if said.as_ref() != Some(&turn) {
                        said = Some(turn.clone());
                        return Some((Ok(turn), (it, changes, said)));
                    }
                    let settled =
                        tokio::time::sleep_until(settles.unwrap_or_else(Instant::now).into());
                    tokio::select! {
                        changed = changes.changed() => changed.ok()?,
                        changed = it.revision.changed() => changed.ok()?,
                        changed = it.sides.changed() => changed.ok()?,
                        () = settled, if settles.is_some() => {}
                    }
                    tokio::time::sleep(APART).await;
                }
            },
        )
    }

    /// What decides, and when some proxy has been warm for long enough.
    fn look(&mut self, now: Instant) -> (RolloutTurn, Option<Instant>) {
        // The revision before the streams, as `GetRollout` does.
        let replica = Replica {
            revision: self.revision.borrow_and_update().0,
            ..Replica::default()
        };
        let sides = self.sides.borrow_and_update().clone();
        let (request, streams) = (&self.request, self.streams.list());
        let published = replica.revision >= request.revision;
        let settle = Duration::from_millis(request.settle_ms.into());
        let warm = streams
            .iter()
            .filter_map(|stream| stream.at(request.revision, published).1);
        let settles = warm
            .map(|since| since + settle)
            .filter(|at| *at > now)
            .min();
        let answer = super::rollout::answer(replica, &streams, sides.as_ref(), request, now);
        let count = |of: &dyn Fn(Progress) -> bool| {
            let found = answer.proxies.iter().filter(|proxy| of(proxy.progress()));
            u32::try_from(found.count()).unwrap_or(u32::MAX)
        };
        let done = |it| matches!(it, Progress::Settled | Progress::Refused);
        let turn = RolloutTurn {
            published,
            waiting: count(&|it| !done(it)) > 0,
            refused: count(&|it| it == Progress::Refused),
            active: answer.active,
        };
        (turn, settles)
    }
}
