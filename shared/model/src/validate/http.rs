//! Rules of the HTTP routes of `VirtualService`.

use super::virtual_service::{destination, l4, weights};
use super::{Findings, Path, headers, names};
use crate::spec::{
    CorsPolicy, GRPC_STATUS, HttpFaultInjection, HttpMatchRequest, HttpRedirect, HttpRetry,
    HttpRoute, StringMatch,
};

/// The most bytes of a direct response's body; Envoy's own limit is lower by default and is raised to this.
const BODY: usize = 1 << 20;

pub(super) fn route(route: &HttpRoute, delegate: bool, path: &Path, findings: &mut Findings) {
    let actions = [
        ("route", !route.route.is_empty()),
        ("redirect", route.redirect.is_some()),
        ("directResponse", route.direct_response.is_some()),
        ("delegate", route.delegate.is_some()),
    ];
    let chosen: Vec<_> = actions
        .into_iter()
        .filter(|(_, there)| *there)
        .map(|(name, _)| name)
        .collect();
    match chosen.as_slice() {
        [] => findings.error(
            path,
            "must have one of route, redirect, directResponse and delegate",
        ),
        [_] => {}
        several => findings.error(
            path,
            format!("must have only one of {}", several.join(", ")),
        ),
    }
    if route.redirect.is_some() || route.direct_response.is_some() {
        let action = chosen.first().copied().unwrap_or_default();
        findings.ensure(
            route.rewrite.is_none(),
            &path.at("rewrite"),
            format!("has no effect beside {action}; remove one"),
        );
        let mirrors = route.mirror.is_some() || !route.mirrors.is_empty();
        findings.ensure(
            !mirrors,
            &path.at("mirror"),
            format!("has no effect beside {action}; remove one"),
        );
    }
    findings.ensure(
        route.redirect.is_none() || route.fault.is_none(),
        &path.at("fault"),
        "cannot stand beside redirect; remove one",
    );
    headers::authority(route, path, findings);
    if delegate {
        findings.ensure(
            route.delegate.is_none(),
            &path.at("delegate"),
            "a delegate cannot delegate again",
        );
    }
    if let Some(delegate) = &route.delegate {
        findings.rule(&path.at("delegate.name"), names::host(&delegate.name));
    }
    for (path, matches) in path.each("match", &route.matches) {
        matching(matches, &path, findings);
        if delegate || route.delegate.is_some() {
            without_regex(matches, &path, findings);
        }
    }
    for (path, to) in path.each("route", &route.route) {
        destination(&to.destination, &path.at("destination"), findings);
        headers::operations(to.headers.as_ref(), &path, findings);
    }
    weights(
        route.route.iter().map(|to| to.weight),
        &path.at("route"),
        findings,
    );
    headers::operations(route.headers.as_ref(), path, findings);
    if let Some(value) = &route.redirect {
        redirect(value, &path.at("redirect"), findings);
    }
    if let Some(value) = &route.direct_response {
        let path = path.at("directResponse");
        let rule = "must be a status code from 200 to 599";
        findings.ensure(
            (200..=599).contains(&value.status),
            &path.at("status"),
            rule,
        );
        let (length, form) = match &value.body {
            Some(crate::spec::HttpBody::String(text)) => (text.len(), Ok(())),
            Some(crate::spec::HttpBody::Bytes(text)) => (text.len() / 4 * 3, base64(text)),
            None => (0, Ok(())),
        };
        findings.rule(&path.at("body.bytes"), form);
        findings.ensure(length <= BODY, &path.at("body"), "must be at most 1 MiB");
    }
    if let Some(value) = &route.rewrite {
        let path = path.at("rewrite");
        let some =
            value.uri.is_some() || value.authority.is_some() || value.uri_regex_rewrite.is_some();
        findings.ensure(some, &path, "must have uri, authority or uriRegexRewrite");
        let both = value.uri.is_some() && value.uri_regex_rewrite.is_some();
        findings.ensure(
            !both,
            &path,
            "must have only one of uri and uriRegexRewrite",
        );
        if let Some(rewrite) = &value.uri_regex_rewrite {
            findings.rule(
                &path.at("uriRegexRewrite.match"),
                names::regex(&rewrite.pattern),
            );
        }
    }
    if let Some(timeout) = route.timeout {
        findings.rule(&path.at("timeout"), names::duration_or_zero(timeout));
    }
    if let Some(value) = &route.retries {
        retries(value, &path.at("retries"), findings);
    }
    if let Some(value) = &route.fault {
        fault(value, &path.at("fault"), findings);
    }
    mirrors(route, path, findings);
    if let Some(value) = &route.cors_policy {
        cors(value, &path.at("corsPolicy"), findings);
    }
}

