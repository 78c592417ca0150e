//! What one replica tells another of the client whose stream it passes on: its identity, until when that is proved, and its
//! address, in headers.
//!
//! *Invariant:* no header of these gets past [`Origin::take`], whoever sent it.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use model::Identity;
use mtls::Connection;
use tonic::Status;
use tonic::transport::server::TcpConnectInfo;
use xds::Peer;

/// How often the stream was passed on: once, always.
const HOPS: HeaderName = HeaderName::from_static("weft-passed-hops");
/// The client's SPIFFE ID.
const IDENTITY: HeaderName = HeaderName::from_static("weft-passed-spiffe-id");
/// When the certificate that proved it expires, in seconds since the epoch.
const EXPIRY: HeaderName = HeaderName::from_static("weft-passed-certificate-expiry");
/// The client's address.
const ADDRESS: HeaderName = HeaderName::from_static("weft-passed-address");

/// The client of a passed stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Absent without identities.
    certificate: Option<(Identity, Timestamp)>,
    address: Option<SocketAddr>,
}

/// Says who a stream ends with, some time.
pub(crate) type End = Pin<Box<dyn Future<Output = Status> + Send>>;

impl Origin {
    /// Of a stream that arrived here.
    pub(crate) fn of(peer: &Peer) -> Self {
        let connection = peer.extensions.get::<Connection>();
        Self {
            certificate: connection.and_then(|connection| connection.certificate.clone()),
            address: peer.address,
        }
    }

    /// Takes it out of headers; `None` if the stream was not passed on, or what is said makes no sense.
    pub(crate) fn take(headers: &mut HeaderMap) -> Option<Self> {
        let mut take = |name| headers.remove(&name);
        let (hops, identity) = (take(HOPS), take(IDENTITY));
        let (expiry, address) = (take(EXPIRY), take(ADDRESS));
        hops?;
        let text = |value: Option<HeaderValue>| Some(value?.to_str().ok()?.to_owned());
        let certificate = match (text(identity), text(expiry)) {
            (None, None) => None,
            (Some(identity), Some(expiry)) => Some((
                identity.parse().ok()?,
                Timestamp::from_second(expiry.parse().ok()?).ok()?,
            )),
            _ => return None,
        };
        let address = text(address).and_then(|address| address.parse().ok());
        Some(Self {
            certificate,
            address,
        })
    }

    /// Puts it into headers.
    pub(crate) fn put(&self, headers: &mut HeaderMap) {
        let mut put = |name, value: String| {
            let value = HeaderValue::try_from(value);
            headers.insert(
                name,
                value.expect("digits, addresses and SPIFFE IDs are ASCII"),
            );
        };
        put(HOPS, "1".to_owned());
        if let Some((identity, not_after)) = &self.certificate {
            put(IDENTITY, identity.to_string());
            put(EXPIRY, not_after.as_second().to_string());
        }
        if let Some(address) = self.address {
            put(ADDRESS, address.to_string());
        }
    }

    /// Makes it the peer of a request, in place of who passed that on.
    pub(crate) fn install(self, extensions: &mut Extensions) {
        extensions.remove::<TcpConnectInfo>();
        extensions.remove::<SocketAddr>();
        let before = extensions.remove::<Connection>();
        if let Some(address) = self.address {
            extensions.insert(address);
        }
        if let Some(before) = before {
            extensions.insert(Connection {
                address: self.address.unwrap_or(before.address),
                certificate: self.certificate,
            });
        }
    }

    /// What ends its stream here: a connection ends with its peer's certificate, but this one has another peer.
    pub(crate) fn end(&self) -> Option<End> {
        let (_, not_after) = self.certificate.as_ref()?;
        let left = Duration::try_from(not_after.duration_since(Timestamp::now()));
        let end = tokio::time::Instant::now() + left.unwrap_or_default();
        Some(Box::pin(async move {
            tokio::time::sleep_until(end).await;
            Status::unauthenticated("the certificate has expired; connect again with its successor")
        }))
    }
}

/// Says where a connection over TLS comes from, for those who do not know such connections.
pub(crate) fn attach_address(extensions: &mut Extensions) {
    if let Some(address) = extensions.get::<Connection>().map(|it| it.address) {
        extensions.insert(address);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn origin() -> Origin {
        Origin {
            certificate: Some((
                "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap(),
                Timestamp::from_second(2_000_000_000).unwrap(),
            )),
            address: Some("10.1.2.3:4567".parse().unwrap()),
        }
    }

    #[test]
    fn what_is_put_is_taken_and_nothing_of_it_stays() {
        let nobody = Origin {
            certificate: None,
            address: None,
        };
        for origin in [origin(), nobody] {
            let mut headers = HeaderMap::new();
            headers.insert("te", HeaderValue::from_static("trailers"));
            origin.put(&mut headers);
            assert_eq!(Origin::take(&mut headers).as_ref(), Some(&origin));
            assert_eq!(headers.len(), 1);
            assert_eq!(Origin::take(&mut headers), None);
        }
    }

    #[test]
    fn what_makes_no_sense_is_nothing_and_is_taken_all_the_same() {
        for (name, value) in [
            (EXPIRY, None),
            (EXPIRY, Some("tomorrow")),
            (IDENTITY, None),
            (IDENTITY, Some("spiffe://cluster.local/web")),
            (HOPS, None),
        ] {
            let mut headers = HeaderMap::new();
            origin().put(&mut headers);
            headers.remove(&name);
            if let Some(value) = value {
                headers.insert(&name, HeaderValue::from_static(value));
            }
            assert_eq!(Origin::take(&mut headers), None, "{name} {value:?}");
            assert!(headers.is_empty(), "{headers:?}");
        }
    }

    #[test]
    fn the_client_is_the_peer_and_not_who_passed_it_on() {
        let mut extensions = Extensions::new();
        let pusher = "spiffe://cluster.local/ns/weft-system/sa/xds-pusher";
        extensions.insert(Connection {
            address: "10.0.0.1:1".parse().unwrap(),
            certificate: Some((pusher.parse().unwrap(), Timestamp::MAX)),
        });
        attach_address(&mut extensions);
        origin().install(&mut extensions);
        let peer = xds::peer(extensions);
        assert_eq!(Origin::of(&peer), origin());
    }
}
