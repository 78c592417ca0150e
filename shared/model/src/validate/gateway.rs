//! Rules of `Gateway`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Findings, Path, names};
use crate::spec::{Family, Gateway, Server, ServerTlsMode, ServerTlsSettings};

/// The cipher suites of TLS 1.2 and older that every supported Envoy takes; it refuses a listener with one that it does not know.
/// Left out are those of TLS 1.3, which nobody can choose, and 3DES, which is broken.
const CIPHER_SUITES: [&str; 14] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
];

pub(super) fn validate(spec: &Gateway, path: &Path, findings: &mut Findings) {
    findings.ensure(
        !spec.servers.is_empty(),
        &path.at("servers"),
        "must have at least one server",
    );
    names::labels(&spec.selector, &path.at("selector"), findings);
    for (path, one) in path.each("servers", &spec.servers) {
        server(one, &path, findings);
    }
    let each = || path.each("servers", &spec.servers);
    findings.unique(
        each().map(|(path, server)| (path.at("port.name"), &server.port.name)),
        "the port name",
    );
    let named = each().filter_map(|(path, server)| Some((path.at("name"), server.name.as_ref()?)));
    findings.unique(named, "the server name");
}

fn server(server: &Server, path: &Path, findings: &mut Findings) {
    findings.rule(&path.at("port.number"), names::port(server.port.number));
    findings.rule(
        &path.at("port.protocol"),
        names::protocol(&server.port.protocol),
    );
    findings.ensure(
        !server.port.name.is_empty(),
        &path.at("port.name"),
        "must have a name",
    );
    findings.ensure(
        server.port.target_port.is_none(),
        &path.at("port.targetPort"),
        "is for ServiceEntry only",
    );
    if let Some(bind) = server.bind.as_deref().filter(|bind| !bind.is_empty()) {
        let fine = bind.parse::<std::net::IpAddr>().is_ok() || bind.starts_with("unix://");
        findings.ensure(
            fine,
            &path.at("bind"),
            "must be an IP address or unix:///path",
        );
    }
    findings.ensure(
        !server.hosts.is_empty(),
        &path.at("hosts"),
        "must have at least one host; * is all",
    );
    for (path, host) in path.each("hosts", &server.hosts) {
        let (namespace, host) = host
            .split_once('/')
            .map_or((None, host.as_str()), |(ns, host)| (Some(ns), host));
        let fine =
            namespace.is_none_or(|ns| matches!(ns, "*" | ".") || names::dns_label(ns).is_ok());
        findings.ensure(
            fine,
            &path,
            "must have a namespace, * or . before the slash",
        );
        findings.rule(&path, names::host_or_address(host));
    }
    tls(server, path, findings);
}

fn tls(server: &Server, path: &Path, findings: &mut Findings) {
    let secure = matches!(
        server.port.protocol.to_ascii_uppercase().as_str(),
        "HTTPS" | "TLS"
    );
    let Some(tls) = &server.tls else {
        return findings.ensure(
            !secure,
            &path.at("tls"),
            format!("is needed with {}", server.port.protocol),
        );
    };
    let path = path.at("tls");
    for (path, suite) in path.each("cipherSuites", &tls.cipher_suites) {
        findings.ensure(
            CIPHER_SUITES.contains(&suite.as_str()),
            &path,
            format!(
                "is no cipher suite that Envoys know; it must be one of {}",
                CIPHER_SUITES.join(", ")
            ),
        );
    }
    if server.family() == Family::Http {
        let redirect_only = ServerTlsSettings {
            https_redirect: tls.https_redirect,
            ..ServerTlsSettings::default()
        };
        let rule = format!(
            "may have only httpsRedirect with {}; use HTTPS to serve TLS",
            server.port.protocol
        );
        return findings.ensure(*tls == redirect_only, &path, rule);
    }
    if tls.https_redirect {
        findings.warn(
            &path.at("httpsRedirect"),
            "has no effect on a server of TLS",
        );
    }
    let files = tls.server_certificate.is_some()
        || tls.private_key.is_some()
        || tls.ca_certificates.is_some()
        || tls.ca_crl.is_some();
    if tls.mode == ServerTlsMode::Passthrough && files {
        findings.warn(&path, "has certificates, which PASSTHROUGH does not use");
    }
    findings.ensure(
        tls.mode != ServerTlsMode::Simple || tls.ca_crl.is_none(),
        &path.at("caCrl"),
        "is for MUTUAL and OPTIONAL_MUTUAL, which verify clients",
    );
    let credential = tls.credential_name.is_some()
        || !tls.credential_names.is_empty()
        || !tls.tls_certificates.is_empty();
    if matches!(
        tls.mode,
        ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual
    ) && !credential
    {
        let mode = "is needed to terminate TLS (or credentialName)";
        findings.ensure(
            tls.server_certificate.is_some(),
            &path.at("serverCertificate"),
            mode,
        );
        findings.ensure(tls.private_key.is_some(), &path.at("privateKey"), mode);
        let mutual = matches!(
            tls.mode,
            ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual
        );
        let rule = "is needed to verify clients";
        findings.ensure(
            !mutual || tls.ca_certificates.is_some(),
            &path.at("caCertificates"),
            rule,
        );
    }
    for (path, hash) in path.each("verifyCertificateSpki", &tls.verify_certificate_spki) {
        let bytes = STANDARD.decode(hash).map(|bytes| bytes.len());
        let rule = "must be a SHA-256 in base64, of 44 characters";
        findings.ensure(bytes == Ok(32), &path, rule);
    }
    for (path, hash) in path.each("verifyCertificateHash", &tls.verify_certificate_hash) {
        let digits: String = hash.chars().filter(|c| *c != ':').collect();
        let fine = digits.len() == 64 && digits.chars().all(|c| c.is_ascii_hexdigit());
        let rule = "must be a SHA-256 in hexadecimal, of 64 digits with or without colons";
        findings.ensure(fine, &path, rule);
    }
    if let (Some(min), Some(max)) = (tls.min_protocol_version, tls.max_protocol_version) {
        findings.ensure(
            min <= max,
            &path.at("minProtocolVersion"),
            "must not be above maxProtocolVersion",
        );
    }
}
