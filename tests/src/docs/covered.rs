//! Commands that a document names in passing, and whether a block that is run has them.
//!
//! *Invariant:* where every command is run, a code span of several words is a command, unless it compares (an expression of Prometheus).

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};

use super::blocks::{ANYTHING, blocks};
use super::{prose, words};

/// Commands that no block has, and what runs them.
const NOT_RUN: [(&str, &str); 2] = [
    (
        "cargo build --release",
        "the Dockerfile; the test of the machine puts there what was built",
    ),
    (
        "docker compose down --volumes",
        "the test of the containers, at its end",
    ),
];

/// What is named in documents, name and text each, and is in no block of any of them that is run: where, and which.
///
/// # Errors
/// If a document cannot be read as one.
pub fn not_run(documents: &[(&str, String)]) -> Result<Vec<String>> {
    let mut run = BTreeSet::new();
    for (name, text) in documents {
        for block in blocks(text).with_context(|| (*name).to_owned())? {
            run.extend(words::commands(&block.commands));
        }
    }
    let exempt = NOT_RUN.map(|(command, _)| words::commands(command));
    let mut wrong = Vec::new();
    for (name, text) in documents {
        for span in prose::spans(text).with_context(|| (*name).to_owned())? {
            let text = &span.text;
            let expression = [" > ", " < ", " == "].iter().any(|it| text.contains(it));
            if expression || !text.contains(' ') {
                continue;
            }
            let named = words::commands(text);
            let is_run = named
                .iter()
                .all(|named| run.iter().any(|run| has(run, named)));
            if !(is_run || exempt.contains(&named)) {
                let line = span.line;
                wrong.push(format!("{name}:{line}: no block runs `{text}`"));
            }
        }
    }
    Ok(wrong)
}

/// Whether a command that is run has all the words of another, in their order. A word in capitals stands for any.
fn has(run: &[String], named: &[String]) -> bool {
    let (Some((program, run)), Some((named_program, named))) =
        (run.split_first(), named.split_first())
    else {
        return false;
    };
    let mut run = run.iter();
    let any = |word: &str| word.contains(ANYTHING) || word.chars().all(|c| c.is_ascii_uppercase());
    program == named_program
        && named
            .iter()
            .all(|word| run.any(|found| found == word || any(word)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_command_in_passing_is_one_that_is_run() {
        let wrong = |prose: &str| {
            let blocks = "```sh\nsudo make up ARGS='--api 1'\nmeshctl get vs \"$(meshctl ca status)\" -n shop\n```\n";
            not_run(&[("a.md", prose.to_owned()), ("b.md", blocks.to_owned())]).unwrap()
        };
        for good in [
            "`make up`",
            "`make up ARGS='--api 1'`",
            "`meshctl get -n shop`",
            "`meshctl get NAME`",
            "`meshctl ca status | meshctl get`",
            "`rate(x[5m]) > 0`, `a < b`",
            "`meshctl`, `x-user`, `--flag`",
            "`cargo build --release`",
        ] {
            assert_eq!(wrong(good), [""; 0], "{good}");
        }
        for bad in [
            "`make down`",
            "`make up ARGS=--other`",
            "`meshctl get -n shop --watch`",
            "`meshctl status ca`",
            "`meshctl ca status extra`",
            "`make up | tee log`",
            "`helm install weft`",
            "`helm get vs -n shop`",
            "`down --volumes`",
            "| a | `meshctl forget me` |",
            "```sh\nmeshctl get # or `meshctl forget me`\n```",
            "`cargo build --release --all`",
        ] {
            assert_eq!(wrong(bad).len(), 1, "{bad}");
        }
        assert_eq!(
            wrong("a\n`make down`"),
            ["a.md:2: no block runs `make down`"]
        );
    }
}
