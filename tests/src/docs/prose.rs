//! What a document says in `code spans`: in its prose, its tables, and the comments of its blocks.

use anyhow::{Result, ensure};

/// A code span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// The line it is in, from 1.
    pub(super) line: usize,
    /// What it says; a `|` that a table needs escaped is plain.
    pub(super) text: String,
}

/// The code spans of a document.
///
/// # Errors
/// If one does not end on its line; the message names the line.
pub(super) fn spans(document: &str) -> Result<Vec<Span>> {
    let mut found = Vec::new();
    let mut in_block = false;
    for (line, text) in (1..).zip(document.lines()) {
        if text.trim_start().starts_with("```") {
            in_block = !in_block;
            continue;
        }
        let text = match (in_block, text.split_once("# ")) {
            (false, _) => text,
            (true, Some((_, comment))) => comment,
            (true, None) => continue,
        };
        let parts: Vec<&str> = text.split('`').collect();
        ensure!(
            in_block || parts.len() % 2 == 1,
            "line {line}: a code span that does not end on its line"
        );
        let spans = parts.chunks_exact(2).map(|pair| pair[1]);
        found.extend(spans.map(|text| Span {
            line,
            text: text.replace("\\|", "|"),
        }));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn spans_are_in_prose_tables_and_comments() {
        let document = "a `b c` d\n| `e\\|f` | `g` |\n```sh\nh `i` # j `k`\n```\n`l`\n";
        let found = spans(document).unwrap();
        let found: Vec<_> = found.iter().map(|s| (s.line, &*s.text)).collect();
        assert_eq!(
            found,
            [(1, "b c"), (2, "e|f"), (2, "g"), (4, "k"), (6, "l")]
        );
        spans("a `b\nc` d\n").unwrap_err();
    }
}
