//! Rules of `WorkloadEntry` and `WorkloadGroup`.

use std::net::IpAddr;

use super::{Findings, Path, names};
use crate::spec::{ReadinessProbe, WorkloadEntry, WorkloadGroup};

/// What the address may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Address {
    /// Anything, but there must be one.
    Required,
    /// An IP address or a Unix socket.
    Numeric,
    /// It may be absent.
    Optional,
}

pub(super) fn entry(spec: &WorkloadEntry, path: &Path, address: Address, findings: &mut Findings) {
    let at = path.at("address");
    match spec.address.as_deref().unwrap_or_default() {
        "" => {
            let fine = address == Address::Optional || spec.network.is_some();
            findings.ensure(
                fine,
                &at,
                "must be an IP address, a host name, or unix:///path",
            );
        }
        text if text.starts_with("unix://") => {
            let socket = &text["unix://".len()..];
            let absolute = socket.starts_with('/') || socket.starts_with('@');
            findings.ensure(
                absolute,
                &at,
                "must be an absolute path or an abstract socket (@name)",
            );
            findings.ensure(
                spec.ports.is_empty(),
                &path.at("ports"),
                "must be empty with a Unix socket",
            );
        }
        text if text.parse::<IpAddr>().is_ok() => {}
        _ if address == Address::Numeric => {
            findings.error(
                &at,
                "must be an IP address or unix:///path; use resolution DNS for host names",
            );
        }
        text => findings.rule(&at, names::host(text)),
    }
    for (name, port) in &spec.ports {
        let path = path.at("ports").at(name);
        findings.rule(
            &path,
            names::dns_label(name).and_then(|()| names::port(*port)),
        );
    }
    names::labels(&spec.labels, &path.at("labels"), findings);
    if let Some(locality) = spec
        .locality
        .as_deref()
        .filter(|locality| !locality.is_empty())
    {
        let parts: Vec<_> = locality.split('/').collect();
        let fine = parts
            .iter()
            .all(|part| !part.is_empty() && !part.contains('*'));
        findings.ensure(
            fine,
            &path.at("locality"),
            "must be region, region/zone or region/zone/subzone",
        );
        if parts.len() > 3 {
            findings.warn(
                &path.at("locality"),
                "has parts after region/zone/subzone, which are not used",
            );
        }
    }
    if let Some(account) = spec
        .service_account
        .as_deref()
        .filter(|account| !account.is_empty())
    {
        findings.rule(&path.at("serviceAccount"), names::host(account));
    }
}

pub(super) fn group(spec: &WorkloadGroup, path: &Path, findings: &mut Findings) {
    entry(
        &spec.template,
        &path.at("template"),
        Address::Optional,
        findings,
    );
    if let Some(metadata) = &spec.metadata {
        names::labels(&metadata.labels, &path.at("metadata.labels"), findings);
    }
    if let Some(value) = &spec.probe {
        probe(value, &path.at("probe"), findings);
    }
}

fn probe(value: &ReadinessProbe, path: &Path, findings: &mut Findings) {
    let ways = [
        value.http_get.is_some(),
        value.tcp_socket.is_some(),
        value.exec.is_some(),
        value.grpc.is_some(),
    ];
    let one = ways.into_iter().filter(|there| *there).count() == 1;
    findings.ensure(
        one,
        path,
        "must have exactly one of httpGet, tcpSocket, grpc and exec",
    );
    if let Some(http) = &value.http_get {
        let path = path.at("httpGet");
        findings.rule(&path.at("port"), names::port(http.port));
        let fine = http
            .path
            .as_deref()
            .is_none_or(|path| path.starts_with('/'));
        findings.ensure(fine, &path.at("path"), "must begin with a slash");
        for (path, header) in path.each("httpHeaders", &http.http_headers) {
            findings.rule(&path.at("name"), names::header(&header.name));
        }
    }
    if let Some(tcp) = &value.tcp_socket {
        findings.rule(&path.at("tcpSocket.port"), names::port(tcp.port));
    }
    if let Some(port) = value.grpc.as_ref().and_then(|grpc| grpc.port) {
        findings.rule(&path.at("grpc.port"), names::port(port));
    }
    if let Some(exec) = &value.exec {
        findings.ensure(
            !exec.command.is_empty(),
            &path.at("exec.command"),
            "must have a command",
        );
    }
}
