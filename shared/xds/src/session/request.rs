//! Requests: subscriptions, ACKs and NACKs.
//!
//! *Invariant:* nothing is sent here; what a request makes necessary is found when the next response is asked for.

use std::collections::HashMap;
use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};

use super::state::{Good, Held};
use super::{Event, Refusal, Session, Variant};
use crate::ResourceType;
use crate::redact::redacted;

/// The name of the wildcard.
const ALL: &str = "*";

impl Session {
    /// Takes a state-of-the-world request.
    ///
    /// # Errors
    /// It has no node though it is the first, or no type (rule S16).
    pub fn on_request(&mut self, request: &DiscoveryRequest) -> Result<(), Refusal> {
        debug_assert_eq!(self.variant, Variant::Sotw, "a stream has one variant");
        self.open(request.node.as_ref())?;
        let Some(ty) = self.resource_type(&request.type_url)? else {
            return Ok(());
        };
        let state = &mut self.types[ty as usize];
        let first = !state.opened;
        if first {
            state.opened = true;
            state.owed = true;
            state.resumed = ty.is_full_state() && !request.version_info.is_empty();
        } else if request.response_nonce != state.nonce {
            return Ok(()); // Stale: the client has yet to see a later response, and will answer that (rule S4).
        } else if !state.flights.is_empty() {
            let error = request
                .error_detail
                .as_ref()
                .map(|status| redacted(&status.message));
            self.answered(ty, 0, error.as_deref());
        }
        self.set_names(ty, &request.resource_names);
        Ok(())
    }

    /// Takes a delta request.
    ///
    /// # Errors
    /// It has no node though it is the first, or no type (rule S16).
    pub fn on_delta_request(&mut self, request: &DeltaDiscoveryRequest) -> Result<(), Refusal> {
        debug_assert_eq!(self.variant, Variant::Delta, "a stream has one variant");
        self.open(request.node.as_ref())?;
        let Some(ty) = self.resource_type(&request.type_url)? else {
            return Ok(());
        };
        let state = &mut self.types[ty as usize];
        let first = !state.opened;
        if let Some(index) = state
            .flights
            .iter()
            .position(|f| f.nonce == request.response_nonce)
        {
            let error = request
                .error_detail
                .as_ref()
                .map(|status| redacted(&status.message));
            self.answered(ty, index, error.as_deref());
        }
        let state = &mut self.types[ty as usize];
        if first {
            state.opened = true;
            state.owed = true;
            // An empty list is the wildcard, and stays so when names follow (rule D7).
            state.names.wildcard =
                ty.is_full_state() && request.resource_names_subscribe.is_empty();
        }
        self.unsubscribe(ty, &request.resource_names_unsubscribe);
        self.subscribe(ty, &request.resource_names_subscribe);
        if first {
            self.resume(ty, &request.initial_resource_versions);
        }
        Ok(())
    }

    fn resource_type(&mut self, url: &str) -> Result<Option<ResourceType>, Refusal> {
        match (self.options.only, ResourceType::from_type_url(url)) {
            (Some(only), _) if url.is_empty() || url == only.type_url() => Ok(Some(only)),
            (Some(only), _) => Err(Refusal::OtherType {
                url: url.to_owned(),
                only,
            }),
            (None, _) if url.is_empty() => Err(Refusal::NoType),
            (None, None) => {
                // A type we do not know must not end the stream for those that we do.
                self.events.push(Event::Unsupported {
                    type_url: url.to_owned(),
                });
                Ok(None)
            }
            (None, ty) => Ok(ty),
        }
    }

    /// State of the world: the list is all that the client asks for.
    fn set_names(&mut self, ty: ResourceType, list: &[String]) {
        let state = &mut self.types[ty as usize];
        state.named |= !list.is_empty();
        let wildcard = list.iter().any(|n| n == ALL)
            || (list.is_empty() && !state.named && ty.is_full_state());
        let added: Vec<Arc<str>> = list
            .iter()
            .filter(|name| *name != ALL && !state.names.named(name))
            .map(|name| name.as_str().into())
            .collect();
        if wildcard && !state.names.wildcard {
            self.widen(ty);
        }
        // What the client asked for anew it may have dropped before: it is sent even if it did not change (rule S8).
        self.ask_then(ty, added, |state, _| {
            state.names.wildcard = wildcard;
            state
                .names
                .replace(list.iter().map(String::as_str).filter(|name| *name != ALL));
        });
        self.forget_unsubscribed(ty);
    }

