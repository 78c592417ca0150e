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
    arriving: AtomicUsize,
    waiting: AtomicUsize,
    most: usize,
}

/// A stream that has come and that nobody serves or passes on yet.
pub(crate) struct Arriving(Arc<Queue>);

impl Drop for Arriving {
    fn drop(&mut self) {
        self.0.arriving.fetch_sub(1, Ordering::Relaxed);
    }
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
            arriving: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            most,
        }))
    }

    /// Counts a stream as arriving until it is served or passed on.
    pub(crate) fn arrive(&self) -> Arriving {
        self.0.arriving.fetch_add(1, Ordering::Relaxed);
        Arriving(self.0.clone())
    }

    /// How many have come and are neither served nor passed on.
    pub(crate) fn arriving(&self) -> usize {
        self.0.arriving.load(Ordering::Relaxed)
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// Whether so many wait that another replica should take the next.
    pub(crate) fn full(&self) -> bool {
        self.waiting() >= self.0.most
    }

    /// Refuses a stream, which another replica can take.
    pub(crate) fn refuse() -> Status {
        counter!("weft_pusher_admission_refused_total").increment(1);
        Status::resource_exhausted(
            "too many proxies connect at once; another replica can take this one",
        )
    }

    /// Waits for a stream's turn.
    pub(crate) async fn turn(&self) -> Turn {
        let (begun, waits) = (Instant::now(), Waits::new(&self.0));
        let permit = self.0.places.clone().acquire_owned().await;
        drop(waits);
        histogram!("weft_pusher_admission_wait_seconds").record(begun.elapsed());
        let permit = permit.expect("nobody closes the queue");
        let turn = Arc::new(Mutex::new(Some(permit)));
        let slow = Arc::downgrade(&turn);
        tokio::spawn(async move {
            tokio::time::sleep(TURN).await;
            if let Some(turn) = slow.upgrade() {
                Turn(turn).done();
            }
        });
        Turn(turn)
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
    use super::*;
    use futures::FutureExt as _;

    #[tokio::test]
    async fn turns_come_in_order_and_are_given_on() {
        let admission = Admission::new(1, 2);
        let first = admission.turn().await;
        let mut second = Box::pin(admission.turn());
        let mut third = Box::pin(admission.turn());
        assert!(second.as_mut().now_or_never().is_none());
        assert!(!admission.full());
        assert!(third.as_mut().now_or_never().is_none());
        assert_eq!(admission.waiting(), 2);
        assert!(admission.full());
        first.done();
        let early = third.as_mut().now_or_never();
        assert!(early.is_none(), "who came first is first");
        let second = second.await;
        assert_eq!(admission.waiting(), 1);
        // A stream that ends gives its turn on as well.
        drop(second);
        third.await;
        assert_eq!(admission.waiting(), 0);
    }

    #[test]
    fn who_arrives_is_counted_until_it_is_served() {
        let admission = Admission::new(1, 10);
        let (one, other) = (admission.arrive(), admission.arrive());
        assert_eq!(admission.arriving(), 2);
        drop(one);
        assert_eq!(admission.arriving(), 1);
        drop(other);
        assert_eq!(admission.arriving(), 0);
    }

    #[tokio::test]
    async fn who_gives_up_waits_no_more() {
        let admission = Admission::new(1, 10);
        let _first = admission.turn().await;
        let mut second = Box::pin(admission.turn());
        assert!(second.as_mut().now_or_never().is_none());
        drop(second);
        assert_eq!(admission.waiting(), 0);
    }

    #[tokio::test]
    async fn who_takes_too_long_makes_way() {
        let admission = Admission::new(1, 1);
        let _slow = admission.turn().await;
        admission.turn().await;
    }
}
