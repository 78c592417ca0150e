//! Names, labels and annotations by Kubernetes' rules.
//!
//! *Invariant:* a name that passes here can stand in a URL and in an etcd key without escaping.

use model::{Kind, Metadata};
use rand::RngExt;

use crate::http::status::{Cause, Result, Status};

/// Checks the metadata of a resource; every fault found is one cause.
pub(crate) fn check(kind: Kind, metadata: &Metadata) -> Result<()> {
    let mut causes = Vec::new();
    let mut fault = |field: String, value: &str, rule: &str| {
        causes.push(Cause {
            reason: if value.is_empty() {
                "FieldValueRequired"
            } else {
                "FieldValueInvalid"
            },
            message: if value.is_empty() {
                format!("Required value: {rule}")
            } else {
                format!("Invalid value: {value:?}: {rule}")
            },
            field,
        });
    };
    if !is_subdomain(&metadata.name) {
        fault(
            "metadata.name".into(),
            &metadata.name,
            "must be at most 253 lower-case letters, digits, '-' and '.', each part beginning and ending with a letter or digit",
        );
    }
    if !is_label(&metadata.namespace) {
        fault(
            "metadata.namespace".into(),
            &metadata.namespace,
            "must be at most 63 lower-case letters, digits and '-', beginning and ending with a letter or digit",
        );
    }
    for (key, value) in &metadata.labels {
        check_key("metadata.labels", key, &mut fault);
        if !is_label_value(value) {
            fault(
                format!("metadata.labels[{key}]"),
                value,
                "must be empty, or at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit",
            );
        }
    }
    let mut size = 0;
    for (key, value) in &metadata.annotations {
        check_key("metadata.annotations", key, &mut fault);
        size += key.len() + value.len();
    }
    if size > 256 * 1024 {
        fault(
            "metadata.annotations".into(),
            &format!("{size} bytes"),
            "all together may have 262144 bytes",
        );
    }
    if causes.is_empty() {
        Ok(())
    } else {
        Err(Status::invalid(kind, &metadata.name, causes))
    }
}

fn check_key(field: &str, key: &str, fault: &mut impl FnMut(String, &str, &str)) {
    let (prefix, name) = key
        .split_once('/')
        .map_or((None, key), |(p, n)| (Some(p), n));
    let ok = !name.is_empty() && is_label_value(name) && prefix.is_none_or(is_subdomain);
    if !ok {
        fault(
            format!("{field}[{key}]"),
            if key.is_empty() { "(empty)" } else { key },
            "a key is [domain/]name, the name at most 63 letters, digits, '-', '_' and '.'",
        );
    }
}

/// A name with this prefix and five random characters.
pub(crate) fn generate(prefix: &str) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut rng = rand::rng();
    let prefix: String = prefix.chars().take(248).collect();
    let suffix: String = (0..5)
        .map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]))
        .collect();
    prefix + &suffix
}

/// RFC 1123 subdomain.
pub(crate) fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(|part| is_dns_part(part, 253))
}

/// RFC 1123 label.
pub(crate) fn is_label(text: &str) -> bool {
    is_dns_part(text, 63)
}

fn is_dns_part(text: &str, longest: usize) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    text.len() <= longest
        && edge(text.chars().next())
        && edge(text.chars().next_back())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

fn is_label_value(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && edge(text.chars().next())
        && edge(text.chars().next_back())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}
