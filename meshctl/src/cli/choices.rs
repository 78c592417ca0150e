//! The values that arguments may take.

use std::time::Duration;

use clap::ValueEnum;

use crate::output::{Colour, Structured};

/// When to use colours.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum When {
    Auto,
    Always,
    Never,
}

impl From<When> for Colour {
    fn from(when: When) -> Self {
        match when {
            When::Auto => Self::Auto,
            When::Always => Self::Always,
            When::Never => Self::Never,
        }
    }
}

/// What a proxy is in front of.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ProxyType {
    Sidecar,
    Gateway,
}

/// How an Envoy asks.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Variant {
    Delta,
    Sotw,
}

/// Whether a change is only checked. `kubectl` has it checked by the server or by itself; here only the server checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DryRun {
    None,
    Server,
}

impl DryRun {
    /// Whether nothing is to be changed.
    pub(crate) fn is_on(self) -> bool {
        self == Self::Server
    }
}

/// Structured output.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Form {
    Json,
    Yaml,
}

impl From<Form> for Structured {
    fn from(form: Form) -> Self {
        match form {
            Form::Json => Self::Json,
            Form::Yaml => Self::Yaml,
        }
    }
}

/// A table, or structured output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableForm {
    Table,
    Wide,
    Json,
    Yaml,
}

impl TableForm {
    /// The structured form, if it is one.
    pub(crate) fn structured(self) -> Option<Structured> {
        match self {
            Self::Table | Self::Wide => None,
            Self::Json => Some(Structured::Json),
            Self::Yaml => Some(Structured::Yaml),
        }
    }
}

/// How `get` shows resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GetForm {
    Table,
    Wide,
    Json,
    Yaml,
    Name,
}

/// The parts of a proxy's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    #[value(aliases = ["cluster", "c"])]
    Clusters,
    #[value(aliases = ["listener", "l"])]
    Listeners,
    #[value(aliases = ["route", "r"])]
    Routes,
    #[value(aliases = ["endpoint", "e", "ep"])]
    Endpoints,
    #[value(aliases = ["secret"])]
    Secrets,
    All,
}

/// `30`, `500ms`, `30s`, `2m`; more than nothing.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time such as 500ms, 30s or 2m");
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let milliseconds = match unit {
        "" | "s" => 1000,
        "ms" => 1,
        "m" => 60_000,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match number.checked_mul(milliseconds).filter(|n| *n > 0) {
        Some(total) => Ok(Duration::from_millis(total)),
        None => Err(wrong()),
    }
}

/// A claim, `NAME=VALUE`; the value is JSON, or else text.
pub(super) fn claim(text: &str) -> Result<(String, serde_json::Value), String> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or("must be NAME=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((name.to_owned(), value))
}

/// How many proxies get a change first: `true` for as many as the mesh says, `false` for all at once, or a number above 0.
pub(super) fn gradual(text: &str) -> Result<String, String> {
    let number = text.parse::<u32>().is_ok_and(|first| first > 0);
    match text {
        "true" | "false" => Ok(text.to_owned()),
        _ if number => Ok(text.to_owned()),
        _ => Err(
            "must be how many proxies get it first, a whole number above 0, or true or false"
                .into(),
        ),
    }
}
