//! Paths as Envoy has them before any policy looks at them: what `pathNormalization` does, step by step in Envoy's order.
//!
//! `..;` stays as it is, though some Envoys take it for two dots: what matches it in doubt counts against the request anyway.
//! Source: Envoy's `PathUtil` and the path canonicalisation of googleurl that it calls. (A test sends the same paths through real
//! Envoys.) *Invariant:* what is behind the first `?` stays as it is.

use crate::spec::NormalizationType;

/// A path after its normalisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normalized {
    /// The path.
    pub path: String,
    /// Whether the request itself goes no further: it is answered with a redirect to that path.
    pub redirect: bool,
}

/// Normalises a path as the proxy of a workload does.
pub fn normalize(path: &str, how: NormalizationType) -> Normalized {
    use NormalizationType::{Base, DecodeAndMergeSlashes, Default, MergeSlashes, None};
    let (plain, query) = path.split_at(path.find('?').unwrap_or(path.len()));
    let decoded = match how {
        Default | DecodeAndMergeSlashes => decode_slashes(plain),
        None | Base | MergeSlashes => plain.to_owned(),
    };
    let redirect = how == Default && decoded != plain;
    let canonical = match how {
        None => decoded,
        _ => canonical(&decoded),
    };
    let merged = match how {
        None | Base => canonical,
        Default | MergeSlashes | DecodeAndMergeSlashes => merge_slashes(&canonical),
    };
    Normalized {
        path: merged + query,
        redirect,
    }
}

fn decode_slashes(path: &str) -> String {
    let mut text = path.to_owned();
    for (encoded, plain) in [("%2F", "/"), ("%2f", "/"), ("%5C", "\\"), ("%5c", "\\")] {
        text = text.replace(encoded, plain);
    }
    text
}

fn merge_slashes(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !merged.ends_with('/') {
            merged.push(c);
        }
    }
    merged
}

/// Dot segments are followed, backslashes become slashes, and what needs no encoding is decoded.
fn canonical(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut out: Vec<u8> = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let dot = dot(bytes, at);
        if dot > 0 {
            let after_slash = out.last() == Some(&b'/');
            match segment(bytes, at + dot).filter(|_| after_slash) {
                None => out.push(b'.'),
                Some((up, length)) => {
                    if up {
                        back_up(&mut out);
                    }
                    at += length;
                }
            }
            at += dot;
            continue;
        }
        at += 1;
        match byte {
            b'\\' => out.push(b'/'),
            b'%' => match hex(bytes, at) {
                Some(decoded) if needs_no_encoding(decoded) => {
                    out.push(decoded);
                    at += 2;
                }
                _ => out.push(b'%'),
            },
            b' '
            | b'"'
            | b'#'
            | b'<'
            | b'>'
            | b'?'
            | b'^'
            | b'`'
            | b'{'
            | b'|'
            | b'}'
            | 0..=0x1f
            | 0x7f.. => {
                out.extend(format!("%{byte:02X}").bytes());
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The length of a dot, encoded or not; 0 if there is none.
fn dot(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at) {
        Some(b'.') => 1,
        Some(b'%') if hex(bytes, at + 1) == Some(b'.') => 3,
        _ => 0,
    }
}

/// Whether what follows the first dot of a segment makes it `.` (not up) or `..` (up), and how long that is with its slash.
fn segment(bytes: &[u8], at: usize) -> Option<(bool, usize)> {
    let end = |at: usize| match bytes.get(at) {
        None => Some(0),
        Some(b'/' | b'\\') => Some(1),
        Some(_) => None,
    };
    if let Some(slash) = end(at) {
        return Some((false, slash));
    }
    let second = dot(bytes, at);
    let slash = end(at + second).filter(|_| second > 0)?;
    Some((true, second + slash))
}

/// Takes the last segment off a path that ends with a slash.
fn back_up(out: &mut Vec<u8>) {
    let parent = out[..out.len().saturating_sub(1)]
        .iter()
        .rposition(|&byte| byte == b'/');
    out.truncate(parent.map_or(1, |slash| slash + 1));
}

fn hex(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
    u8::try_from(digit(at)? * 16 + digit(at + 1)?).ok()
}

fn needs_no_encoding(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_step_by_step() {
        use NormalizationType::{Base, DecodeAndMergeSlashes, Default, MergeSlashes, None};
        for (path, none, base, merged, decoded) in [
            ("/a/b", "/a/b", "/a/b", "/a/b", "/a/b"),
            ("/a//b", "/a//b", "/a//b", "/a/b", "/a/b"),
            ("/a/../b/./c", "/a/../b/./c", "/b/c", "/b/c", "/b/c"),
            ("/a/%2e%2E/b", "/a/%2e%2E/b", "/b", "/b", "/b"),
            ("/../../a", "/../../a", "/a", "/a", "/a"),
            ("/%61dmin", "/%61dmin", "/admin", "/admin", "/admin"),
            ("\\a\\b", "\\a\\b", "/a/b", "/a/b", "/a/b"),
            ("/a%2Fb", "/a%2Fb", "/a%2Fb", "/a%2Fb", "/a/b"),
            (
                "/a%2f..%2Fb",
                "/a%2f..%2Fb",
                "/a%2f..%2Fb",
                "/a%2f..%2Fb",
                "/b",
            ),
            ("/a%5cb", "/a%5cb", "/a%5cb", "/a%5cb", "/a/b"),
            ("/a/..", "/a/..", "/", "/", "/"),
            (
                "/a?b=//../%2F",
                "/a?b=//../%2F",
                "/a?b=//../%2F",
                "/a?b=//../%2F",
                "/a?b=//../%2F",
            ),
        ] {
            for (how, expected) in [
                (None, none),
                (Base, base),
                (MergeSlashes, merged),
                (DecodeAndMergeSlashes, decoded),
                (Default, decoded),
            ] {
                let found = normalize(path, how);
                assert_eq!(found.path, expected, "{path} {how:?}");
                let encoded = path.split('?').next().is_some_and(|it| {
                    let it = it.to_ascii_lowercase();
                    it.contains("%2f") || it.contains("%5c")
                });
                assert_eq!(found.redirect, how == Default && encoded, "{path} {how:?}");
            }
        }
    }
}
