//! TLS that the proxy starts: `ClientTLSSettings` to a transport socket (`constructUpstreamTLS`).
//!
//! *Invariant:* without `insecureSkipVerify` the peer's certificate is verified against some authority.

use model::spec::{ClientTlsSettings, ProxyProtocol, ProxyProtocolVersion, TlsMode};
use pb::tls::common_tls_context::ValidationContextType;
use pb::tls::subject_alt_name_matcher::SanType;
use pb::tls::tls_parameters::TlsProtocol;
use pb::transport_socket::ConfigType;

use super::Input;
use super::http::Version;
use crate::translate::pb;

/// The transport socket of a cluster; `None` for plaintext.
pub(super) fn transport_socket(input: &Input<'_>, version: Version) -> Option<pb::TransportSocket> {
    let settings = input.policy.tls.as_ref().filter(|it| is_tls(it));
    let tls = settings.map(|settings| {
        socket(
            "envoy.transport_sockets.tls",
            &context(settings, input, version),
        )
    });
    match &input.policy.proxy_protocol {
        Some(protocol) => Some(proxy_protocol(protocol, tls)),
        None => tls,
    }
}

/// What TLS takes from a request: the server name is the request's host unless the policy names one, and so is what the
/// certificate is checked against unless the policy says (`setAutoSniAndAutoSanValidation`).
pub(super) fn from_request(
    settings: &ClientTlsSettings,
) -> Option<pb::UpstreamHttpProtocolOptions> {
    let auto_sni = is_tls(settings) && settings.sni.as_deref().unwrap_or_default().is_empty();
    auto_sni.then(|| pb::UpstreamHttpProtocolOptions {
        auto_sni: true,
        auto_san_validation: settings.subject_alt_names.is_empty()
            && settings.insecure_skip_verify != Some(true),
        ..Default::default()
    })
}

fn is_tls(settings: &ClientTlsSettings) -> bool {
    settings.mode != TlsMode::Disable
}

fn context(
    settings: &ClientTlsSettings,
    input: &Input<'_>,
    version: Version,
) -> pb::tls::UpstreamTlsContext {
    let mutual = settings.mode == TlsMode::Mutual;
    let names = match settings.subject_alt_names.as_slice() {
        [] => input.subject_alt_names,
        names => names,
    };
    let alpn = (version == Version::Http2).then(|| "h2".to_owned());
    pb::tls::UpstreamTlsContext {
        sni: settings.sni.clone().unwrap_or_default(),
        common_tls_context: Some(pb::tls::CommonTlsContext {
            tls_params: Some(pb::tls::TlsParameters {
                tls_minimum_protocol_version: TlsProtocol::TlSv12.into(),
                tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
                ..Default::default()
            }),
            tls_certificates: mutual.then(|| certificate(settings)).into_iter().collect(),
            alpn_protocols: alpn.into_iter().collect(),
            validation_context_type: validation(settings, names, input.defaults.system_ca),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn certificate(settings: &ClientTlsSettings) -> pb::tls::TlsCertificate {
    pb::tls::TlsCertificate {
        certificate_chain: settings.client_certificate.as_deref().map(file),
        private_key: settings.private_key.as_deref().map(file),
        ..Default::default()
    }
}

fn validation(
    settings: &ClientTlsSettings,
    names: &[String],
    system_ca: &str,
) -> Option<ValidationContextType> {
    let authority = settings
        .ca_certificates
        .as_deref()
        .filter(|it| !it.is_empty() && *it != "system");
    (settings.insecure_skip_verify != Some(true)).then(|| {
        ValidationContextType::ValidationContext(pb::tls::CertificateValidationContext {
            trusted_ca: Some(file(authority.unwrap_or(system_ca))),
            crl: settings.ca_crl.as_deref().map(file),
            match_typed_subject_alt_names: names
                .iter()
                .map(|name| subject_alt_name(name))
                .collect(),
            ..Default::default()
        })
    })
}

fn subject_alt_name(name: &str) -> pb::tls::SubjectAltNameMatcher {
    let san_type = if name.contains("://") {
        SanType::Uri
    } else if name.parse::<std::net::IpAddr>().is_ok() {
        SanType::IpAddress
    } else {
        SanType::Dns
    };
    let exact = pb::string_matcher::MatchPattern::Exact(name.into());
    pb::tls::SubjectAltNameMatcher {
        san_type: san_type.into(),
        matcher: Some(pb::StringMatcher {
            match_pattern: Some(exact),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// `trafficPolicy.proxyProtocol`: the header goes before TLS, or before the plaintext.
fn proxy_protocol(
    protocol: &ProxyProtocol,
    inner: Option<pb::TransportSocket>,
) -> pb::TransportSocket {
    let version = match protocol.version {
        ProxyProtocolVersion::V1 => pb::proxy_protocol_config::Version::V1,
        ProxyProtocolVersion::V2 => pb::proxy_protocol_config::Version::V2,
    };
    let plaintext = || {
        socket(
            "envoy.transport_sockets.raw_buffer",
            &pb::raw_buffer::RawBuffer {},
        )
    };
    let config = pb::proxy_protocol::ProxyProtocolUpstreamTransport {
        config: Some(pb::ProxyProtocolConfig {
            version: version.into(),
            ..Default::default()
        }),
        transport_socket: Some(inner.unwrap_or_else(plaintext)),
        ..Default::default()
    };
    socket("envoy.transport_sockets.upstream_proxy_protocol", &config)
}

fn socket<M: prost::Message + prost::Name>(name: &str, config: &M) -> pb::TransportSocket {
    pb::TransportSocket {
        name: name.into(),
        config_type: Some(ConfigType::TypedConfig(pb::any(config))),
    }
}

fn file(path: &str) -> pb::DataSource {
    pb::DataSource {
        specifier: Some(pb::data_source::Specifier::Filename(path.into())),
        ..Default::default()
    }
}
