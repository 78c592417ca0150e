//! Names, addresses, numbers and patterns, each by itself.

use std::net::IpAddr;
use std::sync::LazyLock;

use regex::Regex;

pub(super) use super::re2::regex;
use super::{Findings, Path};
use crate::spec::{Duration, HeaderMatch, Labels, Percent, StringMatch, Subnet, WorkloadSelector};

/// A DNS label: letters, digits and dashes, at most 63.
pub(super) fn dns_label(text: &str) -> Result<(), String> {
    let fine = !text.is_empty()
        && text.len() <= 63
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        && !text.starts_with('-')
        && !text.ends_with('-');
    if fine {
        Ok(())
    } else {
        Err("must be 1 to 63 letters, digits or dashes, with no dash at either end".into())
    }
}

/// A host name, short or full, without a wildcard.
pub(super) fn host(text: &str) -> Result<(), String> {
    let rest = text.strip_suffix('.').unwrap_or(text);
    if rest.is_empty() || rest.len() > 253 {
        return Err("must be a host name of 1 to 253 characters".into());
    }
    rest.split('.')
        .try_for_each(dns_label)
        .map_err(|rule| format!("must be a host name; each of its labels {rule}"))
}

/// A host name, `*`, or a host name behind `*.`.
pub(super) fn wildcard_host(text: &str) -> Result<(), String> {
    let last = text.trim_end_matches('.').rsplit('.').next();
    if last.is_some_and(|last| !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit())) {
        return Err("must be a host name; its last label must not be a number".into());
    }
    match text.strip_prefix('*') {
        Some("") => Ok(()),
        Some(rest) => match rest.strip_prefix('.').or_else(|| rest.strip_prefix('-')) {
            Some(rest) => host(rest),
            None => {
                Err("must have the wildcard as a whole first label, such as *.example.com".into())
            }
        },
        None if text.contains('*') => {
            Err("must have the wildcard first, such as *.example.com".into())
        }
        None => host(text),
    }
}

/// An address or a host name with an optional wildcard.
pub(super) fn host_or_address(text: &str) -> Result<(), String> {
    if text.parse::<IpAddr>().is_ok() {
        Ok(())
    } else {
        wildcard_host(text)
    }
}

/// `mesh`, a name, or `namespace/name`.
pub(super) fn gateway(text: &str) -> Result<(), String> {
    let wrong = |_| "must be mesh, a Gateway's name, or namespace/name".to_owned();
    match text.split_once('/') {
        Some((".", name)) => host(name).map_err(wrong),
        Some((namespace, name)) => dns_label(namespace)
            .and_then(|()| host(name))
            .map_err(wrong),
        None => host(text).map_err(wrong),
    }
}

/// An address, or an address with the length of a prefix.
pub(super) fn subnet(text: &str) -> Result<(), String> {
    text.parse::<Subnet>().map(drop)
}

/// A header's name.
pub(super) fn header(text: &str) -> Result<(), String> {
    let name = text.strip_prefix(':').unwrap_or(text);
    let fine = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
    if fine {
        Ok(())
    } else {
        Err("must be a header's name: letters, digits and dashes".into())
    }
}

/// A header's value.
pub(super) fn header_value(text: &str) -> Result<(), String> {
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err("must not contain control characters".into());
    }
    commands(text)
}

/// Envoy's commands in a value: `%NAME%`, `%NAME(argument)%`, `%NAME(argument):length%`; a percent sign itself is `%%`.
fn commands(text: &str) -> Result<(), String> {
    static COMMANDS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^([^%]|%%|%[A-Z][A-Z0-9_]*(\([^)]*\))?(:[0-9]+)?%)*$")
            .expect("it is a regular expression")
    });
    if COMMANDS.is_match(text) {
        Ok(())
    } else {
        Err("has a % that begins no command such as %REQ(x-a)%; write %% for a percent sign".into())
    }
}

/// A port number.
pub(super) fn port(number: u16) -> Result<(), String> {
    if number == 0 {
        Err("must be a port from 1 to 65535".into())
    } else {
        Ok(())
    }
}

/// A percentage.
pub(super) fn percent(percent: Percent) -> Result<(), String> {
    if (0.0..=100.0).contains(&percent.value) {
        Ok(())
    } else {
        Err("must be from 0.0 to 100.0".into())
    }
}

/// A duration that is at least a millisecond.
pub(super) fn duration(duration: Duration) -> Result<(), String> {
    if duration.as_millis() >= 1 {
        Ok(())
    } else {
        Err("must be at least 1ms".into())
    }
}

