//! Rules of traffic policies, in `DestinationRule`, `Sidecar` and `MeshConfig`.

use super::{Findings, Path, federation, http, names, request_authentication};
use crate::spec::{
    ClientTlsSettings, ConnectionPoolSettings, ConsistentHashLb, Duration, LoadBalancerSettings,
    LocalityLoadBalancerSetting, MeshConfig, OutlierDetection, PortTrafficPolicy, TcpKeepalive,
    TlsMode, TrafficPolicy,
};

pub(super) fn validate(value: &TrafficPolicy, path: &Path, findings: &mut Findings) {
    findings.ensure(
        *value != TrafficPolicy::default(),
        path,
        "must have at least one field; remove it, or say a policy",
    );
    parts(
        value.load_balancer.as_ref(),
        value.connection_pool.as_ref(),
        value.outlier_detection.as_ref(),
        value.tls.as_ref(),
        path,
        findings,
    );
    for (path, port) in path.each("portLevelSettings", &value.port_level_settings) {
        findings.rule(&path.at("port.number"), names::port(port.port.number));
        let empty = PortTrafficPolicy {
            port: port.port,
            ..PortTrafficPolicy::default()
        };
        let rule = "must have at least one field beside port";
        findings.ensure(*port != empty, &path, rule);
        parts(
            port.load_balancer.as_ref(),
            port.connection_pool.as_ref(),
            port.outlier_detection.as_ref(),
            port.tls.as_ref(),
            &path,
            findings,
        );
    }
    let ports = path.each("portLevelSettings", &value.port_level_settings);
    findings.unique(
        ports.map(|(path, port)| (path.at("port.number"), port.port.number)),
        "the port",
    );
    if let Some(budget) = &value.retry_budget {
        let fine = budget
            .percent
            .is_none_or(|percent| (0.0..=100.0).contains(&percent));
        findings.ensure(
            fine,
            &path.at("retryBudget.percent"),
            "must be from 0.0 to 100.0",
        );
    }
}

fn parts(
    lb: Option<&LoadBalancerSettings>,
    pool: Option<&ConnectionPoolSettings>,
    outlier: Option<&OutlierDetection>,
    tls: Option<&ClientTlsSettings>,
    path: &Path,
    findings: &mut Findings,
) {
    if let Some(value) = lb {
        load_balancer(value, &path.at("loadBalancer"), findings);
    }
    if let Some(value) = pool {
        connection_pool(value, &path.at("connectionPool"), findings);
    }
    if let Some(value) = outlier {
        outlier_detection(value, &path.at("outlierDetection"), findings);
    }
    if let Some(value) = tls {
        client_tls(value, &path.at("tls"), findings);
    }
}

fn load_balancer(value: &LoadBalancerSettings, path: &Path, findings: &mut Findings) {
    let both = value.simple.is_some() && value.consistent_hash.is_some();
    findings.ensure(
        !both,
        path,
        "must have only one of simple and consistentHash",
    );
    if let Some(hash) = &value.consistent_hash {
        consistent_hash(hash, &path.at("consistentHash"), findings);
    }
    if let Some(setting) = &value.locality_lb_setting {
        locality(setting, &path.at("localityLbSetting"), findings);
    }
    if let Some(warmup) = &value.warmup {
        let path = path.at("warmup");
        findings.rule(&path.at("duration"), names::duration(warmup.duration));
        let percent = warmup
            .minimum_percent
            .is_none_or(|percent| (0.0..=100.0).contains(&percent));
        findings.ensure(
            percent,
            &path.at("minimumPercent"),
            "must be from 0.0 to 100.0",
        );
        let aggression = warmup.aggression.is_none_or(|aggression| aggression >= 1.0);
        findings.ensure(aggression, &path.at("aggression"), "must be at least 1.0");
    }
}

