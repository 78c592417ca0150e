//! The `xds-pusher` process: flags, logs, the store in etcd, and then [`xds_pusher::run`].

use std::sync::Arc;

use clap::Parser;
use store::etcd::{EtcdFlags, EtcdStore};
use xds_pusher::{Config, Listeners};

/// Watches the policy in etcd, compiles it for each Envoy and streams it over xDS
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
    // Only fails if there is one already, which would do.
    drop(rustls::crypto::ring::default_provider().install_default());
    let traces = telemetry::init(&flags.log, "xds-pusher")?;
    flags.config.check().map_err(anyhow::Error::msg)?;
    let own = flags
        .config
        .identity
        .for_etcd()
        .map_err(anyhow::Error::msg)?;
    let store = Arc::new(EtcdStore::new(flags.etcd.config(own)?));
    let listeners = Listeners::bind(&flags.config).await?;
    let ended = xds_pusher::run(flags.config, listeners, store, telemetry::shutdown_signal()).await;
    traces.end().await;
    Ok(ended?)
}
