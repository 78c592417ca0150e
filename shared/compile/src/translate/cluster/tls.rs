//! TLS that the proxy starts: `ClientTLSSettings` to a transport socket (`constructUpstreamTLS`).
//!
//! Files that a policy names come as secrets ([`files`]), because Envoy watches them only so.
//!
//! *Invariant:* without `insecureSkipVerify` the peer's certificate is verified against some authority.

use model::spec::{ClientTlsSettings, ProxyProtocol, ProxyProtocolVersion, TlsMode};
use pb::tls::Secret;
use pb::tls::common_tls_context::ValidationContextType;
use pb::tls::subject_alt_name_matcher::SanType;
use pb::tls::tls_parameters::TlsProtocol;

use super::Input;
use super::http::Version;
use crate::translate::endpoint::TLS_MODE;
use crate::translate::{mtls, pb, secrets};

/// How a cluster's connections are made.
#[derive(Default)]
pub(super) struct Transport<'a> {
    /// The transport socket of all endpoints; `None` for plaintext, or where each endpoint has its own.
    pub(super) socket: Option<pb::TransportSocket>,
    /// The transport sockets of endpoints by their metadata.
    pub(super) matches: Vec<pb::cluster::TransportSocketMatch>,
    /// The settings, if it is a policy that asks for TLS, and not for the mesh's.
    pub(super) policy: Option<&'a ClientTlsSettings>,
}

/// How connections are made: as the policy says; where it is silent, within the mesh, in mutual TLS exactly to the endpoints
/// whose proxies take it.
pub(super) fn transport<'a>(input: &Input<'a>, version: Version) -> Transport<'a> {
    let wrapped = |tls: Option<pb::TransportSocket>| match &input.policy.proxy_protocol {
        Some(protocol) => Some(proxy_protocol(protocol, tls)),
        None => tls,
    };
    match (&input.policy.tls, &input.peers) {
        (None, Some(peers)) if peers.automatic && !input.by_address() => {
            let matched = |name: &str, fields, tls| pb::cluster::TransportSocketMatch {
                name: name.into(),
                r#match: Some(pb::Struct { fields }),
                transport_socket: wrapped(tls).or_else(|| Some(pb::plaintext())),
            };
            let mtls = mtls::upstream(peers, &peers.sni, alpn(version));
            let istio = [(TLS_MODE.to_owned(), pb::string(mtls::ALPN))];
            Transport {
                matches: vec![
                    matched("tlsMode-istio", istio.into(), Some(mtls)),
                    matched("tlsMode-disabled", Default::default(), None),
                ],
                ..Default::default()
            }
        }
        (Some(settings), Some(peers)) if settings.mode == TlsMode::IstioMutual => Transport {
            socket: wrapped(Some(by_mesh(settings, peers, version))),
            ..Default::default()
        },
        (settings, _) => {
            // Without identities ISTIO_MUTUAL is plaintext, and its author is told.
            let settings = settings
                .as_ref()
                .filter(|it| is_tls(it) && it.mode != TlsMode::IstioMutual);
            let tls = settings.map(|settings| {
                let context = context(settings, input, version);
                pb::transport_socket("envoy.transport_sockets.tls", &context)
            });
            Transport {
                socket: wrapped(tls),
                policy: settings,
                ..Default::default()
            }
        }
    }
}

/// `ISTIO_MUTUAL`: the mesh's certificate, whatever the endpoint's proxy takes.
fn by_mesh(
    settings: &ClientTlsSettings,
    peers: &mtls::Peers<'_>,
    version: Version,
) -> pb::TransportSocket {
    let named: Vec<_> = settings
        .subject_alt_names
        .iter()
        .map(|name| subject_alt_name(name))
        .collect();
    let names = if named.is_empty() {
        peers.names.clone()
    } else {
        named
    };
    let sni = settings.sni.as_deref().filter(|sni| !sni.is_empty());
    let peers = mtls::Peers {
        names,
        ..peers.clone()
    };
    mtls::upstream(&peers, sni.unwrap_or(&peers.sni), alpn(version))
}

