//! The process: flags, logs, the store in etcd, and then [`config_api::Server`].

use std::sync::Arc;

use clap::Parser;
use config_api::{Config, Server};
use store::etcd::{EtcdFlags, EtcdStore};

/// Weft's REST policy API
#[derive(Parser)]
#[command(version)]
struct Flags {
    #[command(flatten)]
    config: Config,
    #[command(flatten)]
    etcd: EtcdFlags,
    #[command(flatten)]
    log: telemetry::LogOptions,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    telemetry::forbid_core_dumps()?;
    let flags = Flags::parse();
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("the process has a TLS provider already"))?;
    let traces = telemetry::init(&flags.log, "config-api")?;
    let own = flags
        .config
        .identity
        .for_etcd()
        .map_err(anyhow::Error::msg)?;
    let store = Arc::new(EtcdStore::new(flags.etcd.config(own)?));
    let server = Server::bind(flags.config, store).await?;
    tracing::info!(address = %server.address(), "listening");
    let ended = server.run(telemetry::shutdown_signal()).await;
    traces.end().await;
    Ok(ended?)
}
