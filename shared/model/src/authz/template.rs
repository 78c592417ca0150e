//! Templates of paths: `{*}` is one segment, `{**}` any number of them.
//!
//! *Invariant:* what [`check`] takes, every Envoy takes.

/// How long Envoy's templates may be.
const TEMPLATE_LENGTH: usize = 255;

/// Whether a path is a template.
pub fn is_template(value: &str) -> bool {
    value.contains("{*}") || value.contains("{**}")
}

/// Istio's `CheckValidPathTemplate`, and what more Envoy asks: 1.40 ends, rather than refusing what it cannot read.
pub fn check(value: &str) -> Result<(), String> {
    let of_template = is_template(value);
    let mut ended = false;
    for segment in value.trim_matches('/').split('/') {
        match segment {
            _ if ended && segment.starts_with('{') => {
                return Err("must have {**} as the last of its {*} and {**}".into());
            }
            "{*}" => {}
            "{**}" => ended = true,
            _ if segment.contains(['{', '}']) => {
                return Err("must have { and } only in {*} and {**}, each a whole segment".into());
            }
            _ if of_template && !segment.bytes().all(is_literal) => {
                return Err("must have only letters, digits and -._~%!$&'()+,;:@= in the segments of a template; * is {*} there".into());
            }
            _ => {}
        }
    }
    if of_template && (!value.starts_with('/') || value.contains("//")) {
        return Err("must begin with a slash, and have no empty segment".into());
    }
    if of_template && value.replace(['{', '}'], "").len() > TEMPLATE_LENGTH {
        return Err("must be no longer than 255 bytes as a template, braces apart".into());
    }
    Ok(())
}

/// Whether a path is meant by a template.
pub(super) fn matches(path: &str, value: &str) -> bool {
    let Some((head, rest)) = value.split_once('{') else {
        return path == value;
    };
    let Some(path) = path.strip_prefix(head) else {
        return false;
    };
    match rest.strip_prefix("**}") {
        Some(tail) => path
            .strip_suffix(tail)
            .is_some_and(|between| between.bytes().all(|b| b == b'/' || is_literal(b))),
        None => {
            let end = path
                .bytes()
                .position(|b| !is_literal(b))
                .unwrap_or(path.len());
            end > 0 && matches(&path[end..], rest.strip_prefix("*}").unwrap_or(rest))
        }
    }
}

/// Whether Envoy's templates take a byte for part of a segment.
pub(super) fn is_literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&byte)
}
