//! `make up`: see [`weft_tests::up`].

use std::process::ExitCode;

use clap::Parser;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use weft_tests::up::{Flags, up};

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    // Should make be killed, this process is told to stop like by Ctrl-C.
    let followed = prctl::set_pdeathsig(Signal::SIGTERM);
    let outcome = match followed {
        Ok(()) => up(flags).await,
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
