//! What of a request decides its endpoint under consistent hashing (`consistentHashToHashPolicy`).
//!
//! *Invariant:* a destination without a hash key gets no policy.

use model::spec::{ConsistentHashLb, HttpCookie};
use pb::route_action::hash_policy::{
    ConnectionProperties, Cookie, Header, PolicySpecifier, QueryParameter,
};

use crate::translate::pb;

/// The hash policy of a route to a destination with this load balancer.
pub(super) fn hash_policy(hash: &ConsistentHashLb) -> Option<pb::route_action::HashPolicy> {
    let specifier = None
        .or_else(|| hash.http_header_name.clone().map(header))
        .or_else(|| hash.http_cookie.as_ref().map(cookie))
        .or_else(|| hash.use_source_ip.map(source_ip))
        .or_else(|| hash.http_query_parameter_name.clone().map(query_parameter))?;
    Some(pb::route_action::HashPolicy {
        policy_specifier: Some(specifier),
        ..Default::default()
    })
}

fn header(header_name: String) -> PolicySpecifier {
    PolicySpecifier::Header(Header {
        header_name,
        ..Default::default()
    })
}

/// With a lifetime, even of 0, Envoy makes the cookie where it is absent.
fn cookie(cookie: &HttpCookie) -> PolicySpecifier {
    PolicySpecifier::Cookie(Cookie {
        name: cookie.name.clone(),
        ttl: cookie.ttl.map(|ttl| pb::duration(*ttl)),
        path: cookie.path.clone().unwrap_or_default(),
        ..Default::default()
    })
}

fn source_ip(source_ip: bool) -> PolicySpecifier {
    PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip })
}

fn query_parameter(name: String) -> PolicySpecifier {
    PolicySpecifier::QueryParameter(QueryParameter { name })
}
