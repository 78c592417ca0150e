//! What a port speaks, from the `protocol` and `name` of a policy's port.
//!
//! *Invariant:* an unknown protocol is bytes; nothing is guessed from the port's number.

use model::spec::Port;

use crate::translate::cluster;

/// What a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2, of which gRPC is one.
    Http2,
    /// HTTP in TLS.
    Https,
    /// TLS.
    Tls,
    /// Bytes.
    Tcp,
}

impl Protocol {
    /// Of a port: `protocol`, or where that is not set the part of the name before a dash.
    pub(crate) fn of(port: &Port) -> Self {
        let text = if port.protocol.is_empty() {
            &port.name
        } else {
            &port.protocol
        };
        match text
            .split('-')
            .next()
            .unwrap_or_default()
            .to_ascii_uppercase()
            .as_str()
        {
            "HTTP" => Self::Http,
            "HTTP2" | "GRPC" => Self::Http2,
            "HTTPS" => Self::Https,
            "TLS" => Self::Tls,
            _ => Self::Tcp,
        }
    }

    /// Whether the proxy understands requests on it.
    pub(crate) fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2)
    }

    /// What a cluster of the port speaks.
    pub(crate) fn of_cluster(self) -> cluster::Protocol {
        match self {
            Self::Http => cluster::Protocol::Http1,
            Self::Http2 => cluster::Protocol::Http2,
            Self::Https | Self::Tls | Self::Tcp => cluster::Protocol::Tcp,
        }
    }
}
