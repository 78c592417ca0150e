//! Which web page, if any, a request was made by, and the name it was sent to.
//!
//! A browser lets every page send requests to every address, loopback included, and says so in `Origin` and
//! `Sec-Fetch-Site`. Where nobody is authenticated that would let any page of the web do everything; where a client
//! certificate proves who calls, the browser shows it for any page. Neither header is sent by curl, kubectl or meshctl.
//! The name matters because a page may have its own name resolve to this address (DNS rebinding), and reads the answers then.
//!
//! *Invariant:* nothing here lets anybody in; it refuses, or leaves the decision to the gate.

use std::net::IpAddr;

use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, StatusCode, header};

use crate::config::Config;
use crate::http::serve::Connection;
use crate::http::status::{Result, Status};
use crate::liveness::SERVICE;

/// Tells requests that web pages make from others.
#[derive(Clone, Debug)]
pub(crate) struct Sites {
    /// The names by which this service may be called, beside addresses and localhost; `None` if any will do.
    names: Option<Vec<String>>,
}

impl Sites {
    /// What the flags say. Where callers are authenticated nothing is won by another name, and over TLS the certificate
    /// says which names are right.
    pub(crate) fn new(config: &Config) -> Self {
        let access = &config.access;
        let tls = access.https || access.tls_certificate_file.is_some();
        let names = (!tls && access.proof().is_none()).then(|| {
            let service = format!("{SERVICE}.{}", config.identity.system_namespace);
            let (svc, full) = (
                format!("{service}.svc"),
                format!("{service}.{}", config.domain),
            );
            let own = [SERVICE.to_owned(), service, svc, full];
            own.into_iter()
                .chain(config.allowed_hosts.iter().cloned())
                .map(|name| plain(&name))
                .collect()
        });
        Self { names }
    }

    /// Refuses what a page of another site sent, and what was sent to a name that is not this service's.
    pub(crate) fn check(&self, parts: &Parts) -> Result<()> {
        let connection = parts.extensions.get::<Connection>();
        if connection.is_some_and(|connection| connection.replica) {
            return Ok(());
        }
        let asked = asked(parts)?;
        if let Some(site) = other_site(&parts.headers, &asked) {
            return Err(forbidden(format!(
                "forbidden: the request comes from a page of another site ({site}), and this API takes none of those; \
                 use curl, kubectl or meshctl, or a proxy of your own that authenticates people"
            )));
        }
        let Some(names) = &self.names else {
            return Ok(());
        };
        match asked.iter().find(|host| !known(host.host(), names)) {
            None => Ok(()),
            Some(host) => Err(forbidden(format!(
                "forbidden: the request was sent to {:?}, which is not a name of this API, and callers are not authenticated; \
                 use an IP address, localhost or {}, or start it with --allowed-hosts {}",
                host.host(),
                names.join(", "),
                host.host(),
            ))),
        }
    }
}

fn forbidden(message: String) -> Status {
    Status::new(StatusCode::FORBIDDEN, "Forbidden", message)
}

/// To whom a request was sent, by each header that says so.
fn asked(parts: &Parts) -> Result<Vec<Authority>> {
    let hosts = parts.headers.get_all(header::HOST).iter();
    let hosts = hosts.map(|value| Authority::try_from(value.as_bytes()));
    let target = parts.uri.authority().cloned().map(Ok);
    let all: std::result::Result<Vec<_>, _> = target.into_iter().chain(hosts).collect();
    all.map_err(|_| Status::bad_request("host: it must be a name or an address, and a port"))
}

/// The other site whose page made a request, if one did. Pages of another port of the same host count.
fn other_site<'a>(headers: &'a HeaderMap, asked: &[Authority]) -> Option<&'a str> {
    let text = |value: &'a http::HeaderValue| value.to_str().unwrap_or("(not text)");
    let own = |origin: &str| {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        authority.is_some_and(|it| !asked.is_empty() && asked.iter().all(|host| *host == it))
    };
    let mut origins = headers.get_all(header::ORIGIN).iter().map(text);
    let mut fetched = headers.get_all("sec-fetch-site").iter().map(text);
    origins
        .find(|origin| !own(origin))
        .or_else(|| fetched.find(|site| !["same-origin", "none"].contains(site)))
}

/// Whether a host is an address, which no page can have instead of its own name, or one of the names.
fn known(host: &str, names: &[String]) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = plain(host);
    bare.parse::<IpAddr>().is_ok()
        || name == "localhost"
        || name.ends_with(".localhost")
        || names.contains(&name)
}

/// A name as it is compared: in lower case, without the dot at its end.
fn plain(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    name.strip_suffix('.').map(str::to_owned).unwrap_or(name)
}

#[cfg(test)]
mod tests;
