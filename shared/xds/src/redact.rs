//! Texts that a client sends, without the keys it may quote in them (rule C11).
//!
//! *Invariant:* what looks like key material does not come through, even if more than that is lost.

const REDACTED: &str = "[redacted]";

/// Longer texts are cut: Envoy may quote a whole resource.
const LONGEST: usize = 4096;

/// Fields whose value may be a secret, as they look in protobuf's text form and in JSON.
const FIELDS: [&str; 5] = [
    "inline_bytes",
    "inline_string",
    "inlineBytes",
    "inlineString",
    "password",
];

/// The text without PEM blocks and without values of fields that may hold secrets.
pub(crate) fn redacted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, skip)) = next(rest) {
        out.push_str(&rest[..at]);
        out.push_str(REDACTED);
        rest = &rest[at + skip..];
    }
    out.push_str(rest);
    if out.len() > LONGEST {
        let end = (0..=LONGEST)
            .rev()
            .find(|i| out.is_char_boundary(*i))
            .unwrap_or(0);
        out.truncate(end);
        out.push('…');
    }
    out
}

/// Where the next secret starts, and how long it is.
fn next(text: &str) -> Option<(usize, usize)> {
    let pem = text.find("-----BEGIN").map(|at| (at, pem(&text[at..])));
    let field = FIELDS.iter().filter_map(|field| value(text, field)).min();
    [pem, field].into_iter().flatten().min()
}

fn pem(text: &str) -> usize {
    let end = text
        .find("-----END")
        .and_then(|end| Some(end + 8 + text[end + 8..].find("-----")? + 5));
    end.unwrap_or(text.len())
}

/// The quoted value after a field's name.
fn value(text: &str, field: &str) -> Option<(usize, usize)> {
    let mut from = 0;
    while let Some(found) = text[from..].find(field) {
        let after = from + found + field.len();
        let quote = text[after..].find(|c: char| !matches!(c, '"' | '\'' | ':' | ' ' | '\\'));
        let start = after + quote.unwrap_or(text.len() - after);
        // Something quoted follows, which was not redacted yet.
        if text[after..start]
            .trim_start_matches(['"', '\''])
            .contains(['"', '\''])
            && !text[start..].starts_with(REDACTED)
        {
            return Some((start, quoted(&text[start..])));
        }
        from = after;
    }
    None
}

/// How far a quoted text goes: to a quote that no backslash precedes.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if !escaped && matches!(c, '"' | '\'') {
            return at;
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c11_keys_do_not_come_through() {
        for text in [
            "bad secret: -----BEGIN PRIVATE KEY-----\nKEY\n-----END PRIVATE KEY----- at 3",
            "bad secret: -----BEGIN PRIVATE KEY-----\\nKEY\\n",
            r#"bad: private_key { inline_string: "KEY" } name: "s""#,
            r#"bad: {"privateKey":{"inlineBytes":"KEY"},"password": {"inlineString": "KE\"KEY"}} name"#,
            r#"inline_string: "a" inline_bytes: "\"KEY""#,
        ] {
            let shown = redacted(text);
            assert!(
                !shown.contains("KEY\"") && !shown.contains("\nKEY") && !shown.contains("\\nKEY"),
                "{shown}"
            );
            assert!(shown.contains(REDACTED), "{shown}");
        }
        assert_eq!(
            redacted("cluster c1: no such thing"),
            "cluster c1: no such thing"
        );
        assert!(redacted(&"ä".repeat(9000)).len() < 5000);
    }
}