fn consistent_hash(value: &ConsistentHashLb, path: &Path, findings: &mut Findings) {
    let keys = [
        value.http_header_name.is_some(),
        value.http_cookie.is_some(),
        value.use_source_ip.is_some(),
        value.http_query_parameter_name.is_some(),
    ];
    let one = keys.into_iter().filter(|there| *there).count() == 1;
    let rule = "must have exactly one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName";
    findings.ensure(one, path, rule);
    findings.ensure(
        value.ring_hash.is_none() || value.maglev.is_none(),
        path,
        "must have only one of ringHash and maglev",
    );
    if let Some(name) = &value.http_header_name {
        findings.rule(&path.at("httpHeaderName"), names::header(name));
    }
    if let Some(cookie) = &value.http_cookie {
        findings.ensure(
            !cookie.name.is_empty(),
            &path.at("httpCookie.name"),
            "must have a name",
        );
    }
    let ring = value.ring_hash.and_then(|ring| ring.minimum_ring_size);
    findings.ensure(
        ring.is_none_or(|size| size <= 8_388_608),
        &path.at("ringHash.minimumRingSize"),
        "must be at most 8388608",
    );
    let table = value.maglev.and_then(|maglev| maglev.table_size);
    let fine = table.is_none_or(|size| size <= 5_000_011 && prime(size));
    findings.ensure(
        fine,
        &path.at("maglev.tableSize"),
        "must be a prime of at most 5000011",
    );
}

fn prime(n: u64) -> bool {
    n >= 2
        && (2..)
            .take_while(|d| d * d <= n)
            .all(|d| !n.is_multiple_of(d))
}

fn locality(value: &LocalityLoadBalancerSetting, path: &Path, findings: &mut Findings) {
    let modes = [!value.distribute.is_empty(), !value.failover.is_empty()];
    let many = modes.into_iter().filter(|there| *there).count() > 1;
    findings.ensure(!many, path, "must have only one of distribute and failover");
    let both = !value.distribute.is_empty() && !value.failover_priority.is_empty();
    findings.ensure(
        !both,
        path,
        "must have only one of distribute and failoverPriority",
    );
    for (path, distribute) in path.each("distribute", &value.distribute) {
        let total: u64 = distribute.to.values().map(|share| u64::from(*share)).sum();
        findings.ensure(
            total == 100,
            &path.at("to"),
            format!("must have shares that add up to 100, not {total}"),
        );
        let zero = distribute.to.values().any(|share| *share == 0);
        findings.ensure(!zero, &path.at("to"), "must have shares of at least 1");
    }
    let froms = path
        .each("distribute", &value.distribute)
        .map(|(path, d)| (path.at("from"), &d.from));
    findings.unique(froms, "the locality");
    for (path, failover) in path.each("failover", &value.failover) {
        findings.ensure(
            failover.from != failover.to,
            &path.at("to"),
            "must be another region than from",
        );
        let regions = [&failover.from, &failover.to]
            .into_iter()
            .all(|region| !region.contains(['/', '*']) && !region.is_empty());
        findings.ensure(
            regions,
            &path,
            "must have regions only, without zones and wildcards",
        );
    }
}

fn durations<const N: usize>(
    values: [(&str, Option<Duration>); N],
    path: &Path,
    findings: &mut Findings,
) {
    for (field, value) in values {
        if let Some(value) = value {
            findings.rule(&path.at(field), names::duration(value));
        }
    }
}

pub(super) fn connection_pool(
    value: &ConnectionPoolSettings,
    path: &Path,
    findings: &mut Findings,
) {
    findings.ensure(
        value.tcp.is_some() || value.http.is_some(),
        path,
        "must have tcp or http",
    );
    if let Some(tcp) = &value.tcp {
        let path = path.at("tcp");
        let values = [
            ("connectTimeout", tcp.connect_timeout),
            ("maxConnectionDuration", tcp.max_connection_duration),
        ];
        durations(values, &path, findings);
        if let Some(idle) = tcp.idle_timeout {
            findings.rule(&path.at("idleTimeout"), names::duration_or_zero(idle));
        }
        keepalive(tcp.tcp_keepalive.as_ref(), &path, findings);
    }
    if let Some(http) = &value.http {
        let path = path.at("http");
        if let Some(idle) = http.idle_timeout {
            findings.rule(&path.at("idleTimeout"), names::duration_or_zero(idle));
        }
        let upgrade = http.h2_upgrade_policy == Some(crate::spec::H2UpgradePolicy::Upgrade);
        let both = upgrade && http.use_client_protocol == Some(true);
        findings.ensure(
            !both,
            &path.at("useClientProtocol"),
            "cannot stand beside h2UpgradePolicy UPGRADE",
        );
    }
}

