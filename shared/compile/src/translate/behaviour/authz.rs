//! Who gets through real Envoys: policies and tokens, judged by what the backend received.

#![allow(clippy::unwrap_used)]

mod client;
mod corpus;
mod jwt;
mod oracle;
mod random;
mod tokens;

use std::collections::BTreeSet;

use model::authz::Policy;
use model::mesh::{Fact, Mesh};
use model::spec::{AuthorizationPolicy, JwtRule};
use model::{Key, Kind};
use serde_json::Value;

use super::*;
use crate::listener::{self, Http, Listener, Routes};
use crate::security::Security;
use crate::translate::{authz, jwt as translate_jwt};

/// Where a listener is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::translate) enum Site {
    /// At a gateway.
    Edge,
    /// Beside a workload, where nobody is believed what a header says of the client.
    Workload,
}

impl Site {
    const BOTH: [Self; 2] = [Self::Edge, Self::Workload];
}

/// The filters of policies (their specs) and of token rules.
pub(in crate::translate) fn security(
    policies: &[Value],
    rules: &[JwtRule],
    clients: &authz::Clients,
) -> Security {
    let specs: Vec<AuthorizationPolicy> = policies
        .iter()
        .map(|it| serde_json::from_value(it.clone()).unwrap())
        .collect();
    let policies: Vec<Policy<'_>> = specs
        .iter()
        .enumerate()
        .map(|(at, spec)| Policy {
            key: Key::new(Kind::AuthorizationPolicy, "shop", format!("p{at}")),
            dry_run: false,
            spec,
            home: None,
        })
        .collect();
    let rules: Vec<_> = rules.iter().map(|rule| (rule, String::new())).collect();
    let mut http: Vec<_> = translate_jwt::filter(&rules).into_iter().collect();
    http.extend(authz::http_filters(&policies, clients));
    Security {
        http,
        network: authz::network_filters(&policies),
    }
}

/// A listener with everything allowed leading to one route.
pub(in crate::translate) fn listener(
    name: &str,
    security: &Security,
    route: pb::Route,
    site: Site,
) -> Listener {
    let mesh = Mesh::new("svc.cluster.local", "istio-system");
    let mut read: BTreeSet<Fact> = BTreeSet::new();
    let host = pb::VirtualHost {
        name: "all".into(),
        domains: vec!["*".into()],
        routes: vec![route],
        ..Default::default()
    };
    let routes = Routes::Inline(Box::new(pb::RouteConfiguration {
        name: "all".into(),
        virtual_hosts: vec![host],
        validate_clusters: pb::bool_value(false),
        ..Default::default()
    }));
    let mut view = mesh.view(&mut read);
    let http = match site {
        Site::Edge => Http::gateway(name, routes, security, &mut view),
        Site::Workload => Http::inbound(name, routes, security, &mut view),
    };
    Listener {
        filter_chains: vec![listener::chain_of(listener::http_filter(http))],
        ..listener::listener(name, "127.0.0.1", 0, pb::TrafficDirection::Inbound)
    }
}

/// Every request, to a cluster.
pub(in crate::translate) fn to(cluster: &str) -> pb::Route {
    route::inbound_route(cluster, "all".into())
}

/// Every request, answered here.
pub(in crate::translate) fn answered() -> pb::Route {
    pb::Route {
        action: Some(pb::route::Action::DirectResponse(
            pb::DirectResponseAction {
                status: 200,
                ..Default::default()
            },
        )),
        ..to("none")
    }
}

/// Numbers that are always the same (Knuth's linear congruential generator).
pub(in crate::translate) struct Chance(pub(in crate::translate) u64);

impl Chance {
    pub(in crate::translate) fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    pub(in crate::translate) fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}
