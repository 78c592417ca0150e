//! `Warning: 299` headers, which kubectl prints.
//!
//! *Invariant:* no warning is lost silently: what does not fit is counted in a last one.

use http::{HeaderMap, HeaderValue, header};

/// How many warnings one answer carries at most.
const MOST: usize = 20;

/// Adds one header per warning.
pub(crate) fn add<'a>(headers: &mut HeaderMap, warnings: impl IntoIterator<Item = &'a str>) {
    let mut left = 0_usize;
    for (i, warning) in warnings.into_iter().enumerate() {
        if i >= MOST {
            left += 1;
        } else {
            append(headers, warning);
        }
    }
    if left > 0 {
        append(headers, &format!("and {left} more warnings"));
    }
}

fn append(headers: &mut HeaderMap, warning: &str) {
    let mut text = String::from("299 - \"");
    for c in warning.chars().take(1024) {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            c if c.is_control() => text.push(' '),
            c => text.push(c),
        }
    }
    text.push('"');
    if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
        headers.append(header::WARNING, value);
    }
}
