//! The blocks of commands in a document.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};

/// Where a block of commands is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Beside `make up`.
    Native,
    /// Beside `docker compose up`.
    Compose,
    /// On a machine with systemd, as root.
    Machine,
    /// As `make --dry-run`: what starts the stack, or these tests, cannot run inside them.
    Make,
    /// Nowhere: it takes too long, or servers of one's own. What it names is checked.
    Checked,
}

impl Place {
    fn of(word: &str) -> Result<Self> {
        Ok(match word {
            "native" => Self::Native,
            "compose" => Self::Compose,
            "machine" => Self::Machine,
            "make" => Self::Make,
            "checked" => Self::Checked,
            other => {
                bail!(
                    "{other:?} is not a place of commands: native, compose, machine, make or checked"
                )
            }
        })
    }
}

/// One block of commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The line of its fence, from 1.
    pub line: usize,
    /// Where it is run.
    pub places: BTreeSet<Place>,
    /// What is run.
    pub commands: String,
    /// What it shows, by line.
    pub output: Vec<String>,
}

/// What stands for anything.
pub(super) const ANYTHING: char = '…';

/// The languages of blocks that are not commands.
const OTHERS: [&str; 8] = ["", "text", "yaml", "json", "rust", "mermaid", "diff", "ini"];

/// The blocks of commands of a document.
///
/// # Errors
/// If a fence is of no known class, or is not closed; the message names its line.
pub fn blocks(document: &str) -> Result<Vec<Block>> {
    let mut found: Vec<Block> = Vec::new();
    let mut lines = (1..).zip(document.lines());
    // Whether a `text` that comes now is the output of the last block.
    let mut follows = false;
    while let Some((line, text)) = lines.next() {
        let Some(info) = text.trim_start().strip_prefix("```") else {
            follows &= text.trim().is_empty();
            continue;
        };
        let mut body = String::new();
        loop {
            let (_, text) = lines
                .next()
                .with_context(|| format!("line {line}: the block has no end"))?;
            if text.trim() == "```" {
                break;
            }
            body.push_str(text);
            body.push('\n');
        }
        let mut words = info.split_whitespace();
        match words.next().unwrap_or_default() {
            "sh" => {
                let mut places = words
                    .map(Place::of)
                    .collect::<Result<BTreeSet<_>>>()
                    .with_context(|| format!("line {line}"))?;
                if places.is_empty() {
                    places = [Place::Native, Place::Compose].into();
                }
                found.push(Block {
                    line,
                    places,
                    commands: body,
                    output: Vec::new(),
                });
                follows = true;
                continue;
            }
            "text" if follows => {
                let block = found.last_mut().context("an output follows commands")?;
                block.output = body.lines().map(words_of).collect();
            }
            other if OTHERS.contains(&other) => {}
            other => bail!(
                "line {line}: a block of class {other:?}; commands are `sh`, which tests run, and nothing else is taken but {OTHERS:?}"
            ),
        }
        follows = false;
    }
    Ok(found)
}

/// The first of the expected lines that is not where it belongs in an output.
pub(super) fn missing<'a>(expected: &'a [String], output: &str) -> Option<&'a str> {
    let mut lines = output.lines().map(words_of);
    expected
        .iter()
        .map(String::as_str)
        .find(|line| !lines.any(|found| matches(line, &found)))
}

/// A line with single spaces.
fn words_of(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a line is as expected.
fn matches(expected: &str, line: &str) -> bool {
    let mut parts = expected.split(ANYTHING).map(str::trim);
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    let mut last = first;
    let mut open = false;
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
        (last, open) = (part, true);
    }
    rest.is_empty() || (open && (last.is_empty() || line.ends_with(last)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_block_has_a_class() {
        let document = "# T\n```sh\na\n```\n\n```text\nx  y\n```\n```sh native make\nb\nc\n```\nand\n```text\nno output\n```\n";
        let found = blocks(document).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].line, &*found[0].commands), (2, "a\n"));
        assert_eq!(found[0].places, [Place::Native, Place::Compose].into());
        assert_eq!(found[0].output, ["x y"]);
        assert_eq!(found[1].places, [Place::Native, Place::Make].into());
        assert_eq!((&*found[1].commands, found[1].output.len()), ("b\nc\n", 0));
        for bad in [
            "```sh nowhere\n```\n",
            "```bash\n```\n",
            "```console\n```\n",
            "```sh\na\n",
        ] {
            blocks(bad).unwrap_err();
        }
    }

    #[test]
    fn an_output_is_lines_in_order() {
        let output = "one  two\nthree four five\nsix\n";
        let missing = |expected: &[&str]| {
            let expected: Vec<String> = expected.iter().map(|l| (*l).to_owned()).collect();
            missing(&expected, output).map(ToOwned::to_owned)
        };
        for good in [
            &["one two", "six"][..],
            &["three … five"],
            &["… five"],
            &["three …", "six"],
            &["…wo"],
            &["…", "six"],
            &[],
        ] {
            assert_eq!(missing(good), None, "{good:?}");
        }
        for bad in [
            &["six", "one two"][..],
            &["one"],
            &["two"],
            &["three … four"],
            &["… four … three … five"],
            &["six", "…"],
        ] {
            assert!(missing(bad).is_some(), "{bad:?}");
        }
    }
}
