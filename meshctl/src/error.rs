//! What can go wrong in a command, and the exit status that says so to a script.
//!
//! Modules have errors of their own; this one gathers them and maps each to an [`Exit`].
//! *Invariant:* nothing here is printed; [`crate::output::Output::error`] does that, once.

use std::io;
use std::process::ExitCode;

use crate::render::{explain, proxies};
use crate::{client, credentials, input, manifest, target};

/// The exit statuses of `meshctl`, as documented in `docs/meshctl.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; with `diff`, nothing would change.
    Success = 0,
    /// The server refused, or what was asked for does not exist; with `diff`, something would change; with `authz check`, not allowed.
    Failure = 1,
    /// The arguments or an input file are wrong; with `diff`, the server refused.
    Usage = 2,
    /// The server cannot be reached, did not answer in time, or failed.
    Unavailable = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// An argument names no resource.
    #[error(transparent)]
    Target(#[from] target::Error),
    /// Arguments that parse but do not go together.
    #[error("{0}")]
    Usage(String),
    /// A file could not be read.
    #[error(transparent)]
    Input(#[from] input::Error),
    /// A file could not be parsed.
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
    /// The server could not be asked, or refused.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// The credentials cannot be used.
    #[error(transparent)]
    Credentials(#[from] credentials::Error),
    /// An argument names no field.
    #[error(transparent)]
    Explain(#[from] explain::Error),
    /// An argument names no proxy.
    #[error(transparent)]
    Proxy(#[from] proxies::Error),
    /// The server refused documents; the places in the files are known.
    #[error("{0}")]
    Refused(String),
    /// What was asked for does not exist, or is in a bad state.
    #[error("{0}")]
    Failed(String),
    /// Standard output was closed or is full.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl Error {
    /// The exit status; `diff` has its own meaning for 1.
    pub(crate) fn exit(&self, diff: bool) -> Exit {
        match self {
            Self::Target(_)
            | Self::Explain(_)
            | Self::Usage(_)
            | Self::Credentials(_)
            | Self::Input(_)
            | Self::Manifest(_) => Exit::Usage,
            Self::Client(client::Error::Url(_) | client::Error::Credentials(_)) => Exit::Usage,
            Self::Client(e) if e.is_unavailable() => Exit::Unavailable,
            _ if diff => Exit::Usage,
            _ => Exit::Failure,
        }
    }
}
