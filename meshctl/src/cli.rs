//! The arguments of `meshctl`: what can be said, and the help for it.
//!
//! *Invariant:* nothing here acts; a field is what was typed or what the environment says, and its default.

mod choices;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueHint};

use crate::credentials;
pub(crate) use choices::{DryRun, Form, GetForm, Part, ProxyType, TableForm, Variant, When};

const AFTER: &str = "Exit status: 0 done; 1 the server refused or it does not exist (diff: something differs); \
2 wrong arguments or input (diff: also what the server refused); 3 the server is unreachable or failed.";

/// The command line of the Weft service mesh.
#[derive(Debug, Parser)]
#[command(name = "meshctl", version, about, after_help = AFTER, disable_version_flag = true, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) global: Global,
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// Where config-api listens
    #[arg(long, short = 's', global = true, env = "WEFT_SERVER", value_name = "URL", default_value = "http://127.0.0.1:8080", value_hint = ValueHint::Url)]
    pub(crate) server: String,
    /// The namespace [default: default]
    #[arg(
        long,
        short = 'n',
        global = true,
        env = "WEFT_NAMESPACE",
        value_name = "NAME"
    )]
    pub(crate) namespace: Option<String>,
    /// Colours; NO_COLOR is honoured
    #[arg(
        long,
        global = true,
        env = "WEFT_COLOR",
        value_name = "WHEN",
        default_value = "auto"
    )]
    pub(crate) color: When,
    /// How long to wait for an answer, in seconds or as in 500ms, 30s, 2m
    #[arg(long, global = true, env = "WEFT_REQUEST_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = choices::duration)]
    pub(crate) request_timeout: Duration,
    #[command(flatten)]
    pub(crate) credentials: credentials::Flags,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create or change the resources of manifests, all of them or none
    Apply(Apply),
    /// Wait until a revision has reached every connected proxy; exits 1 if one refuses it, or the time is up
    Wait(Wait),
    /// Show changes that are delivered gradually; send them to everybody, or take them back
    #[command(subcommand)]
    Rollout(Rollout),
    /// Show resources
    Get(Get),
    /// Show everything about a resource: its spec, what proxies make of it, its history
    #[command(visible_alias = "desc")]
    Describe(Describe),
    /// Delete resources
    Delete(Delete),
    /// Show what apply would change; exits 1 if it would change something
    Diff(Diff),
    /// Explain a kind or a field of it
    Explain(Explain),
    /// Show who changed what, newest first
    History(History),
    /// Undo changes, in one revision
    Rollback(Rollback),
    /// Print an Envoy bootstrap of a workload, with a new credential in it
    Bootstrap(Bootstrap),
    /// Show or revoke the credentials of a workload
    #[command(subcommand)]
    Credentials(WorkloadCredentials),
    /// Ask what the authorization policies make of a call
    #[command(subcommand)]
    Authz(Authorization),
    /// Show, rotate or revoke what the certificate authority signs with
    #[command(subcommand)]
    Ca(Ca),
    /// Show which proxies run the current configuration, which are behind, and which refused it
    #[command(visible_alias = "ps")]
    ProxyStatus(ProxyStatus),
    /// Show the configuration that was compiled for a proxy
    #[command(visible_alias = "pc")]
    ProxyConfig(ProxyConfig),
    /// Show the pushers, and how many proxies each of them serves
    Shards(Shards),
    /// Show which services take mutual TLS or plaintext, by which policy, and which proxies said so
    Mtls(Mtls),
    /// Show the versions of meshctl and of the server
    Version(Version),
    /// Print a completion script: meshctl completion bash > /etc/bash_completion.d/meshctl
    Completion(Completion),
}

/// Manifests to work on.
#[derive(Debug, Args)]
pub(crate) struct Files {
    /// A file, a folder (read at every depth) or - for standard input; may be repeated
    #[arg(long = "filename", short = 'f', value_name = "FILE|DIR|-", required = true, value_hint = ValueHint::AnyPath)]
    pub(crate) filename: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) files: Files,
    /// Let the server check everything and change nothing
    #[arg(long, value_name = "WHERE", num_args = 0..=1, require_equals = true, default_missing_value = "server", default_value = "none", hide_default_value = true)]
    pub(crate) dry_run: DryRun,
    /// Give it to a few proxies first, and to all others when these run it
    #[arg(long, value_name = "PROXIES", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = choices::gradual)]
    pub(crate) gradual: Option<String>,
    /// Take it back if one of them refuses it, or does not run it in time; otherwise it stops there
    #[arg(long)]
    pub(crate) rollback: bool,
    /// How long they have to run it [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = choices::duration)]
    pub(crate) deadline: Option<Duration>,
    /// Wait until every connected proxy runs it
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) wait: bool,
    /// How long to wait for that
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = choices::duration)]
    pub(crate) timeout: Duration,
    /// The answer as it is
    #[arg(long, short)]
    pub(crate) output: Option<Form>,
}

