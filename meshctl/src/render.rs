//! From JSON answers to text for people: tables, descriptions, diffs.
//!
//! *Invariant:* nothing here does I/O or reads the clock; what depends on now gets it as an argument.

pub(crate) mod authority;
pub(crate) mod authz;
pub(crate) mod changes;
pub(crate) mod config;
pub(crate) mod credentials;
pub(crate) mod describe;
pub(crate) mod diff;
pub(crate) mod explain;
pub(crate) mod mtls;
pub(crate) mod preview;
pub(crate) mod proxies;
pub(crate) mod resources;
pub(crate) mod rollout;
pub(crate) mod shards;

use serde_json::Value;

/// A value as JSON with a final line break.
pub(crate) fn json(value: &Value) -> String {
    format!("{value:#}\n")
}

/// A value as YAML with a final line break.
pub(crate) fn yaml(value: &Value) -> String {
    // Lines are kept as they are: folded ones read worse, and diff worse still.
    let options = serde_saphyr::ser_options! { folded_wrap_chars: 1_000_000 };
    let mut text =
        serde_saphyr::to_string_with_options(value, options).expect("a JSON value is always YAML");
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// The elements of an array, or none.
pub(crate) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A scalar as text; what is absent is empty.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A time as people read it: RFC 3339 to the second.
pub(crate) fn moment(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, fraction)) => {
            seconds.to_owned() + fraction.trim_start_matches(|c: char| c.is_ascii_digit())
        }
        None => time.to_owned(),
    }
}

#[cfg(test)]
mod tests;
