//! Host names and their wildcards: which is meant, which is the more specific.
//!
//! *Invariant:* nothing here knows which services exist.

/// The full name of a host as written in a policy of a namespace: a name without a dot gets the namespace and the
/// mesh's domain; wildcards and addresses stay.
pub fn full_host(host: &str, namespace: &str, domain: &str) -> String {
    let host = host.to_ascii_lowercase();
    if host.contains(['.', '*', ':']) || host.is_empty() {
        host
    } else {
        format!("{host}.{namespace}.{domain}")
    }
}

/// Whether a pattern covers a host: equal, or a wildcard (`*`, `*.foo.com`) that covers it. `*.foo.com` does not cover
/// `foo.com`. The host may be a wildcard itself: it is covered by a wider one.
pub fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => {
            host == pattern
                || (host.len() > suffix.len()
                    && host.strip_prefix('*').unwrap_or(host).ends_with(suffix))
        }
        None => pattern == host,
    }
}

/// The narrower of two patterns where one covers the other.
pub fn intersection<'a>(a: &'a str, b: &'a str) -> Option<&'a str> {
    if covers(a, b) {
        Some(b)
    } else if covers(b, a) {
        Some(a)
    } else {
        None
    }
}

/// The host itself and then every wildcard that covers it, the most specific first: `a.b`, `*.b`, `*`.
pub fn covering(host: &str) -> impl Iterator<Item = String> + '_ {
    let rest = host.strip_prefix("*.").unwrap_or(host);
    let dots = rest
        .match_indices('.')
        .map(move |(at, _)| format!("*{}", &rest[at..]));
    let own = (host != "*").then(|| host.to_owned());
    own.into_iter()
        .chain(dots)
        .chain(std::iter::once("*".to_owned()))
}