/// What is offered beside `istio`. A cluster that speaks what its client speaks offers nothing: the server then tells the
/// protocols apart by their first bytes, where it would otherwise choose one before the request is known.
fn alpn(version: Version) -> Option<&'static str> {
    match version {
        Version::Http1 => Some("http/1.1"),
        Version::Http2 => Some("h2"),
        Version::Client | Version::None => None,
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
            tls_certificate_sds_secret_configs: certificate(settings, input).into_iter().collect(),
            alpn_protocols: alpn.into_iter().collect(),
            validation_context_type: validation(settings, names, input),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The name of a secret with certificate, key and authorities, if the policy says one.
pub(crate) fn credential(settings: &ClientTlsSettings) -> Option<&str> {
    let used = matches!(settings.mode, TlsMode::Simple | TlsMode::Mutual);
    let name = settings.credential_name.as_deref();
    name.filter(|name| used && !name.is_empty())
}

/// The client's certificate, in `MUTUAL`.
fn certificate(
    settings: &ClientTlsSettings,
    input: &Input<'_>,
) -> Option<pb::tls::SdsSecretConfig> {
    if settings.mode != TlsMode::Mutual {
        return None;
    }
    match (credential(settings), input.uploaded) {
        (Some(name), uploaded) => Some(uploaded?.certificate(name)),
        (None, _) => certificate_files(settings, input.name)
            .as_ref()
            .map(secrets::beside),
    }
}

fn validation(
    settings: &ClientTlsSettings,
    names: &[String],
    input: &Input<'_>,
) -> Option<ValidationContextType> {
    if settings.insecure_skip_verify == Some(true) {
        return None;
    }
    let rules = pb::tls::CertificateValidationContext {
        match_typed_subject_alt_names: names.iter().map(|name| subject_alt_name(name)).collect(),
        ..Default::default()
    };
    let system_ca = input.defaults.system_ca;
    let uploaded = credential(settings).zip(input.uploaded);
    let named = uploaded.map(|(name, uploaded)| uploaded.authorities(name));
    let files = || authority_files(settings, input.name, system_ca);
    Some(
        match named.or_else(|| files().as_ref().map(secrets::beside)) {
            Some(authorities) => secrets::validated(authorities, rules),
            None => {
                ValidationContextType::ValidationContext(pb::tls::CertificateValidationContext {
                    trusted_ca: Some(file(system_ca)),
                    ..rules
                })
            }
        },
    )
}

/// The secrets of a policy's files, which must come with the cluster of this name.
pub(crate) fn files(settings: &ClientTlsSettings, cluster: &str, system_ca: &str) -> Vec<Secret> {
    let verifies = is_tls(settings) && settings.insecure_skip_verify != Some(true);
    let authorities = verifies.then(|| authority_files(settings, cluster, system_ca));
    let certificate = certificate_files(settings, cluster);
    certificate
        .into_iter()
        .chain(authorities.flatten())
        .collect()
}

fn certificate_files(settings: &ClientTlsSettings, cluster: &str) -> Option<Secret> {
    let own = settings.mode == TlsMode::Mutual && credential(settings).is_none();
    let chain = settings.client_certificate.as_deref().filter(|_| own)?;
    let key = settings.private_key.as_deref()?;
    Some(secrets::certificate_files(cluster, chain, key))
}

/// Authorities that the policy names, or those of the system with a revocation list. Those of the system alone are no matter
/// of the policy, and not watched.
fn authority_files(settings: &ClientTlsSettings, cluster: &str, system_ca: &str) -> Option<Secret> {
    let used = matches!(settings.mode, TlsMode::Simple | TlsMode::Mutual);
    if !used || credential(settings).is_some() {
        return None;
    }
    let own = settings.ca_certificates.as_deref();
    let own = own.filter(|it| !it.is_empty() && *it != "system");
    let crl = settings.ca_crl.as_deref();
    let authorities = own.or_else(|| crl.map(|_| system_ca))?;
    Some(secrets::authority_files(cluster, authorities, crl))
}

pub(crate) fn subject_alt_name(name: &str) -> pb::tls::SubjectAltNameMatcher {
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
    let config = pb::proxy_protocol::ProxyProtocolUpstreamTransport {
        config: Some(pb::ProxyProtocolConfig {
            version: version.into(),
            ..Default::default()
        }),
        transport_socket: Some(inner.unwrap_or_else(pb::plaintext)),
        ..Default::default()
    };
    pb::transport_socket("envoy.transport_sockets.upstream_proxy_protocol", &config)
}

fn file(path: &str) -> pb::DataSource {
    pb::DataSource {
        specifier: Some(pb::data_source::Specifier::Filename(path.into())),
        ..Default::default()
    }
}
