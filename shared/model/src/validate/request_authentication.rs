//! Rules of `RequestAuthentication`, and of what MeshConfig says about providers.

use serde_json::Value;

use super::authorization_policy::selector;
use super::{Findings, Path, names};
use crate::spec::{
    ExtAuthzBody, ExtensionProvider, JwtRule, RequestAuthentication, jwks_host_and_port,
};

pub(super) fn validate(spec: &RequestAuthentication, path: &Path, findings: &mut Findings) {
    selector(spec.selector.as_ref(), path, findings);
    for (path, rule) in path.each("jwtRules", &spec.jwt_rules) {
        jwt_rule(rule, &path, findings);
    }
}

fn jwt_rule(rule: &JwtRule, path: &Path, findings: &mut Findings) {
    let set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    findings.ensure(
        !rule.issuer.is_empty(),
        &path.at("issuer"),
        "must not be empty",
    );
    findings.ensure(
        set(&rule.jwks) != set(&rule.jwks_uri),
        path,
        "must have either jwks or jwksUri; the keys are not looked for at the issuer",
    );
    if let Some(jwks) = rule.jwks.as_deref().filter(|text| !text.is_empty()) {
        findings.rule(&path.at("jwks"), key_set(jwks));
    }
    if let Some(uri) = rule.jwks_uri.as_deref().filter(|text| !text.is_empty()) {
        let fine = jwks_host_and_port(uri).is_some();
        findings.ensure(
            fine,
            &path.at("jwksUri"),
            "must be a URL of a host, http:// or https://",
        );
    }
    if let Some(timeout) = rule.timeout {
        findings.rule(&path.at("timeout"), names::duration(timeout));
    }
    for (field, values) in [
        ("audiences", &rule.audiences),
        ("fromParams", &rule.from_params),
        ("fromCookies", &rule.from_cookies),
        ("spaceDelimitedClaims", &rule.space_delimited_claims),
    ] {
        for (path, value) in path.each(field, values) {
            findings.ensure(!value.is_empty(), &path, "must not be empty");
        }
    }
    for (path, header) in path.each("fromHeaders", &rule.from_headers) {
        findings.rule(&path.at("name"), plain_header(&header.name));
    }
    if let Some(name) = rule
        .output_payload_to_header
        .as_deref()
        .filter(|it| !it.is_empty())
    {
        findings.rule(&path.at("outputPayloadToHeader"), plain_header(name));
    }
    for (path, to) in path.each("outputClaimToHeaders", &rule.output_claim_to_headers) {
        findings.rule(&path.at("header"), plain_header(&to.header));
        findings.ensure(!to.claim.is_empty(), &path.at("claim"), "must not be empty");
    }
}

/// A header's name, other than a pseudo-header's.
fn plain_header(name: &str) -> Result<(), String> {
    match name.strip_prefix(':') {
        Some(_) => Err("must be a header's name, not a pseudo-header's".into()),
        None => names::header(name),
    }
}

/// A JSON web key set (RFC 7517, section 5) with a key in it.
fn key_set(text: &str) -> Result<(), String> {
    let keys = serde_json::from_str::<Value>(text)
        .map_err(|error| format!("must be a JSON web key set: {error}"))?;
    let keys = keys["keys"].as_array().filter(|keys| !keys.is_empty());
    let typed = keys.is_some_and(|keys| keys.iter().all(|key| key["kty"].is_string()));
    if typed {
        Ok(())
    } else {
        Err("must be a JSON web key set: {\"keys\": [...]}, each key with its kty".into())
    }
}

pub(super) fn providers(providers: &[ExtensionProvider], path: &Path, findings: &mut Findings) {
    let named = path.each("extensionProviders", providers);
    findings.unique(
        named.map(|(path, provider)| (path.at("name"), provider.name.as_str())),
        "the name",
    );
    for (path, provider) in path.each("extensionProviders", providers) {
        findings.ensure(
            !provider.name.is_empty(),
            &path.at("name"),
            "must not be empty",
        );
        let (http, grpc) = (
            &provider.envoy_ext_authz_http,
            &provider.envoy_ext_authz_grpc,
        );
        findings.ensure(
            http.is_some() != grpc.is_some(),
            &path,
            "must have either envoyExtAuthzHttp or envoyExtAuthzGrpc",
        );
        if let Some(http) = http {
            let path = path.at("envoyExtAuthzHttp");
            service(&http.service, http.port, &path, findings);
            common(
                http.timeout,
                http.status_on_error.as_deref(),
                http.include_request_body_in_check.as_ref(),
                &path,
                findings,
            );
            let fine = http
                .path_prefix
                .as_deref()
                .is_none_or(|it| it.starts_with('/'));
            findings.ensure(fine, &path.at("pathPrefix"), "must begin with a slash");
            for (name, value) in &http.include_additional_headers_in_check {
                let path = path.at("includeAdditionalHeadersInCheck").at(name);
                findings.rule(&path, plain_header(name));
                findings.rule(&path, names::header_value(value));
            }
            for (field, values) in [
                (
                    "includeRequestHeadersInCheck",
                    &http.include_request_headers_in_check,
                ),
                (
                    "headersToUpstreamOnAllow",
                    &http.headers_to_upstream_on_allow,
                ),
                (
                    "headersToDownstreamOnDeny",
                    &http.headers_to_downstream_on_deny,
                ),
                (
                    "headersToDownstreamOnAllow",
                    &http.headers_to_downstream_on_allow,
                ),
            ] {
                for (path, value) in path.each(field, values) {
                    findings.ensure(!value.is_empty(), &path, "must not be empty");
                }
            }
        }
        if let Some(grpc) = grpc {
            let path = path.at("envoyExtAuthzGrpc");
            service(&grpc.service, grpc.port, &path, findings);
            common(
                grpc.timeout,
                grpc.status_on_error.as_deref(),
                grpc.include_request_body_in_check.as_ref(),
                &path,
                findings,
            );
        }
    }
}

fn service(service: &str, port: u16, path: &Path, findings: &mut Findings) {
    let (namespace, host) = service.split_once('/').unwrap_or(("default", service));
    let at = path.at("service");
    findings.rule(
        &at,
        names::dns_label(namespace).and_then(|()| names::host(host)),
    );
    findings.ensure(
        host.contains('.'),
        &at,
        "must be a full host name, such as authz.default.svc.cluster.local",
    );
    findings.rule(&path.at("port"), names::port(port));
}

fn common(
    timeout: Option<crate::spec::Duration>,
    status: Option<&str>,
    body: Option<&ExtAuthzBody>,
    path: &Path,
    findings: &mut Findings,
) {
    if let Some(timeout) = timeout {
        findings.rule(&path.at("timeout"), names::duration(timeout));
    }
    let fine = status.is_none_or(|status| {
        status
            .parse::<u16>()
            .is_ok_and(|status| (400..600).contains(&status))
    });
    findings.ensure(
        fine,
        &path.at("statusOnError"),
        "must be a status from 400 to 599, in quotes",
    );
    if let Some(body) = body {
        let path = path.at("includeRequestBodyInCheck.maxRequestBytes");
        findings.ensure(body.max_request_bytes > 0, &path, "must be at least 1");
    }
}
