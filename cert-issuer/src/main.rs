//! The `cert-issuer` process: flags, logs, the store in etcd, and then [`cert_issuer::run`], or one command for operators.

use std::sync::Arc;

use cert_issuer::authority::rotation::Step;
use cert_issuer::ca::Ca;
use cert_issuer::credential::{self, CredentialFlags};
use cert_issuer::{AuthorityFlags, Config, Listeners};
use clap::{Parser, Subcommand};
use store::etcd::{EtcdFlags, EtcdStore};

/// Signs the identities of workloads, and serves them over SDS
#[derive(Parser)]
#[command(version)]
struct Flags {
    #[command(flatten)]
    etcd: EtcdFlags,
    #[command(flatten)]
    log: telemetry::LogOptions,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one of it")]
enum Command {
    /// Serves identities
    Serve(#[command(flatten)] Config),
    /// Keeps a credential for a service of the control plane in a file
    Credential(#[command(flatten)] CredentialFlags),
    /// Encrypts the certificate authority anew, under the first key-encryption key
    Reencrypt(#[command(flatten)] AuthorityFlags),
    /// Replaces the issuing certificate now
    RotateIssuing(#[command(flatten)] AuthorityFlags),
    /// Prepares a new root now; it signs once it was shown to every proxy
    RotateRoot(#[command(flatten)] AuthorityFlags),
    /// Makes a new key that uploaded private keys are sealed with; those before it still open what they sealed
    RotateSealingKey(#[command(flatten)] AuthorityFlags),
    /// Distrusts a root at once, with everything it signed
    RevokeRoot {
        /// The root's name, as in the issuer's log
        name: String,
        #[command(flatten)]
        authority: AuthorityFlags,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    telemetry::forbid_core_dumps()?;
    let flags = Flags::parse();
    // Only fails if there is one already, which would do.
    drop(rustls::crypto::ring::default_provider().install_default());
    let traces = telemetry::init(&flags.log, "cert-issuer")?;
    let store = Arc::new(EtcdStore::new(flags.etcd.config(None)?));
    let (authority, step) = match flags.command {
        Command::Serve(config) => {
            let listeners = Listeners::bind(&config).await?;
            let shutdown = telemetry::shutdown_signal();
            let ended = cert_issuer::run(config, listeners, store, shutdown).await;
            traces.end().await;
            return Ok(ended?);
        }
        Command::Credential(flags) => return credential::make(&flags, &*store).await,
        Command::Reencrypt(authority) => (authority, None),
        Command::RotateIssuing(authority) => (authority, Some(Step::RotateIssuing)),
        Command::RotateRoot(authority) => (authority, Some(Step::PrepareRoot)),
        Command::RotateSealingKey(authority) => (authority, Some(Step::RotateSealingKey)),
        Command::RevokeRoot { name, authority } => (authority, Some(Step::RevokeRoot(name))),
    };
    authority.check()?;
    let policy = authority.policy();
    let ca = Ca::new(store, authority.keys()?, authority.trust_domain, policy);
    match step {
        Some(step) => drop(ca.force(&step).await?),
        None => drop(ca.reencrypt().await?),
    }
    tracing::info!("done");
    traces.end().await;
    Ok(())
}
