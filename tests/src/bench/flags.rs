//! What is measured, and how much of it.

use clap::Parser;

use crate::mesh::Variant;

/// Measures a real etcd, config-api and xds-pusher with simulated Envoys, prints what it measured, and ends
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Flags {
    /// How many services there are
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub services: u32,
    /// How many endpoints each service has
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=250))]
    pub endpoints: u32,
    /// How many Envoys to simulate, one number after the other
    #[arg(long, value_delimiter = ',', default_value = "1,100,1000")]
    pub envoys: Vec<u32>,
    /// How many Envoys come all at once to a pusher that has just started; 0 leaves that out
    #[arg(long, default_value_t = 2000)]
    pub storm: u32,
    /// How many Envoys are on three pushers of which each is killed in turn; 0 leaves that out
    #[arg(long, default_value_t = 300)]
    pub recovery: u32,
    /// How many endpoints are moved, one after the other, under each number of Envoys
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=250))]
    pub changes: u32,
    /// How many streams share a connection: 1 is what Envoys do, 100 weighs streams with little of HTTP/2
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub streams_per_connection: u32,
    /// How the Envoys ask: `delta` or `sotw`
    #[arg(long, default_value = "delta", value_parser = variant)]
    pub variant: Variant,
    /// How long streams idle before they are weighed, in seconds
    #[arg(long, default_value_t = 5)]
    pub idle: u64,
}

fn variant(name: &str) -> Result<Variant, String> {
    let found = Variant::ALL.into_iter().find(|it| it.name() == name);
    found.ok_or_else(|| "expected `delta` or `sotw`".to_owned())
}
