//! Answers that Envoy gives itself: redirects and direct responses.
//!
//! *Invariant:* a redirect never spells the default port of its scheme.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use model::spec::{HttpBody, HttpDirectResponse, HttpRedirect, RedirectPortSelection};
use pb::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};
use pb::route::Action;

use super::Scope;
use crate::translate::pb;

/// `HTTPRedirect` as Istio's `ApplyRedirect` reads it: 301 unless it says otherwise.
pub(super) fn redirect(redirect: &HttpRedirect, scope: &Scope<'_>) -> Action {
    let code = match redirect.redirect_code {
        Some(302) => RedirectResponseCode::Found,
        Some(303) => RedirectResponseCode::SeeOther,
        Some(307) => RedirectResponseCode::TemporaryRedirect,
        Some(308) => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::MovedPermanently,
    };
    let scheme = redirect.scheme.clone().filter(|scheme| !scheme.is_empty());
    Action::Redirect(pb::RedirectAction {
        host_redirect: redirect.authority.clone().unwrap_or_default(),
        port_redirect: port(redirect, scope),
        response_code: code.into(),
        scheme_rewrite_specifier: scheme.map(SchemeRewriteSpecifier::SchemeRedirect),
        path_rewrite_specifier: path(redirect),
        ..Default::default()
    })
}

/// `uri` is the new path, or after `%PREFIX()%` what takes the place of the matched prefix.
fn path(redirect: &HttpRedirect) -> Option<PathRewriteSpecifier> {
    let uri = redirect.uri.as_deref().filter(|uri| !uri.is_empty())?;
    Some(match uri.strip_prefix("%PREFIX()%") {
        Some(prefix) => PathRewriteSpecifier::PrefixRewrite(prefix.into()),
        None => PathRewriteSpecifier::PathRedirect(uri.into()),
    })
}

/// The port in the location; 0 leaves it out. Envoy cannot derive it from the request, but the routes are those of one
/// listener, whose port it is.
fn port(redirect: &HttpRedirect, scope: &Scope<'_>) -> u32 {
    let port = match (redirect.port, redirect.derive_port) {
        (Some(port), _) => port,
        (None, Some(RedirectPortSelection::FromRequestPort)) => scope.port,
        (None, _) => return 0,
    };
    let own_scheme = if scope.tls { "https" } else { "http" };
    match (
        redirect
            .scheme
            .as_deref()
            .filter(|it| !it.is_empty())
            .unwrap_or(own_scheme),
        port,
    ) {
        ("http", 80) | ("https", 443) => 0,
        _ => port.into(),
    }
}

/// `HTTPDirectResponse`: a status and a body that Envoy answers with.
pub(super) fn direct_response(response: &HttpDirectResponse) -> Action {
    use pb::data_source::Specifier::{InlineBytes, InlineString};
    let body = response.body.as_ref().map(|body| match body {
        HttpBody::String(text) => InlineString(text.clone()),
        HttpBody::Bytes(base64) => InlineBytes(decoded(base64)),
    });
    Action::DirectResponse(pb::DirectResponseAction {
        status: response.status.into(),
        body: body.map(|it| pb::DataSource {
            specifier: Some(it),
            ..Default::default()
        }),
        ..Default::default()
    })
}

/// Base64 of either alphabet; what is neither was refused when it was written.
fn decoded(base64: &str) -> Vec<u8> {
    let standard = STANDARD.decode(base64);
    standard
        .or_else(|_| URL_SAFE.decode(base64))
        .unwrap_or_default()
}
