//! `meshctl`: the command line of Weft. See [`meshctl`] for what it is made of.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("no other provider was installed before");
    meshctl::run(meshctl::Cli::parse()).await
}
