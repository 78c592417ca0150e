//! Listeners that several hosts contribute to: those for traffic that is intercepted, one per address and port.
//!
//! *Invariant:* which piece prevails depends on the ages of the services alone, not on the order of pieces.

use std::sync::Arc;

use model::mesh::Age;

use super::{
    Filter, FilterChain, Listener, chain, chain_of, listener, looks_at_tls, tls_inspector,
};
use crate::translate::{pb, tcp};

/// What a host contributes to a listener.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ListenerPiece {
    /// The address of the listener.
    pub(crate) address: Arc<str>,
    /// Its port.
    pub(crate) port: u16,
    /// Whether connections are made to it, rather than handed to it by the listener that intercepts them.
    pub(crate) bound: bool,
    /// How old the service is: the oldest decides what the listener speaks.
    pub(crate) age: Age,
    /// What it is to do.
    pub(crate) takes: Takes,
    /// What becomes of connections that nobody takes.
    pub(crate) otherwise: Filter,
}

impl Eq for ListenerPiece {}

/// What a listener does with connections.
#[allow(clippy::large_enum_variant, reason = "few exist, none is moved often")]
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Takes {
    /// Requests, by this filter; the same for every host of a port.
    Http(Filter),
    /// Connections by filter chains, to any of these addresses.
    Tcp(Vec<tcp::Chain>, Vec<String>),
}

/// The listener of these pieces, if there are any.
pub(crate) fn join(name: &str, pieces: &[&ListenerPiece]) -> Option<Listener> {
    let mut pieces = pieces.to_vec();
    pieces.sort_by(|a, b| a.age.cmp(&b.age));
    let oldest = pieces.first()?;
    let base = Listener {
        bind_to_port: (!oldest.bound).then_some(pb::BoolValue { value: false }),
        ..listener(
            name,
            &oldest.address,
            oldest.port,
            pb::TrafficDirection::Outbound,
        )
    };
    if let Takes::Http(filter) = &oldest.takes {
        return Some(Listener {
            filter_chains: vec![chain_of(filter.clone())],
            ..base
        });
    }
    let mut chains: Vec<FilterChain> = Vec::new();
    for piece in &pieces {
        let Takes::Tcp(own, addresses) = &piece.takes else {
            continue;
        };
        for own in own {
            let own = chain(own, addresses);
            if !chains
                .iter()
                .any(|other| other.filter_chain_match == own.filter_chain_match)
            {
                chains.push(own);
            }
        }
    }
    let inspected = chains.iter().any(looks_at_tls);
    let unconditional = chains
        .iter()
        .any(|chain| chain.filter_chain_match.is_none());
    Some(Listener {
        listener_filters: inspected.then(tls_inspector).into_iter().collect(),
        // A server that speaks first must not wait for a client that does not.
        listener_filters_timeout: inspected
            .then(|| pb::duration(std::time::Duration::from_millis(500))),
        continue_on_listener_filters_timeout: inspected,
        default_filter_chain: (!unconditional).then(|| chain_of(oldest.otherwise.clone())),
        filter_chains: chains,
        ..base
    })
}
