//! Waits for what happens at pushers: each of them tells when what is asked of a rollout has another answer.
//!
//! *Invariant:* this only wakes; what is true is asked for afterwards, and who does not answer then is named.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use pusher_api::v1::{GetRolloutRequest, RolloutTurn};
use store::Member;
use tokio::sync::watch;
use tonic::Streaming;

use super::Pushers;

/// How long before a pusher that cannot be reached is tried again, and one that kept silent asked again.
pub(crate) const RETRY: Duration = Duration::from_secs(1);

/// A watch on every live pusher.
pub(crate) struct Turns<'a> {
    pushers: &'a Pushers,
    request: GetRolloutRequest,
    members: watch::Receiver<Vec<Member>>,
    /// The instances that are watched, or tried.
    watched: BTreeSet<String>,
    steps: FuturesUnordered<BoxFuture<'a, Step>>,
}

type Told = Box<Streaming<RolloutTurn>>;

enum Step {
    /// It told something.
    Turned(Member, Told),
    /// It is gone, or cannot be reached.
    Lost(Member),
    /// It may be tried again, if it is still there.
    Again(Member),
}

impl Pushers {
    /// Watches what every live pusher has to say of a rollout.
    pub(crate) fn turns(&self, request: GetRolloutRequest) -> Turns<'_> {
        Turns {
            pushers: self,
            request,
            members: self.members.clone(),
            watched: BTreeSet::new(),
            steps: FuturesUnordered::new(),
        }
    }

    async fn open(&self, request: GetRolloutRequest, member: Member) -> Step {
        let opened = async {
            let mut client = self.client(&member).ok()?;
            let opened = client.watch_rollout(request).await.ok()?;
            told(Box::new(opened.into_inner())).await
        };
        match tokio::time::timeout(self.deadline, opened).await {
            Ok(Some(stream)) => Step::Turned(member, stream),
            _ => Step::Lost(member),
        }
    }
}

impl Turns<'_> {
    /// Returns when a pusher told something, and when one came, went or was lost. May be dropped and called again.
    pub(crate) async fn next(&mut self) {
        loop {
            self.open();
            let step = tokio::select! {
                changed = self.members.changed() => match changed {
                    Ok(()) => return,
                    // Who knows the members has ended; the service is about to.
                    Err(_) => std::future::pending().await,
                },
                Some(step) = self.steps.next() => step,
            };
            match step {
                Step::Turned(member, stream) => {
                    self.steps.push(Box::pin(async move {
                        match told(stream).await {
                            Some(stream) => Step::Turned(member, stream),
                            None => Step::Lost(member),
                        }
                    }));
                    return;
                }
                Step::Lost(member) => {
                    self.steps.push(Box::pin(async move {
                        tokio::time::sleep(RETRY).await;
                        Step::Again(member)
                    }));
                    return;
                }
                Step::Again(member) => {
                    self.watched.remove(&member.instance);
                }
            }
        }
    }

    /// Begins to watch those that are not watched yet.
    fn open(&mut self) {
        for member in self.pushers.members() {
            if self.watched.insert(member.instance.clone()) {
                let opened = self.pushers.open(self.request.clone(), member);
                self.steps.push(Box::pin(opened));
            }
        }
    }
}

/// The stream once it told something; `None` when it ended.
async fn told(mut stream: Told) -> Option<Told> {
    let told = stream.message().await.ok()?;
    told.map(|_| stream)
}
