//! Admission: how many new streams are brought up to date at a time, when a thousand Envoys come at once.
//!
//! What a new stream costs is its compilation and first push. So few begin at a time; the others wait in the order in which
//! they came, and everybody who is served already goes on being served. Who would wait behind too many is told to try again,
//! but only if another replica can take it.
//!
//! *Invariant:* a stream that no other replica can take is never refused.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{counter, gauge, histogram};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tonic::Status;

/// A stream that takes longer than this to be brought up to date makes way for the next.
const TURN: Duration = Duration::from_secs(2);

/// The queue of new streams. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Admission(Arc<Queue>);

struct Queue {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    most: usize,
}

/// A stream's turn: over with its first response, its end, or when it took too long.
#[derive(Clone)]
pub(crate) struct Turn(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Turn {
    /// Lets the next one begin.
    pub(crate) fn done(&self) {
        let mut permit = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(permit.take());
    }
}

impl Admission {
    /// So many at a time, and so many that wait before others are asked to take them.
    pub(crate) fn new(at_once: usize, most: usize) -> Self {
        Self(Arc::new(Queue {
            places: Arc::new(Semaphore::new(at_once)),
            waiting: AtomicUsize::new(0),
            most,
        }))
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// Waits for a stream's turn.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if too many wait and `others` can take it.
    pub(crate) async fn enter(&self, others: impl Future<Output = bool>) -> Result<Turn, Status> {
        if self.waiting() >= self.0.most && others.await {
            counter!("weft_pusher_admission_refused_total").increment(1);
            return Err(Status::resource_exhausted(
                "too many proxies connect at once; another replica can take this one",
            ));
        }
        let (begun, waits) = (Instant::now(), Waits::new(&self.0));
        let permit = self.0.places.clone().acquire_owned().await;
        drop(waits);
        histogram!("weft_pusher_admission_wait_seconds").record(begun.elapsed());
        let permit = permit.map_err(|_| Status::unavailable("the pusher is shutting down"))?;
        let turn = Arc::new(Mutex::new(Some(permit)));
        let slow = Arc::downgrade(&turn);
        tokio::spawn(async move {
            tokio::time::sleep(TURN).await;
            if let Some(turn) = slow.upgrade() {
                Turn(turn).done();
            }
        });
        Ok(Turn(turn))
    }
}

/// One that waits, until it gives up or has its turn.
struct Waits<'a>(&'a Queue);

impl<'a> Waits<'a> {
    fn new(queue: &'a Queue) -> Self {
        queue.waiting.fetch_add(1, Ordering::Relaxed);
        gauge!("weft_pusher_admission_queue").increment(1.0);
        Self(queue)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        gauge!("weft_pusher_admission_queue").decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures::FutureExt as _;
    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn turns_come_in_order_and_are_given_on() {
        let admission = Admission::new(1, 10);
        let first = admission.enter(async { true }).await.unwrap();
        let mut second = Box::pin(admission.enter(async { true }));
        let mut third = Box::pin(admission.enter(async { true }));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());
        assert_eq!(admission.waiting(), 2);
        first.done();
        assert!(
            third.as_mut().now_or_never().is_none(),
            "who came first is first"
        );
        let second = second.await.unwrap();
        assert_eq!(admission.waiting(), 1);
        // A stream that ends gives its turn on as well.
        drop(second);
        third.await.unwrap();
        assert_eq!(admission.waiting(), 0);
    }

    #[tokio::test]
    async fn who_gives_up_waits_no_more() {
        let admission = Admission::new(1, 10);
        let _first = admission.enter(async { true }).await.unwrap();
        let mut second = Box::pin(admission.enter(async { true }));
        assert!(second.as_mut().now_or_never().is_none());
        drop(second);
        assert_eq!(admission.waiting(), 0);
    }

    #[tokio::test]
    async fn only_what_another_can_take_is_refused() {
        let admission = Admission::new(1, 1);
        let first = admission.enter(async { true }).await.unwrap();
        let mut waits = Box::pin(admission.enter(async { true }));
        assert!(waits.as_mut().now_or_never().is_none());
        let refused = admission.enter(async { true }).await.err().unwrap();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        let mut last = Box::pin(admission.enter(async { false }));
        assert!(last.as_mut().now_or_never().is_none(), "it waits instead");
        first.done();
        waits.await.unwrap().done();
        last.await.unwrap();
    }

    #[tokio::test]
    async fn who_takes_too_long_makes_way() {
        let admission = Admission::new(1, 1);
        let _slow = admission.enter(async { true }).await.unwrap();
        admission.enter(async { true }).await.unwrap();
    }
}
