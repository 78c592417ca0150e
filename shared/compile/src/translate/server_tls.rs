//! TLS that ends at the proxy: `ServerTLSSettings` to a transport socket (`buildGatewayListenerTLSContext`).
//!
//! *Invariant:* a mode that demands a client certificate never goes without what verifies it.

use model::spec::{ServerTlsMode, ServerTlsSettings, TlsProtocol};
use pb::tls::downstream_tls_context::SessionTicketKeysType;
use pb::tls::subject_alt_name_matcher::SanType;
use pb::tls::{SdsSecretConfig, Secret};

use super::secrets::{self, Uploaded};
use super::{cluster, mtls, pb};

/// A server's TLS.
pub(crate) struct ServerTls {
    /// Its transport socket.
    pub(crate) socket: pb::TransportSocket,
    /// The secrets that must come with it.
    pub(crate) files: Vec<Secret>,
}

/// The TLS of a server; nothing if it has no certificate. `owner`: the listener.
///
/// # Errors
/// The field that cannot be, and why.
pub(crate) fn server(
    settings: &ServerTlsSettings,
    http: bool,
    owner: &str,
    uploaded: Option<Uploaded<'_>>,
) -> Result<Option<ServerTls>, (&'static str, String)> {
    if settings.mode == ServerTlsMode::IstioMutual {
        let uploaded = uploaded.ok_or_else(|| ("mode", secrets::NO_IDENTITIES.to_owned()))?;
        return Ok(Some(ServerTls {
            socket: mtls::downstream(uploaded.identities, http),
            files: Vec::new(),
        }));
    }
    let mut files = Vec::new();
    let mut by_file = |secret: Secret| {
        let config = secrets::beside(&secret);
        if !files.contains(&secret) {
            files.push(secret);
        }
        config
    };
    let own = settings
        .server_certificate
        .as_ref()
        .zip(settings.private_key.as_ref());
    let pairs = settings.tls_certificates.iter();
    let pairs = pairs.filter_map(|it| it.server_certificate.as_ref().zip(it.private_key.as_ref()));
    let credentials: Vec<&String> = (settings.credential_names.iter())
        .chain(&settings.credential_name)
        .filter(|name| !name.is_empty())
        .collect();
    let mut certificates: Vec<SdsSecretConfig> = Vec::new();
    match (credentials.first(), uploaded) {
        (None, _) => certificates.extend(
            own.into_iter()
                .chain(pairs)
                .map(|(chain, key)| by_file(secrets::certificate_files(owner, chain, key))),
        ),
        (Some(_), Some(uploaded)) => {
            certificates.extend(credentials.iter().map(|name| uploaded.certificate(name)));
        }
        (Some(_), None) => return Err(("credentialName", secrets::impossible())),
    }
    if certificates.is_empty() {
        return Ok(None);
    }
    let verifies = matches!(
        settings.mode,
        ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual
    );
    let authorities = match (
        &settings.ca_cert_credential_name,
        credentials.first(),
        uploaded,
    ) {
        _ if !verifies => None,
        (Some(name), _, Some(uploaded)) => Some(uploaded.authorities(name)),
        (Some(_), _, None) => return Err(("caCertCredentialName", secrets::impossible())),
        (None, Some(name), Some(uploaded)) => Some(uploaded.authorities(name)),
        (None, ..) => settings.ca_certificates.as_deref().map(|authorities| {
            let crl = settings.ca_crl.as_deref();
            by_file(secrets::authority_files(owner, authorities, crl))
        }),
    };
    if verifies && authorities.is_none() {
        let why = "is needed to verify clients; without it the server takes nobody".to_owned();
        return Err(("caCertificates", why));
    }
    let rules = pb::tls::CertificateValidationContext {
        match_typed_subject_alt_names: (settings.subject_alt_names.iter())
            .flat_map(|name| any_san(name))
            .collect(),
        verify_certificate_spki: settings.verify_certificate_spki.clone(),
        verify_certificate_hash: settings.verify_certificate_hash.clone(),
        ..Default::default()
    };
    let parameters = pb::tls::TlsParameters {
        tls_minimum_protocol_version: protocol(settings.min_protocol_version),
        tls_maximum_protocol_version: protocol(settings.max_protocol_version),
        cipher_suites: settings.cipher_suites.clone(),
        ..Default::default()
    };
    let context = pb::tls::DownstreamTlsContext {
        require_client_certificate: verifies.then_some(pb::BoolValue {
            value: settings.mode == ServerTlsMode::Mutual,
        }),
        // A resumed session is not verified again: it would outlive the client's certificate and its authority.
        disable_stateful_session_resumption: verifies,
        session_ticket_keys_type: verifies.then_some(
            SessionTicketKeysType::DisableStatelessSessionResumption(true),
        ),
        common_tls_context: Some(pb::tls::CommonTlsContext {
            tls_certificate_sds_secret_configs: certificates,
            validation_context_type: authorities.map(|it| secrets::validated(it, rules)),
            tls_params: (parameters != pb::tls::TlsParameters::default()).then_some(parameters),
            alpn_protocols: if http {
                vec!["h2".into(), "http/1.1".into()]
            } else {
                Vec::new()
            },
            ..Default::default()
        }),
        ..Default::default()
    };
    let socket = pb::transport_socket("envoy.transport_sockets.tls", &context);
    Ok(Some(ServerTls { socket, files }))
}

/// A version of TLS as Envoy numbers it; 0 is Envoy's choice.
fn protocol(version: Option<TlsProtocol>) -> i32 {
    match version {
        None | Some(TlsProtocol::Auto) => 0,
        Some(TlsProtocol::V1_0) => 1,
        Some(TlsProtocol::V1_1) => 2,
        Some(TlsProtocol::V1_2) => 3,
        Some(TlsProtocol::V1_3) => 4,
    }
}

/// A name that a client's certificate may have, as a URI or as a DNS name.
fn any_san(name: &str) -> [pb::tls::SubjectAltNameMatcher; 2] {
    [SanType::Uri, SanType::Dns].map(|of| pb::tls::SubjectAltNameMatcher {
        san_type: of.into(),
        ..cluster::tls::subject_alt_name(name)
    })
}