/// After a route that matches everything, nothing is reached.
pub(super) fn unreachable(routes: &[HttpRoute], path: &Path, findings: &mut Findings) {
    let catches_all = |route: &HttpRoute| {
        let all = HttpMatchRequest::default();
        route.matches.is_empty()
            || route.matches.iter().any(|m| {
                let root = HttpMatchRequest {
                    uri: Some(StringMatch::Prefix("/".into())),
                    ..all.clone()
                };
                let unnamed = HttpMatchRequest {
                    name: None,
                    ..m.clone()
                };
                unnamed == all || unnamed == root
            })
    };
    if let Some(first) = routes.iter().position(catches_all) {
        for (path, _) in path.each("http", routes).skip(first + 1) {
            findings.warn(
                &path,
                format!("is never reached: http[{first}] matches everything before it"),
            );
        }
    }
}

fn matching(value: &HttpMatchRequest, path: &Path, findings: &mut Findings) {
    let strings = [
        ("uri", &value.uri),
        ("scheme", &value.scheme),
        ("method", &value.method),
        ("authority", &value.authority),
    ];
    for (field, value) in strings {
        if let Some(value) = value {
            names::string_match(value, &path.at(field), findings);
        }
    }
    let regex = matches!(value.uri, Some(StringMatch::Regex(_)));
    findings.ensure(
        !(regex && value.ignore_uri_case),
        &path.at("ignoreUriCase"),
        "is for exact and prefix only; write (?i) in the regex",
    );
    for (field, map) in [
        ("headers", &value.headers),
        ("withoutHeaders", &value.without_headers),
    ] {
        for (name, value) in map {
            let path = path.at(field).at(name);
            if name.starts_with("@request.auth.claims") {
                findings.error(
                    &path,
                    "is not supported yet: matches of JWT claims need RequestAuthentication",
                );
                continue;
            }
            findings.rule(&path, names::header(name));
            names::header_match(value, &path, findings);
        }
    }
    for (name, value) in &value.query_params {
        let path = path.at("queryParams").at(name);
        findings.ensure(!name.is_empty(), &path, "must have a name");
        names::header_match(value, &path, findings);
    }
    l4(
        value.port,
        &value.source_labels,
        &value.gateways,
        path,
        findings,
    );
}

/// Whether one regular expression contains another cannot be told, so neither side of a delegation has any.
fn without_regex(value: &HttpMatchRequest, path: &Path, findings: &mut Findings) {
    let rule = "cannot be used where routes are delegated, on either side: a delegate's match must be within the root's, which cannot be told of regular expressions; use exact or prefix";
    let strings = [
        ("uri", &value.uri),
        ("scheme", &value.scheme),
        ("method", &value.method),
        ("authority", &value.authority),
    ];
    for (field, value) in strings {
        let regex = matches!(value, Some(StringMatch::Regex(_)));
        findings.ensure(!regex, &path.at(field).at("regex"), rule);
    }
    let maps = [
        ("headers", &value.headers),
        ("withoutHeaders", &value.without_headers),
        ("queryParams", &value.query_params),
    ];
    for (field, map) in maps {
        for (name, _) in map.iter().filter(|(_, value)| value.regex.is_some()) {
            findings.error(&path.at(field).at(name).at("regex"), rule);
        }
    }
}

fn redirect(value: &HttpRedirect, path: &Path, findings: &mut Findings) {
    let some = value.uri.is_some()
        || value.authority.is_some()
        || value.scheme.is_some()
        || value.port.is_some()
        || value.derive_port.is_some();
    findings.ensure(
        some,
        path,
        "must have at least one of uri, authority, scheme, port and derivePort",
    );
    let both = value.port.is_some() && value.derive_port.is_some();
    findings.ensure(!both, path, "must have only one of port and derivePort");
    if let Some(port) = value.port {
        findings.rule(&path.at("port"), names::port(port));
    }
    if let Some(scheme) = &value.scheme {
        findings.ensure(
            matches!(scheme.as_str(), "http" | "https"),
            &path.at("scheme"),
            "must be http or https",
        );
    }
    if let Some(code) = value.redirect_code {
        let known = [301, 302, 303, 307, 308].contains(&code);
        findings.ensure(
            known,
            &path.at("redirectCode"),
            "must be 301, 302, 303, 307 or 308",
        );
    }
}

/// Envoy's retry conditions, of HTTP and of gRPC.
const RETRY_ON: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "envoy-ratelimited",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

