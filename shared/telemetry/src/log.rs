//! Logs: text on a terminal, JSON elsewhere.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text if standard error is a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One line of text per event.
    Text,
    /// One JSON object per event.
    Json,
}

/// The flags of logging, flattened into a service's own.
#[derive(Args, Clone, Debug)]
pub struct LogOptions {
    /// What to log: a level, or directives such as `info,xds=debug`
    #[arg(long, env = "WEFT_LOG", default_value = "info", global = true)]
    pub log: String,
    /// How log lines look
    #[arg(long, env = "WEFT_LOG_FORMAT", default_value = "auto", global = true)]
    pub log_format: Format,
}

/// Logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// `--log` holds no valid directives.
    #[error("--log {directives:?} is not a level or a list of target=level directives")]
    Directives {
        /// What was given.
        directives: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// The process has a subscriber already.
    #[error("logging was started twice")]
    Twice,
}

/// Starts logging to standard error.
///
/// # Errors
/// If the directives cannot be parsed, or logging was started before.
pub fn init(options: &LogOptions) -> Result<(), InitError> {
    let filter = EnvFilter::try_new(&options.log).map_err(|source| InitError::Directives {
        directives: options.log.clone(),
        source,
    })?;
    let json = match options.log_format {
        Format::Auto => !std::io::stderr().is_terminal(),
        Format::Text => false,
        Format::Json => true,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = if json {
        builder
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .try_init()
    } else {
        builder.try_init()
    };
    started.map_err(|_| InitError::Twice)
}
