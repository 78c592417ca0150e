//! Rules of `Sidecar`.

use super::{Findings, Path, names, traffic_policy};
use crate::spec::{CaptureMode, DefaultEndpoint, EgressListener, IngressListener, Sidecar};

pub(super) fn validate(spec: &Sidecar, path: &Path, findings: &mut Findings) {
    if let Some(selector) = &spec.workload_selector {
        names::selector(selector, &path.at("workloadSelector"), findings);
    }
    let empty = spec.ingress.is_empty()
        && spec.egress.is_empty()
        && spec.outbound_traffic_policy.is_none()
        && spec.inbound_connection_pool.is_none();
    findings.ensure(!empty, path, "must have at least one of ingress, egress, outboundTrafficPolicy and inboundConnectionPool");
    if let Some(pool) = &spec.inbound_connection_pool {
        traffic_policy::connection_pool(pool, &path.at("inboundConnectionPool"), findings);
    }
    for (path, listener) in path.each("ingress", &spec.ingress) {
        ingress(listener, &path, findings);
    }
    let ingress = path.each("ingress", &spec.ingress);
    findings.unique(
        ingress.map(|(path, listener)| (path.at("port.number"), listener.port.number)),
        "the port",
    );
    for (path, listener) in path.each("egress", &spec.egress) {
        egress(listener, &path, findings);
    }
    let binds = path
        .each("egress", &spec.egress)
        .filter_map(|(path, listener)| {
            let port = listener.port.as_ref()?.number;
            Some((
                path.at("port.number"),
                format!("{}:{port}", listener.bind.as_deref().unwrap_or_default()),
            ))
        });
    findings.unique(binds, "the listener");
    let open = path
        .each("egress", &spec.egress)
        .filter(|(_, l)| l.port.is_none() && l.bind.as_deref().unwrap_or_default().is_empty());
    for (path, _) in open {
        let last = path.to_string() == format!("spec.egress[{}]", spec.egress.len() - 1);
        let rule = "has no port, so it must be the last listener, and there can be one";
        findings.ensure(last, &path, rule);
    }
}

fn ingress(listener: &IngressListener, path: &Path, findings: &mut Findings) {
    findings.rule(&path.at("port.number"), names::port(listener.port.number));
    findings.rule(
        &path.at("port.protocol"),
        names::protocol_or_none(&listener.port.protocol),
    );
    findings.ensure(
        listener.port.target_port.is_none(),
        &path.at("port.targetPort"),
        "is for ServiceEntry only",
    );
    if let Some(bind) = listener.bind.as_deref().filter(|bind| !bind.is_empty()) {
        let fine = bind.parse::<std::net::IpAddr>().is_ok();
        findings.ensure(fine, &path.at("bind"), "must be an IP address");
    }
    if let Some(endpoint) = listener
        .default_endpoint
        .as_deref()
        .filter(|endpoint| !endpoint.is_empty())
    {
        let read = endpoint.parse::<DefaultEndpoint>().map(drop);
        findings.rule(&path.at("defaultEndpoint"), read);
    }
    if let Some(pool) = &listener.connection_pool {
        traffic_policy::connection_pool(pool, &path.at("connectionPool"), findings);
    }
}

fn egress(listener: &EgressListener, path: &Path, findings: &mut Findings) {
    let bind = listener.bind.as_deref().unwrap_or_default();
    match &listener.port {
        Some(port) => {
            findings.rule(
                &path.at("port.protocol"),
                names::protocol_or_none(&port.protocol),
            );
            let socket = bind.starts_with("unix://");
            findings.ensure(
                socket || port.number > 0,
                &path.at("port.number"),
                "must be a port from 1 to 65535",
            );
            findings.ensure(
                !socket || port.number == 0,
                &path.at("port.number"),
                "must be 0 with a Unix socket",
            );
        }
        None => findings.ensure(bind.is_empty(), &path.at("bind"), "needs a port"),
    }
    if !bind.is_empty() {
        let fine = bind.parse::<std::net::IpAddr>().is_ok() || bind.starts_with("unix:///");
        findings.ensure(
            fine,
            &path.at("bind"),
            "must be an IP address or unix:///path",
        );
        let redirected = listener.capture_mode == CaptureMode::Iptables;
        findings.ensure(
            !redirected || !bind.starts_with("unix://"),
            &path.at("captureMode"),
            "cannot be IPTABLES with a Unix socket",
        );
    }
    findings.ensure(
        !listener.hosts.is_empty(),
        &path.at("hosts"),
        "must have at least one namespace/host",
    );
    for (path, host) in path.each("hosts", &listener.hosts) {
        match host.split_once('/') {
            Some((namespace, host)) => {
                let fine =
                    matches!(namespace, "*" | "." | "~") || names::dns_label(namespace).is_ok();
                findings.ensure(
                    fine,
                    &path,
                    "must have a namespace, *, . or ~ before the slash",
                );
                findings.rule(&path, names::host_or_address(host));
            }
            None => findings.error(
                &path,
                "must be namespace/host, such as ./* or default/reviews.default.svc.cluster.local",
            ),
        }
    }
}