pub(super) fn retries(value: &HttpRetry, path: &Path, findings: &mut Findings) {
    let only_attempts = HttpRetry {
        attempts: 0,
        ..HttpRetry::default()
    };
    let pointless = value.attempts == 0 && *value != only_attempts;
    findings.ensure(
        !pointless,
        &path.at("attempts"),
        "is 0, which switches retries off; remove the other fields, or raise it",
    );
    for (field, duration) in [
        ("perTryTimeout", value.per_try_timeout),
        ("backoff", value.backoff),
    ] {
        if let Some(duration) = duration {
            findings.rule(&path.at(field), names::duration(duration));
        }
    }
    for condition in value
        .retry_on
        .iter()
        .flat_map(|list| list.split(','))
        .map(str::trim)
    {
        let status = condition
            .parse::<u16>()
            .is_ok_and(|code| (100..600).contains(&code));
        let rule = || {
            format!(
                "{condition:?} is not a retry condition; use a status code or one of {}",
                RETRY_ON.join(", ")
            )
        };
        if !status && !condition.is_empty() && !RETRY_ON.contains(&condition) {
            findings.error(&path.at("retryOn"), rule());
        }
    }
}

fn fault(value: &HttpFaultInjection, path: &Path, findings: &mut Findings) {
    findings.ensure(
        value.delay.is_some() || value.abort.is_some(),
        path,
        "must have delay or abort",
    );
    if let Some(delay) = &value.delay {
        let path = path.at("delay");
        match delay.fixed_delay {
            Some(duration) => findings.rule(&path.at("fixedDelay"), names::duration(duration)),
            None => findings.ensure(
                delay.exponential_delay.is_some(),
                &path,
                "must have fixedDelay",
            ),
        }
        if let Some(percent) = delay.percentage {
            findings.rule(&path.at("percentage.value"), names::percent(percent));
        }
        findings.ensure(
            delay.percent.is_none_or(|p| p <= 100),
            &path.at("percent"),
            "must be from 0 to 100",
        );
    }
    if let Some(abort) = &value.abort {
        let path = path.at("abort");
        let errors = [
            abort.http_status.is_some(),
            abort.grpc_status.is_some(),
            abort.http2_error.is_some(),
        ];
        let one = errors.into_iter().filter(|there| *there).count() == 1;
        findings.ensure(
            one,
            &path,
            "must have exactly one of httpStatus and grpcStatus",
        );
        let status = abort
            .http_status
            .is_none_or(|status| (200..=599).contains(&status));
        findings.ensure(
            status,
            &path.at("httpStatus"),
            "must be a status code from 200 to 599",
        );
        let grpc = abort
            .grpc_status
            .as_deref()
            .is_none_or(|name| GRPC_STATUS.contains(&name));
        findings.ensure(
            grpc,
            &path.at("grpcStatus"),
            format!("must be one of {}", GRPC_STATUS.join(", ")),
        );
        if let Some(percent) = abort.percentage {
            findings.rule(&path.at("percentage.value"), names::percent(percent));
        }
    }
}

/// The methods of HTTP that preflights may allow, as in Istio; each by its name, without a wildcard.
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE",
];

fn mirrors(route: &HttpRoute, path: &Path, findings: &mut Findings) {
    let both = route.mirror.is_some() && !route.mirrors.is_empty();
    findings.ensure(
        !both,
        &path.at("mirrors"),
        "cannot stand beside mirror; move that one into the list",
    );
    if let Some(mirror) = &route.mirror {
        destination(mirror, &path.at("mirror"), findings);
    }
    if let Some(percent) = route.mirror_percentage {
        findings.rule(&path.at("mirrorPercentage.value"), names::percent(percent));
    }
    findings.ensure(
        route.mirror_percent.is_none_or(|p| p <= 100),
        &path.at("mirrorPercent"),
        "must be from 0 to 100",
    );
    for (path, mirror) in path.each("mirrors", &route.mirrors) {
        destination(&mirror.destination, &path.at("destination"), findings);
        if let Some(percent) = mirror.percentage {
            findings.rule(&path.at("percentage.value"), names::percent(percent));
        }
    }
}

fn cors(value: &CorsPolicy, path: &Path, findings: &mut Findings) {
    for (path, origin) in path.each("allowOrigins", &value.allow_origins) {
        names::string_match(origin, &path, findings);
        let nothing = *origin == StringMatch::Exact(String::new());
        findings.ensure(!nothing, &path.at("exact"), "must not be empty");
    }
    for (field, list) in [
        ("allowHeaders", &value.allow_headers),
        ("exposeHeaders", &value.expose_headers),
    ] {
        for (path, name) in path.each(field, list) {
            findings.rule(&path, names::header(name));
        }
    }
    for (path, method) in path.each("allowMethods", &value.allow_methods) {
        let rule = || format!("must be one of {}", METHODS.join(", "));
        findings.ensure(METHODS.contains(&method.as_str()), &path, rule());
    }
    if let Some(age) = value.max_age {
        findings.ensure(
            age.subsec_nanos() == 0,
            &path.at("maxAge"),
            "must be whole seconds",
        );
    }
}

fn base64(text: &str) -> Result<(), String> {
    let body = text.trim_end_matches('=');
    let fine = text.len().is_multiple_of(4)
        && text.len() - body.len() <= 2
        && body
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/');
    if fine {
        Ok(())
    } else {
        Err("must be base64".into())
    }
}
