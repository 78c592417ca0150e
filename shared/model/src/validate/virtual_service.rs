//! Rules of `VirtualService`; those of its HTTP routes are in [`super::http`].

use super::{Findings, Path, http, names};
use crate::spec::{Destination, RouteDestination, VirtualService};

pub(super) fn validate(spec: &VirtualService, path: &Path, findings: &mut Findings) {
    let delegate = spec.hosts.is_empty();
    let mesh = spec.gateways.is_empty() || spec.gateways.iter().any(|gateway| gateway == "mesh");
    if delegate {
        let rule = "must have at least one host; only a delegate of another VirtualService has none, and it has no gateways";
        findings.ensure(spec.gateways.is_empty(), &path.at("hosts"), rule);
        findings.ensure(
            spec.tcp.is_empty() && spec.tls.is_empty(),
            &path.at("http"),
            "a delegate may have http routes only",
        );
    }
    for (path, host) in path.each("hosts", &spec.hosts) {
        findings.rule(&path, names::host_or_address(host));
        findings.ensure(
            host != "*" || !mesh,
            &path,
            "* is for gateways only; name the Gateway in gateways, or a host",
        );
    }
    findings.unique(path.each("hosts", &spec.hosts), "the host");
    for (path, host) in path.each("hosts", &spec.hosts) {
        if let Some(wider) = spec
            .hosts
            .iter()
            .find(|wider| *wider != host && covers(wider, host))
        {
            findings.error(&path, format!("is covered by {wider}; keep one of them"));
        }
    }
    for (path, gateway) in path.each("gateways", &spec.gateways) {
        findings.rule(&path, names::gateway(gateway));
    }
    names::export_to(&spec.export_to, false, path, findings);
    let empty = spec.http.is_empty() && spec.tls.is_empty() && spec.tcp.is_empty();
    findings.ensure(!empty, path, "must have at least one of http, tls and tcp");
    for (path, route) in path.each("http", &spec.http) {
        http::route(route, delegate, &path, findings);
    }
    http::unreachable(&spec.http, path, findings);
    for (path, route) in path.each("tls", &spec.tls) {
        findings.ensure(
            !route.matches.is_empty(),
            &path.at("match"),
            "must have at least one match with sniHosts",
        );
        for (path, matches) in path.each("match", &route.matches) {
            findings.ensure(
                !matches.sni_hosts.is_empty(),
                &path.at("sniHosts"),
                "must have at least one host",
            );
            for (path, host) in path.each("sniHosts", &matches.sni_hosts) {
                findings.rule(&path, names::wildcard_host(host));
                let covered = spec
                    .hosts
                    .iter()
                    .any(|own| own == host || covers(own, host));
                findings.ensure(
                    covered,
                    &path,
                    format!(
                        "must be among the VirtualService's hosts ({})",
                        spec.hosts.join(", ")
                    ),
                );
            }
            subnets(&matches.destination_subnets, &path, findings);
            l4(
                matches.port,
                &matches.source_labels,
                &matches.gateways,
                &path,
                findings,
            );
        }
        destinations(&route.route, &path, findings);
    }
    for (path, route) in path.each("tcp", &spec.tcp) {
        for (path, matches) in path.each("match", &route.matches) {
            subnets(&matches.destination_subnets, &path, findings);
            if let Some(subnet) = &matches.source_subnet {
                findings.rule(&path.at("sourceSubnet"), names::subnet(subnet));
            }
            l4(
                matches.port,
                &matches.source_labels,
                &matches.gateways,
                &path,
                findings,
            );
        }
        destinations(&route.route, &path, findings);
    }
}

/// Whether a wildcard covers a host: `*.foo.com` does not cover `foo.com`.
fn covers(pattern: &str, host: &str) -> bool {
    pattern
        .strip_prefix('*')
        .is_some_and(|suffix| host.len() > suffix.len() && host.ends_with(suffix))
}

fn subnets(subnets: &[String], path: &Path, findings: &mut Findings) {
    for (path, subnet) in path.each("destinationSubnets", subnets) {
        findings.rule(&path, names::subnet(subnet));
    }
}

pub(super) fn l4(
    port: Option<u16>,
    labels: &crate::spec::Labels,
    gateways: &[String],
    path: &Path,
    findings: &mut Findings,
) {
    if let Some(port) = port {
        findings.rule(&path.at("port"), names::port(port));
    }
    names::labels(labels, &path.at("sourceLabels"), findings);
    for (path, gateway) in path.each("gateways", gateways) {
        findings.rule(&path, names::gateway(gateway));
    }
}

fn destinations(route: &[RouteDestination], path: &Path, findings: &mut Findings) {
    findings.ensure(
        !route.is_empty(),
        &path.at("route"),
        "must have at least one destination",
    );
    for (path, to) in path.each("route", route) {
        destination(&to.destination, &path.at("destination"), findings);
    }
    weights(
        route.iter().map(|to| to.weight),
        &path.at("route"),
        findings,
    );
}

/// Several destinations share by weight, so one of them must have some.
pub(super) fn weights(
    weights: impl ExactSizeIterator<Item = u32>,
    path: &Path,
    findings: &mut Findings,
) {
    let several = weights.len() > 1;
    let total: u64 = weights.map(u64::from).sum();
    findings.ensure(
        !several || total > 0,
        path,
        "must have weights whose sum is more than 0",
    );
    findings.ensure(
        total <= u64::from(u32::MAX),
        path,
        "must have weights whose sum is at most 4294967295",
    );
}

pub(super) fn destination(destination: &Destination, path: &Path, findings: &mut Findings) {
    let rule = if destination.host == "*" {
        Err("must be one host, not *".to_owned())
    } else {
        names::wildcard_host(&destination.host)
    };
    findings.rule(&path.at("host"), rule);
    if let Some(subset) = destination
        .subset
        .as_deref()
        .filter(|subset| !subset.is_empty())
    {
        findings.rule(&path.at("subset"), names::dns_label(subset));
    }
    if let Some(port) = destination.port {
        findings.rule(&path.at("port.number"), names::port(port.number));
    }
}
