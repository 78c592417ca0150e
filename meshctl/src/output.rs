//! Where a command writes: results to standard output, everything about the work to standard error.
//!
//! *Invariant:* warnings, progress and errors never reach standard output, so that a pipe sees results only.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use crate::error::Error;
use crate::render;
use crate::style::{Style, Tone};

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    Auto,
    Always,
    Never,
}

impl Colour {
    /// Whether a stream gets colours. An empty `NO_COLOR` counts as unset (no-color.org).
    fn on(self, terminal: bool, no_color: Option<&str>, term: Option<&str>) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => terminal && no_color.is_none_or(str::is_empty) && term != Some("dumb"),
        }
    }
}

/// How structured results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Structured {
    Json,
    Yaml,
}

/// The two streams of a command.
pub(crate) struct Output {
    stdout: Box<dyn Write>,
    stderr: Box<dyn Write>,
    /// For standard output.
    pub(crate) style: Style,
    error_style: Style,
    progress: bool,
}

impl Output {
    /// The process's own streams.
    pub(crate) fn standard(colour: Colour) -> Self {
        let (no_color, term) = (std::env::var("NO_COLOR").ok(), std::env::var("TERM").ok());
        let on = |terminal| Style {
            colour: colour.on(terminal, no_color.as_deref(), term.as_deref()),
        };
        Self {
            stdout: Box::new(io::stdout().lock()),
            stderr: Box::new(io::stderr()),
            style: on(io::stdout().is_terminal()),
            error_style: on(io::stderr().is_terminal()),
            progress: io::stderr().is_terminal(),
        }
    }

    /// Streams of a test, without colours.
    #[cfg(test)]
    pub(crate) fn to(stdout: impl Write + 'static, stderr: impl Write + 'static) -> Self {
        let plain = Style { colour: false };
        Self {
            stdout: Box::new(stdout),
            stderr: Box::new(stderr),
            style: plain,
            error_style: plain,
            progress: false,
        }
    }

    /// Writes text as it is, and flushes: a watch must not lag behind.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Error> {
        self.stdout.write_all(text.as_bytes())?;
        Ok(self.stdout.flush()?)
    }

    /// Writes a value as JSON or YAML.
    pub(crate) fn value(&mut self, value: &Value, form: Structured) -> Result<(), Error> {
        self.text(&match form {
            Structured::Json => render::json(value),
            Structured::Yaml => render::yaml(value),
        })
    }

    /// Writes a remark about the result, such as "No resources found".
    pub(crate) fn note(&mut self, text: &str) {
        self.say(&format!("{text}\n"));
    }

    /// Writes a warning.
    pub(crate) fn warning(&mut self, text: &str) {
        let label = self.error_style.paint(Tone::Warn, "Warning:");
        self.say(&format!("{label} {text}\n"));
    }

    /// Writes an error with all its causes.
    pub(crate) fn error(&mut self, error: &Error) {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(e) = cause {
            text.push_str(&format!(": {e}"));
            cause = e.source();
        }
        let label = self.error_style.paint(Tone::Bad, "Error:");
        self.say(&format!("{label} {}\n", text.trim_end()));
    }

    /// Replaces the progress line, on a terminal only; an empty text clears it.
    pub(crate) fn progress(&mut self, text: &str) {
        if self.progress {
            self.say(&format!("\r\u{1b}[K{text}"));
        }
    }

    /// Standard error that cannot be written to is nothing to stop for.
    fn say(&mut self, text: &str) {
        let _ = self
            .stderr
            .write_all(text.as_bytes())
            .and_then(|()| self.stderr.flush());
    }
}

#[cfg(test)]
mod tests;
