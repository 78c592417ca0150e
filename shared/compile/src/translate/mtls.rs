//! The mutual TLS of the mesh: the transport sockets of servers and of clients, and the ALPN by which a server tells the
//! mesh's connections from others.
//!
//! A stock Envoy sets ALPN per cluster, not per request: a client offers `istio` and, after it, the one protocol that its
//! cluster speaks. An HTTP server must not choose `istio`, or the codec would not know HTTP/2.
//!
//! *Invariant:* certificates come by SDS, never inline or from a path, and both sides verify each other.

use pb::tls::common_tls_context::{
    CombinedCertificateValidationContext, ValidationContextType::CombinedValidationContext,
};
use pb::tls::downstream_tls_context::SessionTicketKeysType;
use pb::tls::tls_parameters::TlsProtocol;

use super::pb;
use crate::identity::{AUTHORITIES, CERTIFICATE, Identities};

/// What the mesh's clients offer, and others do not.
pub(crate) const ALPN: &str = "istio";

/// Whom a proxy talks to when it calls a service in mutual TLS.
#[derive(Clone, Debug)]
pub(crate) struct Peers<'a> {
    /// The mesh's identities.
    pub(crate) identities: &'a Identities,
    /// The names that the service's certificates may have; one of them must be there.
    pub(crate) names: Vec<pb::tls::SubjectAltNameMatcher>,
    /// The server name: port, subset and host of the cluster.
    pub(crate) sni: String,
    /// Whether each endpoint whose proxy takes mutual TLS is called so where no policy says anything.
    pub(crate) automatic: bool,
}

/// The transport socket of a server: whoever connects must show a certificate of the mesh's trust domain, or of one that it
/// federates with.
pub(crate) fn downstream(identities: &Identities, http: bool) -> pb::TransportSocket {
    let alpn: &[&str] = if http { &["h2", "http/1.1"] } else { &[ALPN] };
    let prefixes = identities.prefixes();
    let names = prefixes.map(|anyone| uri(pb::string_matcher::MatchPattern::Prefix(anyone)));
    let names = names.collect();
    let context = pb::tls::DownstreamTlsContext {
        common_tls_context: Some(common(identities, names, alpn)),
        require_client_certificate: pb::bool_value(true),
        // A resumed session is not verified again: it would outlive the client's certificate and its authority.
        disable_stateful_session_resumption: true,
        session_ticket_keys_type: Some(SessionTicketKeysType::DisableStatelessSessionResumption(
            true,
        )),
        ..Default::default()
    };
    pb::transport_socket("envoy.transport_sockets.tls", &context)
}

/// The transport socket of a client. `alpn`: the protocol of the cluster, if it is one of HTTP.
pub(crate) fn upstream(peers: &Peers<'_>, sni: &str, alpn: Option<&str>) -> pb::TransportSocket {
    let alpn: Vec<&str> = [ALPN].into_iter().chain(alpn).collect();
    let context = pb::tls::UpstreamTlsContext {
        common_tls_context: Some(common(peers.identities, peers.names.clone(), &alpn)),
        sni: sni.into(),
        ..Default::default()
    };
    pb::transport_socket("envoy.transport_sockets.tls", &context)
}

fn common(
    identities: &Identities,
    names: Vec<pb::tls::SubjectAltNameMatcher>,
    alpn: &[&str],
) -> pb::tls::CommonTlsContext {
    let validation = CombinedCertificateValidationContext {
        default_validation_context: Some(pb::tls::CertificateValidationContext {
            match_typed_subject_alt_names: names,
            ..Default::default()
        }),
        validation_context_sds_secret_config: Some(identities.secret(AUTHORITIES)),
        ..Default::default()
    };
    pb::tls::CommonTlsContext {
        tls_params: Some(pb::tls::TlsParameters {
            tls_minimum_protocol_version: TlsProtocol::TlSv12.into(),
            tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
            ..Default::default()
        }),
        alpn_protocols: alpn.iter().map(|it| (*it).to_owned()).collect(),
        tls_certificate_sds_secret_configs: vec![identities.secret(CERTIFICATE)],
        validation_context_type: Some(CombinedValidationContext(validation)),
        ..Default::default()
    }
}

/// A URI that a certificate may have.
pub(crate) fn uri(pattern: pb::string_matcher::MatchPattern) -> pb::tls::SubjectAltNameMatcher {
    pb::tls::SubjectAltNameMatcher {
        san_type: pb::tls::subject_alt_name_matcher::SanType::Uri.into(),
        matcher: Some(pb::StringMatcher {
            match_pattern: Some(pattern),
            ..Default::default()
        }),
        ..Default::default()
    }
}
