//! The filter chains of a port by its mode of mutual TLS.
//!
//! *Invariant:* in `STRICT` there is no chain without the mesh's transport socket.

use std::time::Duration;

use model::mtls::Mode;

use crate::identity::Identities;
use crate::listener::{self, Filter, FilterChain, FilterChainMatch, Listener};
use crate::translate::{mtls, pb};

/// The chains that lead through these filters. `port` tells ports apart on a listener that takes several.
pub(super) fn of(
    port: Option<u16>,
    filters: &[Filter],
    http: bool,
    security: Option<(&Identities, Mode)>,
) -> Vec<FilterChain> {
    let anything = FilterChainMatch {
        destination_port: port.and_then(|port| pb::u32_value(port.into())),
        ..Default::default()
    };
    let chain = |transport: &str, alpn: &[&str], socket| {
        let condition = FilterChainMatch {
            transport_protocol: transport.into(),
            application_protocols: alpn.iter().map(|it| (*it).to_owned()).collect(),
            ..anything.clone()
        };
        FilterChain {
            filter_chain_match: (condition != FilterChainMatch::default()).then_some(condition),
            transport_socket: socket,
            ..listener::chain_through(filters.to_vec())
        }
    };
    let Some((identities, mode)) = security else {
        return vec![chain("", &[], None)];
    };
    let socket = || Some(mtls::downstream(identities, http));
    match mode {
        Mode::Disable => vec![chain("", &[], None)],
        Mode::Strict => vec![chain("tls", &[], socket())],
        Mode::Permissive => {
            let mut chains = vec![chain("tls", &[mtls::ALPN], socket())];
            if !http {
                // TLS of the workload's own.
                chains.push(chain("tls", &[], None));
            }
            chains.push(chain("raw_buffer", &[], None));
            chains
        }
    }
}

/// The listener with what its chains need to be told apart.
pub(super) fn inspected(mut listener: Listener) -> Listener {
    if listener.filter_chains.iter().any(listener::looks_at_tls) {
        listener.listener_filters.push(listener::tls_inspector());
        // A server that speaks first must not wait for a client that does not.
        listener.listener_filters_timeout = Some(pb::duration(Duration::from_millis(500)));
        listener.continue_on_listener_filters_timeout = true;
    }
    listener
}
