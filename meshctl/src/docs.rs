//! Holds `docs/meshctl.md` to what the commands really take.

#![allow(clippy::unwrap_used)]

use clap::CommandFactory;

use crate::Cli;
use crate::error::Exit;

const PAGE: &str = include_str!("../../docs/meshctl.md");

#[test]
fn every_command_and_flag_is_on_the_page() {
    let root = Cli::command();
    let flags = |c: &clap::Command| {
        let visible = c
            .get_arguments()
            .filter(|a| !a.is_hide_set())
            .filter_map(|a| a.get_long().map(str::to_owned));
        visible.filter(|l| l != "help").collect::<Vec<_>>()
    };
    for flag in flags(&root) {
        assert!(
            PAGE.contains(&format!("| `--{flag}`")),
            "the global flag --{flag} has no row"
        );
    }
    for command in root.get_subcommands() {
        let name = command.get_name();
        let row = PAGE.lines().find(|l| l.starts_with(&format!("| `{name}")));
        let row = row.unwrap_or_else(|| panic!("the command {name} has no row"));
        for flag in flags(command) {
            assert!(
                row.contains(&format!("--{flag}")),
                "{name} takes --{flag}, its row does not say so"
            );
        }
        for part in command.get_subcommands() {
            let name = format!("{name} {}", part.get_name());
            let row = PAGE.lines().find(|l| l.starts_with(&format!("| `{name}")));
            let row = row.unwrap_or_else(|| panic!("the command {name} has no row"));
            for flag in flags(part) {
                assert!(
                    row.contains(&format!("--{flag}")),
                    "{name} takes --{flag}, its row does not say so"
                );
            }
        }
        for alias in command.get_visible_aliases() {
            assert!(
                row.contains(alias),
                "{name} is also {alias}, its row does not say so"
            );
        }
    }
}

#[test]
fn every_flag_on_the_page_exists() {
    let mut root = Cli::command();
    root.build();
    let known: Vec<String> = std::iter::once(&root)
        .chain(root.get_subcommands())
        .chain(root.get_subcommands().flat_map(|it| it.get_subcommands()))
        .flat_map(|c| {
            c.get_arguments()
                .filter_map(|a| a.get_long().map(|l| format!("--{l}")))
                .collect::<Vec<_>>()
        })
        .collect();
    for word in PAGE
        .split(|c: char| c.is_whitespace() || "`|[](),;=".contains(c))
        .filter(|w| w.starts_with("--") && w.len() > 2)
    {
        assert!(
            word.chars().all(|c| c == '-') || known.iter().any(|k| k == word),
            "{word} is no flag"
        );
    }
}

#[test]
fn every_exit_status_is_on_the_page() {
    for exit in [Exit::Success, Exit::Failure, Exit::Usage, Exit::Unavailable] {
        assert!(
            PAGE.contains(&format!("\n| {} |", exit as u8)),
            "{exit:?} has no row"
        );
    }
}
