//! One watch stream of etcd, as whole revisions.
//!
//! etcd splits what is larger than a request may be into fragments; they are joined before anything is passed on. A
//! server that says nothing is asked for progress; the answers only prove that it lives, for they may overtake events
//! (etcd issue 15220).
//!
//! *Invariant:* nothing here reconnects.

use std::collections::VecDeque;
use std::time::Duration;

use etcd_client::{Client, WatchOptions, WatchRequestSender, WatchResponse, WatchResponseStream};
use futures::Stream;

use super::kv::{EtcdKv, MAX_ANSWER, fault, key_value};
use crate::keys::Span;
use crate::kv::{Batch, Fault, KvEvent};

/// What etcd numbers answers to progress requests with.
const ANY_WATCH: i64 = -1;
/// How many times a silent server is asked for progress before it is given up.
const ASKED_TIMES: u32 = 3;

/// An established watch. The sender is kept because etcd ends the watch when it is dropped.
struct Established {
    sender: WatchRequestSender,
    responses: WatchResponseStream,
    silence: Duration,
    /// Events of a response whose other fragments are still to come.
    partial: Vec<KvEvent>,
    ready: VecDeque<Batch>,
}

impl EtcdKv {
    pub(super) async fn open_watch(
        &self,
        span: &Span,
        from: i64,
    ) -> Result<impl Stream<Item = Result<Batch, Fault>> + Send + use<>, Fault> {
        let options = WatchOptions::new()
            .with_range(span.end.as_str())
            .with_start_revision(from)
            .with_prev_key()
            .with_progress_notify()
            .with_fragment();
        let start = span.start.as_str();
        let open = |client: Client| async move {
            let mut client = client.watch_client().max_decoding_message_size(MAX_ANSWER);
            let (sender, mut responses) = client.watch(start, Some(options)).await?.split();
            let created = responses.message().await?;
            Ok((sender, responses, created))
        };
        let ((sender, responses, created), place) = self.servers.asked("watch", open).await?;
        let servers = self.servers.clone();
        let opened = created
            .ok_or_else(|| Fault::Lost("etcd ended the watch at once".into()))
            .and_then(|created| refusal(&created));
        if let Err(fault) = opened {
            return Err(servers.left(place, fault));
        }
        let stream = Established {
            sender,
            responses,
            silence: servers.config.silence,
            partial: Vec::new(),
            ready: VecDeque::new(),
        };
        Ok(futures::stream::unfold(Some(stream), move |stream| {
            let servers = servers.clone();
            async move {
                let mut stream = stream?;
                match stream.next().await {
                    Ok(batch) => Some((Ok(batch), Some(stream))),
                    Err(fault) => Some((Err(servers.left(place, fault)), None)),
                }
            }
        }))
    }
}

impl Established {
    async fn next(&mut self) -> Result<Batch, Fault> {
        let mut asked = 0;
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(batch);
            }
            match tokio::time::timeout(self.silence / (ASKED_TIMES + 1), self.responses.message())
                .await
            {
                Ok(Ok(Some(response))) => {
                    asked = 0;
                    self.take(response)?;
                }
                Ok(Ok(None)) => return Err(Fault::Lost("etcd ended the watch".into())),
                Ok(Err(error)) => return Err(fault(&error)),
                Err(_) if asked == ASKED_TIMES => {
                    return Err(Fault::Lost(format!(
                        "etcd was silent for {:?}",
                        self.silence
                    )));
                }
                Err(_) => {
                    asked += 1;
                    self.sender
                        .request_progress()
                        .await
                        .map_err(|error| fault(&error))?;
                }
            }
        }
    }

    fn take(&mut self, response: WatchResponse) -> Result<(), Fault> {
        refusal(&response)?;
        let response = response.0;
        if response.watch_id == ANY_WATCH {
            return Ok(());
        }
        let header = response.header.as_ref().map(|header| header.revision);
        if response.events.is_empty() && !response.fragment && self.partial.is_empty() {
            self.ready.extend(header.map(|revision| Batch {
                revision,
                events: Vec::new(),
            }));
            return Ok(());
        }
        self.partial
            .extend(response.events.into_iter().filter_map(event));
        if !response.fragment {
            self.ready
                .extend(by_revision(std::mem::take(&mut self.partial)));
        }
        Ok(())
    }
}

/// Why etcd ended the watch, if it did.
fn refusal(response: &WatchResponse) -> Result<(), Fault> {
    if response.compact_revision() != 0 {
        return Err(Fault::Compacted);
    }
    if response.canceled() {
        return Err(Fault::Lost(format!(
            "etcd cancelled the watch: {}",
            response.cancel_reason()
        )));
    }
    Ok(())
}

fn event(event: etcd_client::proto::PbEvent) -> Option<KvEvent> {
    let deleted = event.r#type != 0;
    let before = event.prev_kv.map(|kv| key_value(etcd_client::KeyValue(kv)));
    Some(KvEvent {
        kv: key_value(etcd_client::KeyValue(event.kv?)),
        deleted,
        before,
    })
}

/// Groups events, which come in order of revision.
fn by_revision(events: Vec<KvEvent>) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for event in events {
        match batches.last_mut() {
            Some(batch) if batch.revision == event.kv.modified => batch.events.push(event),
            _ => batches.push(Batch {
                revision: event.kv.modified,
                events: vec![event],
            }),
        }
    }
    batches
}
