//! What a sidecar has for calls out: the listeners applications call, and the virtual hosts and filter chains of each host.
//!
//! Explicit interception: an HTTP proxy port and what a Sidecar's `egress` binds. Transparent: one listener takes every
//! connection and hands it to the listener of its destination.
//!
//! *Invariant:* what a host contributes depends on that host, its routes and their destinations, not on other hosts.

mod hosts;

use std::sync::Arc;

use model::mesh::Age;
use xds::Resource;
use xds::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;

pub(crate) use hosts::routes;

use crate::class::Class;
use crate::listener::{self, Http, ListenerPiece, Routes, Takes, http_filter};
use crate::part::Part;
use crate::port::Protocol;
use crate::route_config::{self, HTTP_PROXY};
use crate::scope::Egress;
use crate::translate::{names, pb, tcp};
use crate::unit::{ClassId, Reading};
use crate::{Interception, Role, outbound, settings};

/// Where the HTTP proxy port listens.
pub(crate) const HTTP_PROXY_PORT: u16 = 15080;
/// Where intercepted connections arrive.
const VIRTUAL_OUTBOUND_PORT: u16 = 15001;
/// The address applications on the same host reach.
pub(crate) const LOOPBACK: &str = "127.0.0.1";
/// Every address.
pub(crate) const ANY: &str = "0.0.0.0";

/// What a class of sidecars has whatever services there are.
pub(crate) fn fixed(id: ClassId, read: &mut Reading<'_>) -> Part {
    let class = read.class(id);
    let scope = read.scope(id);
    let mut part = Part::default();
    let clusters = outbound::special(Role::Sidecar, class.interception, &mut read.view());
    part.resources.extend(clusters.iter().map(Resource::new));
    for egress in &scope.listeners {
        match (&egress.port, class.interception) {
            (Some(port), _) if Protocol::of(port).is_http() => {
                let address = bind(egress, &class);
                let name = listener::name(&address, port.number);
                let route = egress_route(egress, port.number);
                let filter = http_filter(Http::outbound(
                    &name,
                    Routes::Named(&route),
                    &mut read.view(),
                ));
                let piece = ListenerPiece {
                    bound: class.interception == Interception::Explicit
                        || &*address != ANY
                        || egress.connected_to,
                    address,
                    port: port.number,
                    age: Age::oldest(),
                    takes: Takes::Http(filter),
                    otherwise: unknown(scope.allow_any, read),
                };
                part.listeners.push((name.into(), piece));
                part.virtual_hosts
                    .push((route, route_config::piece(Vec::new())));
            }
            (None, Interception::Explicit) => {
                let address = bind(egress, &class);
                let name = listener::name(&address, HTTP_PROXY_PORT);
                let filter = http_filter(Http::proxy(
                    &name,
                    Routes::Named(HTTP_PROXY),
                    &mut read.view(),
                ));
                let listener = listener::listener(
                    &name,
                    &address,
                    HTTP_PROXY_PORT,
                    pb::TrafficDirection::Outbound,
                );
                part.resources.push(Resource::new(&listener::Listener {
                    filter_chains: vec![listener::chain_of(filter)],
                    ..listener
                }));
                part.virtual_hosts
                    .push((HTTP_PROXY.into(), route_config::piece(Vec::new())));
            }
            _ => {}
        }
    }
    if class.interception == Interception::Transparent {
        part.resources.push(virtual_outbound(scope.allow_any, read));
    }
    part
}

/// The route configuration of an egress listener: its port, with the address where one is bound.
pub(crate) fn egress_route(egress: &Egress, port: u16) -> Arc<str> {
    match &egress.bind {
        Some(bind) => format!("{bind}:{port}").into(),
        None => port.to_string().into(),
    }
}

/// The address of an egress listener.
pub(crate) fn bind(egress: &Egress, class: &Class) -> Arc<str> {
    let default = match class.interception {
        Interception::Transparent => ANY,
        Interception::Explicit => class.own.as_deref().unwrap_or(LOOPBACK),
    };
    egress.bind.as_deref().unwrap_or(default).into()
}

/// What becomes of intercepted connections that nobody takes.
pub(crate) fn unknown(allow_any: bool, read: &mut Reading<'_>) -> listener::Filter {
    let cluster = if allow_any {
        names::PASSTHROUGH
    } else {
        names::BLACK_HOLE
    };
    let connections = settings::connections(&mut read.view());
    listener::tcp_filter(&tcp::to_cluster(cluster, connections))
}

fn virtual_outbound(allow_any: bool, read: &mut Reading<'_>) -> Resource {
    let original = listener::listener_filter(
        "envoy.filters.listener.original_dst",
        pb::any(&OriginalDst::default()),
    );
    Resource::new(&listener::Listener {
        use_original_dst: pb::bool_value(true),
        listener_filters: vec![original],
        filter_chains: vec![
            listener::trap(VIRTUAL_OUTBOUND_PORT),
            listener::chain_of(unknown(allow_any, read)),
        ],
        ..listener::listener(
            "virtualOutbound",
            ANY,
            VIRTUAL_OUTBOUND_PORT,
            pb::TrafficDirection::Outbound,
        )
    })
}
