//! The commands: each asks the server, hands the answer to [`crate::render`] and writes the text.
//!
//! *Invariant:* a command decides what to ask for, never how something looks.

mod apply;
mod authority;
mod authz;
mod bootstrap;
mod credentials;
mod delete;
mod describe;
mod diff;
mod get;
mod hint;
mod history;
mod mtls;
mod proxies;
mod rollout;
mod shards;
mod version;
mod wait;
mod watch;

use clap::CommandFactory;

use crate::cli::{Cli, Command};
use crate::client::{Answer, Client, Request};
use crate::credentials::Credentials;
use crate::error::{Error, Exit};
use crate::output::Output;
use crate::render::explain;

/// What every command works with.
pub(crate) struct Context<'a> {
    client: Client,
    out: &'a mut Output,
    /// The namespace, if the command line or the environment names one.
    explicit: Option<String>,
}

impl Context<'_> {
    /// The namespace to work in.
    fn namespace(&self) -> &str {
        self.explicit.as_deref().unwrap_or("default")
    }

    /// Sends a request and passes the server's warnings on.
    async fn send(&mut self, request: Request) -> Result<Answer, Error> {
        let answer = self.client.send(request).await?;
        for warning in &answer.warnings {
            self.out.warning(warning);
        }
        Ok(answer)
    }
}

/// Runs a command.
///
/// # Errors
/// As the command.
pub(crate) async fn run(cli: Cli, out: &mut Output) -> Result<Exit, Error> {
    let credentials = Credentials::read(&cli.global.credentials)?;
    let client = Client::new(&cli.global.server, cli.global.request_timeout, &credentials)?;
    let mut context = Context {
        client,
        out,
        explicit: cli.global.namespace.filter(|n| !n.is_empty()),
    };
    match cli.command {
        Command::Apply(apply) => apply::run(&mut context, &apply).await,
        Command::Wait(wanted) => wait::run(&mut context, &wanted).await,
        Command::Rollout(what) => rollout::run(&mut context, &what).await,
        Command::Get(get) => get::run(&mut context, &get).await,
        Command::Describe(describe) => describe::run(&mut context, &describe).await,
        Command::Delete(delete) => delete::run(&mut context, &delete).await,
        Command::Diff(diff) => diff::run(&mut context, &diff).await,
        Command::Explain(explain) => {
            let page = explain::page(&explain.field, context.out.style)?;
            context.out.text(&page)?;
            Ok(Exit::Success)
        }
        Command::History(history) => history::run(&mut context, &history).await,
        Command::Rollback(rollback) => history::rollback(&mut context, &rollback).await,
        Command::Bootstrap(bootstrap) => bootstrap::run(&mut context, &bootstrap).await,
        Command::Ca(ca) => authority::run(&mut context, &ca).await,
        Command::Credentials(what) => credentials::run(&mut context, &what).await,
        Command::Authz(what) => authz::run(&mut context, &what).await,
        Command::ProxyStatus(status) => proxies::status(&mut context, &status).await,
        Command::ProxyConfig(config) => proxies::config(&mut context, &config).await,
        Command::Shards(wanted) => shards::run(&mut context, &wanted).await,
        Command::Mtls(wanted) => mtls::run(&mut context, &wanted).await,
        Command::Version(version) => version::run(&mut context, &version).await,
        Command::Completion(completion) => {
            let mut script = Vec::new();
            clap_complete::generate(
                completion.shell,
                &mut Cli::command(),
                "meshctl",
                &mut script,
            );
            context.out.text(&String::from_utf8_lossy(&script))?;
            Ok(Exit::Success)
        }
    }
}

#[cfg(test)]
mod tests;