fn keepalive(value: Option<&TcpKeepalive>, path: &Path, findings: &mut Findings) {
    let Some(value) = value else { return };
    let path = path.at("tcpKeepalive");
    for (field, value) in [("time", value.time), ("interval", value.interval)] {
        let fine = value.is_none_or(|value| value.as_secs() >= 1);
        findings.ensure(fine, &path.at(field), "must be at least 1s");
    }
}

fn outlier_detection(value: &OutlierDetection, path: &Path, findings: &mut Findings) {
    durations(
        [
            ("interval", value.interval),
            ("baseEjectionTime", value.base_ejection_time),
        ],
        path,
        findings,
    );
    let percents = [
        ("maxEjectionPercent", value.max_ejection_percent),
        ("minHealthPercent", value.min_health_percent),
    ];
    for (field, percent) in percents {
        findings.ensure(
            percent.is_none_or(|p| p <= 100),
            &path.at(field),
            "must be from 0 to 100",
        );
    }
    let counted = value
        .consecutive_local_origin_failures
        .is_some_and(|count| count > 0);
    let rule = "needs splitExternalLocalOriginErrors: true";
    let path = path.at("consecutiveLocalOriginFailures");
    findings.ensure(
        !counted || value.split_external_local_origin_errors,
        &path,
        rule,
    );
}

fn client_tls(value: &ClientTlsSettings, path: &Path, findings: &mut Findings) {
    let files = value.client_certificate.is_some() || value.private_key.is_some();
    match value.mode {
        TlsMode::Mutual if value.credential_name.is_none() => {
            findings.ensure(
                value.client_certificate.is_some(),
                &path.at("clientCertificate"),
                "is needed with MUTUAL",
            );
            findings.ensure(
                value.private_key.is_some(),
                &path.at("privateKey"),
                "is needed with MUTUAL",
            );
        }
        TlsMode::Mutual => {
            findings.ensure(!files, path, "must have credentialName or files, not both")
        }
        TlsMode::IstioMutual => {
            let own = files || value.ca_certificates.is_some() || value.credential_name.is_some();
            findings.ensure(
                !own,
                path,
                "ISTIO_MUTUAL uses the mesh's certificates; remove the others",
            );
        }
        TlsMode::Simple | TlsMode::Disable if files => {
            findings.warn(path, "has a client certificate, which only MUTUAL presents");
        }
        TlsMode::Simple | TlsMode::Disable => {}
    }
    let verified = value.ca_certificates.is_some() || !value.subject_alt_names.is_empty();
    let tls = matches!(value.mode, TlsMode::Simple | TlsMode::Mutual);
    findings.ensure(
        !(tls && verified && value.insecure_skip_verify == Some(true)),
        &path.at("insecureSkipVerify"),
        "verifies nothing, so caCertificates and subjectAltNames cannot stand beside it",
    );
    if let Some(sni) = value.sni.as_deref().filter(|sni| !sni.is_empty()) {
        findings.rule(&path.at("sni"), names::host(sni));
    }
}

pub(super) fn mesh_config(spec: &MeshConfig, path: &Path, findings: &mut Findings) {
    durations([("connectTimeout", spec.connect_timeout)], path, findings);
    keepalive(spec.tcp_keepalive.as_ref(), path, findings);
    if let Some(format) = &spec.access_log_format {
        findings.rule(
            &path.at("accessLogFormat"),
            names::header_value(format.trim_end_matches('\n')),
        );
    }
    if let Some(retries) = &spec.default_http_retry_policy {
        http::retries(retries, &path.at("defaultHttpRetryPolicy"), findings);
    }
    if let Some(setting) = &spec.locality_lb_setting {
        locality(setting, &path.at("localityLbSetting"), findings);
    }
    request_authentication::providers(&spec.extension_providers, path, findings);
    if let Some(gradual) = &spec.gradual_delivery {
        let path = path.at("gradualDelivery");
        let rule = "must be 1 or more: so many proxies get a change first";
        findings.ensure(gradual.first != Some(0), &path.at("first"), rule);
        let long = |it: Duration| it.0 >= std::time::Duration::from_secs(1);
        let rule = "must be 1s or more: so long the first proxies have to run a change";
        let path = path.at("deadline");
        findings.ensure(gradual.deadline.is_none_or(long), &path, rule);
    }
    for (path, host) in path.each("allowedJwksHosts", &spec.allowed_jwks_hosts) {
        findings.rule(&path, names::wildcard_host(host));
    }
    federation::validate(spec, path, findings);
}
