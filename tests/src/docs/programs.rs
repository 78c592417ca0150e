//! What programs take, by what their own `--help` says.
//!
//! *Invariant:* nothing here is written down a second time; a flag that a program loses is unknown here at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

/// A program, or a command of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// Flags with their dashes (`--file`, `-f`); whether the next word is their value.
    flags: BTreeMap<String, bool>,
    commands: BTreeMap<String, Program>,
    /// Whether it takes words that are not flags.
    arguments: bool,
    variables: BTreeSet<String>,
}

impl Program {
    /// Asks a program, and each of its commands, for its help.
    ///
    /// # Errors
    /// If it cannot be run, or has none.
    pub fn ask(path: &Path) -> Result<Self> {
        Self::of(path, &[])
    }

    fn of(path: &Path, words: &[&str]) -> Result<Self> {
        let mut command = Command::new(path);
        command.args(words).arg("--help").env("NO_COLOR", "1");
        let output = command
            .output()
            .with_context(|| path.display().to_string())?;
        ensure!(output.status.success(), "{words:?}: {output:?}");
        let (mut program, commands) = Self::parse(&String::from_utf8_lossy(&output.stdout));
        for (name, alias) in commands {
            let of = Self::of(path, &[words, &[&*name]].concat())?;
            program
                .commands
                .extend(alias.map(|alias| (alias, of.clone())));
            program.commands.insert(name, of);
        }
        Ok(program)
    }

    /// What one page of help says, and the commands it names, with an alias each may have.
    pub(super) fn parse(help: &str) -> (Self, Vec<(String, Option<String>)>) {
        let mut program = Self::default();
        let mut commands: Vec<(String, Option<String>)> = Vec::new();
        let mut heading = "";
        for line in help.lines() {
            let text = line.trim_start();
            let indent = line.len() - text.len();
            if indent == 0 {
                heading = text;
            }
            match heading {
                "Arguments:" => program.arguments = true,
                "Commands:" if indent == 2 => {
                    let name = text.split_whitespace().next().unwrap_or_default();
                    if name != "help" {
                        commands.push((name.to_owned(), None));
                    }
                }
                _ if (1..8).contains(&indent) && text.starts_with('-') => program.flag(text),
                _ => {}
            }
            if heading == "Commands:"
                && let Some((_, alias)) = line.split_once("[alias: ")
                && let Some((_, of)) = commands.last_mut()
            {
                *of = Some(alias.trim_end_matches(']').to_owned());
            }
        }
        let all = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let variables = all.split("[env: ").skip(1);
        let variables = variables.filter_map(|rest| rest.split(['=', ']']).next());
        program.variables = variables.map(str::to_owned).collect();
        (program, commands)
    }

    /// Takes a line of help such as `-f, --file <FILE>  A file`.
    fn flag(&mut self, line: &str) {
        let named = line.split("  ").next().unwrap_or_default();
        let valued = named.contains(" <");
        for name in named.split(", ") {
            let name = name.split([' ', '=', '[']).next().unwrap_or_default();
            self.flags.insert(name.to_owned(), valued);
        }
    }

    /// Whether it, or a command of it, has a flag.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.contains_key(flag) || self.commands.values().any(|c| c.has(flag))
    }

    /// The environment variables that it reads, with those of its commands.
    pub fn variables(&self) -> BTreeSet<&str> {
        let of_commands = self.commands.values().flat_map(Self::variables);
        let own = self.variables.iter().map(String::as_str);
        own.chain(of_commands).collect()
    }

    /// Whether it takes these words, which follow its name.
    ///
    /// # Errors
    /// If there is no such command or flag; the message names it.
    pub fn takes(&self, words: &[String]) -> Result<()> {
        let mut program = self;
        let mut words = words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            if let Some(operator) = redirection(word) {
                if operator == word {
                    words.next();
                }
            } else if word == "--" {
                return Ok(());
            } else if word.starts_with('-') && word.len() > 1 {
                let (name, value) = word.split_once('=').unwrap_or((word, ""));
                let Some(valued) = program.flags.get(name) else {
                    bail!("there is no flag {name:?}");
                };
                if *valued && value.is_empty() && words.next().is_none() {
                    bail!("{name} needs a value");
                }
            } else if let Some(command) = program.commands.get(word) {
                program = command;
            } else if !program.commands.is_empty() {
                let stands_for_one = word == "…" || word == "COMMAND";
                ensure!(stands_for_one, "there is no command {word:?}");
                return Ok(());
            } else {
                ensure!(program.arguments, "it takes no {word:?}");
            }
        }
        Ok(())
    }
}

/// The operator at the beginning of a word that redirects, such as `2>`.
fn redirection(word: &str) -> Option<&str> {
    let operator = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let operator = operator.len() - operator.trim_start_matches(['<', '>']).len();
    let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    // `<name>` stands for a name.
    (operator > 0 && !word.ends_with('>') || word.ends_with('>') && word.len() == digits + operator)
        .then(|| &word[..digits + operator])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HELP: &str = "A program\n\nUsage: p [OPTIONS] <COMMAND>\n\nCommands:\n  apply  Applies\n  show   Shows, in many words,\n         --not-a-flag \
                        [alias: sh]\n  help   Print\n\nOptions:\n  -f, --file <FILE>  A file [env:\n                     P_FILE=]\n      --dry-run[=<WHERE>]\n          \
                        See --nothing [env: P_DRY]\n  -h, --help\n";

    #[test]
    fn help_says_what_a_program_takes() {
        let (mut program, commands) = Program::parse(HELP);
        let name = |name: &str| name.to_owned();
        assert_eq!(
            commands,
            [(name("apply"), None), (name("show"), Some(name("sh")))]
        );
        assert_eq!(program.variables(), ["P_DRY", "P_FILE"].into());
        let flags: Vec<_> = program.flags.iter().map(|(n, v)| (&**n, *v)).collect();
        assert_eq!(
            flags,
            [
                ("--dry-run", false),
                ("--file", true),
                ("--help", false),
                ("-f", true),
                ("-h", false)
            ]
        );
        let (command, _) = Program::parse("Arguments:\n  [NAME]\n\nOptions:\n      --to <X>\n");
        program.commands.insert("apply".into(), command);
        program.commands.insert("show".into(), Program::default());
        let takes = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            program.takes(&words)
        };
        for good in [
            "",
            "--dry-run=x apply",
            "-f apply apply NAME --to apply >out 2> err",
            "apply <name>",
            "--help",
            "COMMAND --help",
            "apply -- --anything",
        ] {
            takes(good).unwrap();
        }
        for bad in [
            "apple",
            "--dry",
            "apply --file x",
            "--file",
            "show NAME",
            "--not-a-flag",
            "--nothing",
            "-x",
        ] {
            assert!(takes(bad).is_err(), "{bad}");
        }
        assert!(program.has("--to") && !program.has("--nothing"));
    }
}