#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// The revision, as apply and history show it
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) revision: i64,
    /// How long to wait at most
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = choices::duration)]
    pub(crate) timeout: Duration,
    /// The answer as it is
    #[arg(long, short)]
    pub(crate) output: Option<Form>,
}

/// What to do with changes that are delivered gradually.
#[derive(Debug, Subcommand)]
pub(crate) enum Rollout {
    /// Show those that are under way, and those that were, newest first
    List(RolloutList),
    /// Show how far one is: who has it, and why it stopped
    Get(RolloutGet),
    /// Send it to everybody
    Continue(RolloutNamed),
    /// Take it back from whoever has it
    Abort(RolloutNamed),
}

#[derive(Debug, Args)]
pub(crate) struct RolloutList {
    /// How to show them
    #[arg(long, short, default_value = "table")]
    pub(crate) output: TableForm,
}

#[derive(Debug, Args)]
pub(crate) struct RolloutNamed {
    /// The revision of the change
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) revision: i64,
}

#[derive(Debug, Args)]
pub(crate) struct RolloutGet {
    /// The revision of the change
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) revision: i64,
    /// The answer as it is
    #[arg(long, short)]
    pub(crate) output: Option<Form>,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// KIND[,KIND] [NAME…], KIND/NAME…, or all
    #[arg(required = true, value_name = "KIND|KIND/NAME")]
    pub(crate) targets: Vec<String>,
    /// In all namespaces
    #[arg(long, short = 'A')]
    pub(crate) all_namespaces: bool,
    /// Only with these labels, such as app=reviews,version!=v1
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// How to show them
    #[arg(long, short, default_value = "table")]
    pub(crate) output: GetForm,
    /// Keep showing changes as they happen
    #[arg(long, short)]
    pub(crate) watch: bool,
    /// Leave out the header of tables
    #[arg(long)]
    pub(crate) no_headers: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Describe {
    /// KIND NAME… or KIND/NAME…
    #[arg(required = true, value_name = "KIND/NAME")]
    pub(crate) targets: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// KIND NAME… or KIND/NAME…
    #[arg(
        required_unless_present = "filename",
        conflicts_with = "filename",
        value_name = "KIND/NAME"
    )]
    pub(crate) targets: Vec<String>,
    /// What these manifests name: a file, a folder or -
    #[arg(long, short = 'f', value_name = "FILE|DIR|-", value_hint = ValueHint::AnyPath)]
    pub(crate) filename: Vec<PathBuf>,
    /// Do not mind what is not there
    #[arg(long)]
    pub(crate) ignore_not_found: bool,
    /// Let the server check and delete nothing
    #[arg(long, value_name = "WHERE", num_args = 0..=1, require_equals = true, default_missing_value = "server", default_value = "none", hide_default_value = true)]
    pub(crate) dry_run: DryRun,
}

#[derive(Debug, Args)]
pub(crate) struct Diff {
    #[command(flatten)]
    pub(crate) files: Files,
    /// Show as well what would change of what the connected proxies are told
    #[arg(long)]
    pub(crate) xds: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// KIND or KIND.FIELD, such as vs.http.route
    #[arg(value_name = "KIND[.FIELD]")]
    pub(crate) field: String,
}

#[derive(Debug, Args)]
pub(crate) struct History {
    /// Only of this resource: KIND NAME or KIND/NAME
    #[arg(value_name = "KIND/NAME")]
    pub(crate) target: Vec<String>,
    /// How many changes at most
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    /// The answer as it is
    #[arg(long, short)]
    pub(crate) output: Option<Form>,
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// Only this resource: KIND NAME or KIND/NAME; without it, everything
    #[arg(value_name = "KIND/NAME")]
    pub(crate) target: Vec<String>,
    /// The revision to go back to, as history shows it; without it, the one before the last change
    #[arg(long, value_name = "REVISION")]
    pub(crate) to: Option<i64>,
    /// The generation to bring this one resource back to, as history shows it
    #[arg(
        long,
        value_name = "GENERATION",
        conflicts_with = "to",
        requires = "target"
    )]
    pub(crate) to_generation: Option<i64>,
    /// Show what would change
    #[arg(long, value_name = "WHERE", num_args = 0..=1, require_equals = true, default_missing_value = "server", default_value = "none", hide_default_value = true)]
    pub(crate) dry_run: DryRun,
    /// The answer as it is
    #[arg(long, short)]
    pub(crate) output: Option<Form>,
}

