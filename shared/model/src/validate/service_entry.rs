//! Rules of `ServiceEntry`.

use std::net::IpAddr;

use super::{Findings, Path, names, workload};
use crate::spec::{Resolution, ServiceEntry};

pub(super) fn validate(spec: &ServiceEntry, path: &Path, findings: &mut Findings) {
    findings.ensure(
        !spec.hosts.is_empty(),
        &path.at("hosts"),
        "must have at least one host",
    );
    for (path, host) in path.each("hosts", &spec.hosts) {
        findings.ensure(host != "*", &path, "must be narrower than *");
        findings.rule(&path, names::wildcard_host(host));
    }
    findings.unique(path.each("hosts", &spec.hosts), "the host");
    addresses(spec, path, findings);
    ports(spec, path, findings);
    if let Some(selector) = &spec.workload_selector {
        let path = path.at("workloadSelector");
        findings.ensure(
            !selector.labels.is_empty(),
            &path.at("labels"),
            "must have at least one label: a service is never every workload of its namespace",
        );
        findings.ensure(
            spec.endpoints.is_empty(),
            &path,
            "cannot stand beside endpoints; choose one",
        );
        names::labels(&selector.labels, &path.at("labels"), findings);
    }
    resolution(spec, path, findings);
    names::export_to(&spec.export_to, true, path, findings);
}

fn addresses(spec: &ServiceEntry, path: &Path, findings: &mut Findings) {
    let exact = !matches!(spec.resolution, Resolution::None | Resolution::Static);
    for (path, address) in path.each("addresses", &spec.addresses) {
        findings.rule(&path, names::subnet(address));
        let prefix = address.parse::<IpAddr>().is_err();
        findings.ensure(
            !(prefix && exact),
            &path,
            "may be a prefix only with resolution NONE or STATIC",
        );
    }
}

fn ports(spec: &ServiceEntry, path: &Path, findings: &mut Findings) {
    if spec.ports.is_empty() {
        findings.warn(
            &path.at("ports"),
            "is empty: nothing can be sent to the service",
        );
    }
    let told_apart = |protocol: &str| {
        let protocol = protocol.to_ascii_uppercase();
        !matches!(
            protocol.as_str(),
            "" | "TCP" | "UDP" | "MONGO" | "REDIS" | "MYSQL"
        )
    };
    for (path, port) in path.each("ports", &spec.ports) {
        let fine = spec.hosts.len() <= 1
            || spec.resolution == Resolution::None
            || told_apart(&port.protocol);
        let rule = "must be HTTP, HTTP2, GRPC, HTTPS or TLS: with others, several hosts cannot be told apart; use one ServiceEntry each";
        findings.ensure(fine, &path.at("protocol"), rule);
    }
    for (path, port) in path.each("ports", &spec.ports) {
        findings.rule(&path.at("number"), names::port(port.number));
        if let Some(target) = port.target_port {
            findings.rule(&path.at("targetPort"), names::port(target));
        }
        if !port.protocol.is_empty() {
            findings.rule(&path.at("protocol"), names::protocol(&port.protocol));
        }
        findings.rule(&path.at("name"), names::dns_label(&port.name));
    }
    let each = || path.each("ports", &spec.ports);
    findings.unique(
        each().map(|(path, port)| (path.at("number"), port.number)),
        "the port",
    );
    findings.unique(
        each().map(|(path, port)| (path.at("name"), &port.name)),
        "the port name",
    );
}

fn resolution(spec: &ServiceEntry, path: &Path, findings: &mut Findings) {
    let endpoints = path.at("endpoints");
    match spec.resolution {
        Resolution::None => {
            let rule = "must be empty with resolution NONE; use STATIC or DNS";
            findings.ensure(spec.endpoints.is_empty(), &endpoints, rule);
        }
        Resolution::Static => {
            if spec.endpoints.is_empty() && spec.workload_selector.is_none() {
                findings.warn(
                    &endpoints,
                    "is empty, and there is no workloadSelector: requests will find no endpoint",
                );
            }
        }
        Resolution::DnsRoundRobin => {
            let rule = "must have at most one endpoint with resolution DNS_ROUND_ROBIN";
            findings.ensure(spec.endpoints.len() <= 1, &endpoints, rule);
        }
        Resolution::Dns | Resolution::DynamicDns => {}
    }
    let dns = matches!(spec.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
    if dns && spec.endpoints.is_empty() && spec.workload_selector.is_none() {
        for (path, host) in path.each("hosts", &spec.hosts) {
            let rule =
                "must not be a wildcard: with DNS and no endpoints, the host itself is looked up";
            findings.ensure(!host.starts_with('*'), &path, rule);
        }
    }
    for (path, endpoint) in path.each("endpoints", &spec.endpoints) {
        let address = if dns {
            workload::Address::Required
        } else {
            workload::Address::Numeric
        };
        workload::entry(endpoint, &path, address, findings);
        let socket = endpoint
            .address
            .as_deref()
            .is_some_and(|it| it.starts_with("unix://"));
        let rule = "may be a Unix socket only with resolution STATIC and exactly one port";
        let fine = !socket || (!dns && spec.ports.len() == 1);
        findings.ensure(fine, &path.at("address"), rule);
        for name in endpoint.ports.keys() {
            let known = spec.ports.iter().any(|port| port.name == *name);
            findings.ensure(
                known,
                &path.at("ports").at(name),
                "must be the name of one of the service's ports",
            );
        }
    }
}
