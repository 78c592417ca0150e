//! `weft-bench`: see [`weft_tests::bench`] and `docs/benchmarks.md`.

use clap::Parser;
use weft_tests::bench::{Flags, bench};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    bench(Flags::parse()).await
}