/// A duration that is zero or at least a millisecond.
pub(super) fn duration_or_zero(value: Duration) -> Result<(), String> {
    if value.is_zero() {
        Ok(())
    } else {
        duration(value)
    }
}

/// A label's value: Kubernetes' rule.
fn label_value(text: &str) -> Result<(), String> {
    let fine = text.len() <= 63
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && text
            .bytes()
            .next()
            .is_none_or(|b| b.is_ascii_alphanumeric())
        && text
            .bytes()
            .last()
            .is_none_or(|b| b.is_ascii_alphanumeric());
    if fine {
        Ok(())
    } else {
        Err("must be a label's value: at most 63 letters, digits, dashes, underscores or dots, a letter or digit at both ends".into())
    }
}

/// A label's name, with an optional DNS prefix: Kubernetes' rule.
fn label_name(text: &str) -> Result<(), String> {
    let (prefix, name) = text
        .split_once('/')
        .map_or((None, text), |(prefix, name)| (Some(prefix), name));
    if name.is_empty()
        || label_value(name).is_err()
        || prefix.is_some_and(|prefix| host(prefix).is_err())
    {
        return Err("must be a label's name: [prefix/]name, where name is at most 63 letters, digits, dashes, underscores or dots".into());
    }
    Ok(())
}

/// Labels, or a selector.
pub(super) fn labels(labels: &Labels, path: &Path, findings: &mut Findings) {
    for (name, value) in labels {
        findings.rule(
            &path.at(name),
            label_name(name).and_then(|()| label_value(value)),
        );
    }
}

/// A selector; without labels it selects every workload, which people should know.
pub(super) fn selector(selector: &WorkloadSelector, path: &Path, findings: &mut Findings) {
    if selector.labels.is_empty() {
        findings.warn(
            path,
            "has no labels, so it selects every workload; leave it out to say so",
        );
    }
    labels(&selector.labels, &path.at("labels"), findings);
}

/// A string match whose pattern says something.
pub(super) fn string_match(value: &StringMatch, path: &Path, findings: &mut Findings) {
    match value {
        StringMatch::Exact(_) => {}
        StringMatch::Prefix(text) => {
            findings.ensure(!text.is_empty(), &path.at("prefix"), "must not be empty")
        }
        StringMatch::Regex(text) => findings.rule(&path.at("regex"), regex(text)),
    }
}

/// A header match: at most one way.
pub(super) fn header_match(value: &HeaderMatch, path: &Path, findings: &mut Findings) {
    let ways = [&value.exact, &value.prefix, &value.regex]
        .into_iter()
        .flatten()
        .count();
    findings.ensure(
        ways <= 1,
        path,
        "must have only one of exact, prefix and regex; empty means that it is present",
    );
    if let Some(value) = value.string_match() {
        string_match(&value, path, findings);
    }
}

/// Namespaces, `.` and `*` in an `exportTo`; `~`, none, is for services only.
pub(super) fn export_to(values: &[String], service: bool, path: &Path, findings: &mut Findings) {
    for (path, value) in path.each("exportTo", values) {
        let fine = matches!(value.as_str(), "." | "*") || dns_label(value).is_ok();
        let rule = if service {
            "must be . (this namespace), * (all), ~ (none) or a namespace"
        } else {
            "must be . (this namespace), * (all) or a namespace; ~ is for ServiceEntry only"
        };
        findings.ensure(fine || (service && value == "~"), &path, rule);
    }
    let path = path.at("exportTo");
    let alone = values.len() <= 1 || !values.iter().any(|value| value == "*" || value == "~");
    findings.ensure(alone, &path, "must have * or ~ alone");
    findings.unique(
        values.iter().map(|value| (path.clone(), value)),
        "the namespace",
    );
}

/// A protocol, or none: then the name of the port says it, or it is TCP.
pub(super) fn protocol_or_none(text: &str) -> Result<(), String> {
    if text.is_empty() {
        Ok(())
    } else {
        protocol(text)
    }
}

/// The protocols of ports.
pub(super) fn protocol(text: &str) -> Result<(), String> {
    const KNOWN: [&str; 12] = [
        "HTTP",
        "HTTPS",
        "GRPC",
        "GRPC-WEB",
        "HTTP2",
        "MONGO",
        "TCP",
        "TLS",
        "UDP",
        "REDIS",
        "MYSQL",
        "HTTP_PROXY",
    ];
    if KNOWN.contains(&text.to_ascii_uppercase().as_str()) {
        Ok(())
    } else {
        Err(format!("is not a protocol; one of {}", KNOWN.join(", ")))
    }
}

#[cfg(test)]
mod tests;
