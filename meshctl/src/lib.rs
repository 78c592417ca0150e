//! The command line of Weft for people: it turns arguments into calls of config-api and the answers into text.
//!
//! Arguments and files come in, HTTP requests go to config-api, tables, YAML and JSON go to standard output. What decides
//! ([`target`], [`manifest`], [`status`], [`render`]) is pure; [`client`] and [`commands`] are the thin shell around it.
//! *Invariant:* nothing here talks to etcd, a pusher or an Envoy, and nothing knows the columns of a kind: config-api does.

mod cli;
mod client;
mod commands;
mod credentials;
mod error;
mod input;
mod manifest;
mod output;
mod refusal;
mod render;
mod status;
mod style;
mod target;

#[cfg(test)]
mod docs;

use std::io;
use std::process::ExitCode;

pub use cli::Cli;
use error::Error;
use output::Output;

/// Runs one command and says how the process should exit; errors have been written to standard error by then.
pub async fn run(cli: Cli) -> ExitCode {
    let mut out = Output::standard(cli.global.color.into());
    let diff = matches!(cli.command, cli::Command::Diff(_));
    match commands::run(cli, &mut out).await {
        Ok(code) => code.into(),
        Err(Error::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            out.error(&error);
            error.exit(diff).into()
        }
    }
}