#[derive(Debug, Args)]
pub(crate) struct Bootstrap {
    /// The name of its WorkloadEntry
    pub(crate) workload: String,
    /// What the proxy is; by default a gateway, if a Gateway selects the workload, and otherwise a sidecar
    #[arg(long, value_name = "TYPE")]
    pub(crate) r#type: Option<ProxyType>,
    /// How it asks for its configuration: differences, or the state of the world
    #[arg(long, default_value = "delta")]
    pub(crate) variant: Variant,
    /// Where its admin interface listens
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub(crate) admin_address: IpAddr,
    /// The port of its admin interface
    #[arg(long, value_name = "PORT", default_value_t = 9901)]
    pub(crate) admin_port: u16,
    /// As JSON or YAML
    #[arg(long, short, default_value = "yaml")]
    pub(crate) output: Form,
}

/// What to do with the certificate authority.
#[derive(Debug, Subcommand)]
pub(crate) enum Ca {
    /// Show roots, issuing certificate and keys of tokens
    Status(CaStatus),
    /// Replace the issuing certificate now
    RotateIssuing,
    /// Prepare a new root now; it signs once it was shown to every proxy
    RotateRoot,
    /// Distrust a root at once, with everything it signed; connections may fail until everybody has new certificates
    RevokeRoot {
        /// The root, as the status shows it
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CaStatus {
    /// How to show it
    #[arg(long, short, default_value = "table")]
    pub(crate) output: TableForm,
}

#[derive(Debug, Args)]
pub(crate) struct Shards {
    /// How to show it; json and yaml name the proxies
    #[arg(long, short, default_value = "table")]
    pub(crate) output: TableForm,
}

/// What to do with the credentials that bootstraps gave to a workload.
#[derive(Debug, Subcommand)]
pub(crate) enum WorkloadCredentials {
    /// Show those that are valid, oldest first; never what they are
    List(ListCredentials),
    /// Revoke credentials: who holds one loses its streams at once, and gets no certificate any more
    Revoke(RevokeCredentials),
}

#[derive(Debug, Args)]
pub(crate) struct ListCredentials {
    /// The name of its WorkloadEntry
    pub(crate) workload: String,
    /// How to show them
    #[arg(long, short, default_value = "table")]
    pub(crate) output: TableForm,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeCredentials {
    /// The name of its WorkloadEntry
    pub(crate) workload: String,
    /// Which, as the list shows them
    #[arg(required_unless_present = "all", value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// All of the workload
    #[arg(long, conflicts_with = "ids")]
    pub(crate) all: bool,
}

/// What to ask of the authorization policies.
#[derive(Debug, Subcommand)]
pub(crate) enum Authorization {
    /// Show whether a call would be allowed, rule by rule; exits 1 if it would not be everywhere
    Check(CheckCall),
}

#[derive(Debug, Args)]
pub(crate) struct CheckCall {
    /// The caller: TRUSTDOMAIN/ns/NAMESPACE/sa/ACCOUNT, NAMESPACE/ACCOUNT, or a workload; without it, nobody, over plaintext
    #[arg(long, value_name = "WHO")]
    pub(crate) from: Option<String>,
    /// The caller's address [default: its workload's]
    #[arg(long, value_name = "IP")]
    pub(crate) from_ip: Option<IpAddr>,
    /// The service HOST[:PORT], or the workload NAMESPACE/NAME[:PORT]
    #[arg(long, value_name = "WHERE")]
    pub(crate) to: String,
    /// The method of the request; without any part of a request, a connection is judged
    #[arg(long, value_name = "METHOD")]
    pub(crate) method: Option<String>,
    /// The path of the request
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Option<String>,
    /// The host of the request [default: the service's]
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// A header of the request, as in 'x-role: admin'; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    /// A claim of its token, as JSON or text; may be repeated
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = choices::claim)]
    pub(crate) claims: Vec<(String, serde_json::Value)>,
    /// How to show it
    #[arg(long, short, default_value = "table")]
    pub(crate) output: TableForm,
}

#[derive(Debug, Args)]
pub(crate) struct ProxyStatus {
    /// Only this proxy, in detail: its node id, its workload, or workload.namespace
    pub(crate) proxy: Option<String>,
    /// How to show them
    #[arg(long, short, default_value = "table")]
    pub(crate) output: TableForm,
}

#[derive(Debug, Args)]
pub(crate) struct ProxyConfig {
    /// Which part of it
    pub(crate) part: Part,
    /// The proxy: its node id, its workload, or workload.namespace
    pub(crate) proxy: String,
    /// How to show it; json and yaml show the resources as Envoy got them
    #[arg(long, short, default_value = "table")]
    pub(crate) output: TableForm,
}

#[derive(Debug, Args)]
pub(crate) struct Mtls {
    /// Only this service: its host, or the beginning of it up to a dot
    pub(crate) service: Option<String>,
    /// How to show it
    #[arg(long, short, default_value = "table")]
    pub(crate) output: TableForm,
}

#[derive(Debug, Args)]
pub(crate) struct Version {
    /// Do not ask the server
    #[arg(long)]
    pub(crate) client: bool,
    /// As JSON or YAML
    #[arg(long, short)]
    pub(crate) output: Option<Form>,
}

#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests;
