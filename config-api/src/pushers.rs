//! Questions to every live pusher at once, each with a deadline.
//!
//! Over mutual TLS where the mesh has identities. *Invariant:* a pusher that does not answer is named, never left out silently; no question waits longer than the deadline.

mod turns;

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use model::SpiffeId;
use pusher_api::v1::pusher_client::PusherClient;
use serde::Serialize;
use store::Member;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};

pub(crate) use turns::{RETRY, Turns};

/// The service name under which pushers register.
pub(crate) const SERVICE: &str = "xds-pusher";

/// The live pushers and the connections to them.
pub(crate) struct Pushers {
    members: watch::Receiver<Vec<Member>>,
    channels: Mutex<Channels>,
    deadline: Duration,
    transport: Transport,
}

/// How pushers are reached.
pub(crate) enum Transport {
    /// In plaintext, on loopback.
    Plaintext,
    /// By identities: our own, and the one a pusher must have.
    Mutual(mtls::Current, SpiffeId),
}

/// The connections by address, made with what we held then.
#[derive(Default)]
struct Channels {
    by_address: HashMap<String, Channel>,
    material: Option<Arc<mtls::Material>>,
}

/// A pusher that did not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Silent {
    pub(crate) instance: String,
    pub(crate) address: String,
    pub(crate) reason: String,
}

/// What the pushers said.
#[derive(Clone, Debug)]
pub(crate) struct Answers<T> {
    pub(crate) answered: Vec<(Member, T)>,
    pub(crate) silent: Vec<Silent>,
}

impl Pushers {
    /// Asks the members that `members` holds.
    pub(crate) fn new(
        members: watch::Receiver<Vec<Member>>,
        deadline: Duration,
        transport: Transport,
    ) -> Self {
        Self {
            members,
            channels: Mutex::default(),
            deadline,
            transport,
        }
    }

    /// The live pushers, oldest first.
    pub(crate) fn members(&self) -> Vec<Member> {
        let mut members = self.members.borrow().clone();
        members.sort_by(|a, b| (a.since, &a.instance).cmp(&(b.since, &b.instance)));
        members
    }

    /// Asks every live pusher.
    pub(crate) async fn ask<T, F, R>(&self, question: F) -> Answers<T>
    where
        F: Fn(PusherClient<Channel>) -> R,
        R: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        self.ask_within(self.deadline, question).await
    }

    /// The same, with another deadline, for what takes a pusher some work.
    pub(crate) async fn ask_within<T, F, R>(&self, deadline: Duration, question: F) -> Answers<T>
    where
        F: Fn(PusherClient<Channel>) -> R,
        R: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let asked = self.members().into_iter().map(|member| {
            let asked = self.client(&member).map(&question);
            async move {
                let result = match asked {
                    Ok(answer) => match tokio::time::timeout(deadline, answer).await {
                        Ok(Ok(response)) => Ok(response.into_inner()),
                        Ok(Err(status)) => {
                            Err(format!("{:?}: {}", status.code(), status.message()))
                        }
                        Err(_) => Err(format!("no answer within {deadline:?}")),
                    },
                    Err(reason) => Err(reason),
                };
                (member, result)
            }
        });
        let mut answers = Answers {
            answered: Vec::new(),
            silent: Vec::new(),
        };
        for (member, result) in join_all(asked).await {
            match result {
                Ok(answer) => answers.answered.push((member, answer)),
                Err(reason) => answers.silent.push(Silent {
                    address: member.addresses.get("grpc").cloned().unwrap_or_default(),
                    instance: member.instance,
                    reason,
                }),
            }
        }
        answers
    }

    fn client(&self, member: &Member) -> Result<PusherClient<Channel>, String> {
        let client = PusherClient::new(self.channel(member)?);
        Ok(client.max_decoding_message_size(256 * 1024 * 1024))
    }

    /// The connection to a pusher.
    ///
    /// # Errors
    /// Why there can be none.
    pub(crate) fn channel(&self, member: &Member) -> Result<Channel, String> {
        let address = member
            .addresses
            .get("grpc")
            .ok_or("it registered no grpc address")?;
        let mut channels = self
            .channels
            .lock()
            .expect("no code panics while it holds this lock");
        let members = self.members.borrow();
        let of_member = |known: &String| {
            (members.iter()).any(|member| member.addresses.get("grpc") == Some(known))
        };
        channels.by_address.retain(|known, _| of_member(known));
        let tls = match &self.transport {
            Transport::Plaintext => None,
            Transport::Mutual(current, pusher) => {
                let material = current.borrow().clone();
                let material = material.ok_or("this service has no certificate yet")?;
                if (channels.material.as_ref()).is_none_or(|used| !Arc::ptr_eq(used, &material)) {
                    // A pusher answers until the certificate of the connection expires.
                    channels.by_address.clear();
                    channels.material = Some(material.clone());
                }
                Some((material, pusher))
            }
        };
        if let Some(channel) = channels.by_address.get(address) {
            return Ok(channel.clone());
        }
        let channel = self.connect(address, tls)?;
        channels.by_address.insert(address.clone(), channel.clone());
        Ok(channel)
    }

    fn connect(
        &self,
        address: &str,
        tls: Option<(Arc<mtls::Material>, &SpiffeId)>,
    ) -> Result<Channel, String> {
        match tls {
            Some((material, pusher)) => {
                let config = material.client(pusher.clone()).map_err(|e| e.to_string())?;
                mtls::channel(address, config.into(), self.deadline).map_err(|e| e.to_string())
            }
            None => {
                let endpoint = Endpoint::from_shared(format!("http://{address}"))
                    .map_err(|e| format!("{address:?}: {e}"))?;
                Ok(endpoint.connect_timeout(self.deadline).connect_lazy())
            }
        }
    }
}
