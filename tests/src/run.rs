//! A run directory: where one run of the stack keeps its logs, bootstraps and data.
//!
//! *Invariant:* nothing is written outside the directory.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::process::Environment;

/// A directory for logs and data. Removed when dropped, unless it was named by the caller or the thread is panicking,
/// when its logs are what one wants to read.
#[derive(Debug)]
pub struct Run {
    dir: PathBuf,
    temporary: bool,
    trace: bool,
    /// What services find in their environment.
    pub(crate) environment: Environment,
    /// What programs are started by, if not by themselves.
    command: Vec<String>,
}

impl Run {
    /// The same, where services log everything there is to say.
    #[must_use]
    pub fn tracing(mut self) -> Self {
        self.trace = true;
        self
    }

    /// The same, where services find these variables in their environment, as well.
    #[must_use]
    pub fn with_environment(mut self, variables: &[(&str, String)]) -> Self {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()));
        self.environment.extend(variables);
        self
    }

    /// The same directory, kept, where programs are started as arguments of another, such as one that enters a network
    /// namespace.
    #[must_use]
    pub fn by(&self, command: Vec<String>) -> Self {
        Self {
            dir: self.dir.clone(),
            temporary: false,
            trace: self.trace,
            environment: self.environment.clone(),
            command,
        }
    }

    /// A program and its arguments, as they are started in this run.
    pub(crate) fn command(
        &self,
        program: &Path,
        args: &[String],
    ) -> Result<(PathBuf, Vec<String>)> {
        let Some((first, words)) = self.command.split_first() else {
            return Ok((program.to_owned(), args.to_owned()));
        };
        let program = program
            .to_str()
            .context("the path of a program is not UTF-8")?;
        Ok((first.into(), [words, &[program.to_owned()], args].concat()))
    }

    /// The flags by which a service logs what this run wants to know.
    pub(crate) fn log_flags(&self) -> Vec<String> {
        match self.trace {
            true => ["--log", "trace"].map(ToOwned::to_owned).into(),
            false => Vec::new(),
        }
    }

    /// A new directory under the system's temporary one, named after `name`.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn temporary(name: &str) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix(&format!("weft-{name}-"))
            .tempdir()
            .context("creating a run directory")?
            .keep();
        Ok(Self {
            dir,
            temporary: true,
            trace: false,
            environment: Environment::new(),
            command: Vec::new(),
        })
    }

    /// This directory, created if absent and kept.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn at(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        Ok(Self {
            dir: dir.to_owned(),
            temporary: false,
            trace: false,
            environment: Environment::new(),
            command: Vec::new(),
        })
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.temporary {
            return;
        }
        if std::thread::panicking() || std::env::var_os("WEFT_KEEP_LOGS").is_some() {
            tracing::info!("logs are in {}", self.dir.display());
        } else if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            tracing::warn!("removing {}: {error}", self.dir.display());
        }
    }
}