    fn subscribe(&mut self, ty: ResourceType, list: &[String]) {
        let state = &mut self.types[ty as usize];
        if list.iter().any(|name| name == ALL) && !state.names.wildcard {
            self.widen(ty);
            self.types[ty as usize].names.wildcard = true;
            self.types[ty as usize].owed = true;
        }
        let names: Vec<Arc<str>> = list
            .iter()
            .filter(|n| *n != ALL)
            .map(|n| n.as_str().into())
            .collect();
        self.ask_then(ty, names, |state, names| {
            state.names.add(names.iter().map(|n| &**n))
        });
    }

    fn unsubscribe(&mut self, ty: ResourceType, list: &[String]) {
        if list.is_empty() {
            return;
        }
        let state = &mut self.types[ty as usize];
        let named: Vec<Arc<str>> = list
            .iter()
            .filter(|n| *n != ALL && state.names.named(n))
            .map(|n| n.as_str().into())
            .collect();
        state.names.remove(list.iter().map(String::as_str));
        if list.iter().any(|name| name == ALL) {
            state.names.wildcard = false;
        }
        self.forget_unsubscribed(ty);
        if self.types[ty as usize].names.wildcard {
            // The wildcard still covers it, so the client is told what there is (rule D4).
            self.ask(ty, named);
        }
    }

    /// The wildcard comes on top of names: what was not asked for by name is not held.
    fn widen(&mut self, ty: ResourceType) {
        let state = &mut self.types[ty as usize];
        let base = std::mem::replace(&mut state.base, self.nothing.clone());
        for resource in base.iter(ty).filter(|r| state.names.named(r.name())) {
            let good = || Held::good(Good::Content(resource.clone()));
            state
                .except
                .entry(resource.name().clone())
                .or_insert_with(good);
        }
        state.settled = false;
    }

    fn forget_unsubscribed(&mut self, ty: ResourceType) {
        let state = &mut self.types[ty as usize];
        let names = &state.names;
        state.except.retain(|name, _| names.contains(name));
        state.refused.retain(|name, _| names.contains(name));
        state.beats.retain(|name, _| names.contains(name));
    }

    fn ask(&mut self, ty: ResourceType, names: Vec<Arc<str>>) {
        self.ask_then(ty, names, |_, _| ());
    }

    /// Notes that these names are to be answered whatever the client holds.
    fn ask_then(
        &mut self,
        ty: ResourceType,
        names: Vec<Arc<str>>,
        then: impl FnOnce(&mut super::state::TypeState, &[Arc<str>]),
    ) {
        let state = &mut self.types[ty as usize];
        // Only for a name that is covered already can there be something that the client is known to hold.
        let held: Vec<Held> = names
            .iter()
            .map(|name| {
                let covered = state.names.contains(name) && state.opened;
                Held::asked(if covered {
                    state.held(ty, name).good
                } else {
                    Good::Nothing
                })
            })
            .collect();
        then(state, &names);
        for (name, held) in names.into_iter().zip(held) {
            state.except.insert(name, held);
        }
        state.settled = false;
    }

    /// Rule D6: what the client kept from an earlier stream.
    fn resume(&mut self, ty: ResourceType, versions: &HashMap<String, String>) {
        let endpoints = ty == ResourceType::Endpoint;
        // While clusters warm, Envoy reconnects without asking for them; their endpoints are needed all the same.
        let warming = endpoints
            && self.options.only.is_none()
            && !self.types[ResourceType::Cluster as usize].opened;
        let state = &mut self.types[ty as usize];
        let resend = std::mem::take(&mut state.resend);
        for (name, version) in versions {
            let name: Arc<str> = name.as_str().into();
            if state.names.contains(&name) {
                let good = Good::Reported(version.as_str().into());
                let again = warming || resend.contains(&name);
                state.except.insert(
                    name,
                    if again {
                        Held::asked(good)
                    } else {
                        Held::good(good)
                    },
                );
            }
        }
    }
}
