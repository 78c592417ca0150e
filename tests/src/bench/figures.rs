//! Reading what a process uses, and printing figures.
//!
//! *Invariant:* what is read is the kernel's own account, never an estimate.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// The kernel's account of a process.
pub(super) struct Usage(PathBuf);

impl Usage {
    pub(super) fn of(pid: u32) -> Self {
        Self(format!("/proc/{pid}").into())
    }

    /// Memory that is resident and not backed by a file, in bytes.
    pub(super) fn rss(&self) -> Result<u64> {
        let status = std::fs::read_to_string(self.0.join("status")).context("reading memory")?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
        Ok(1024 * kib.context("no RssAnon")?.parse::<u64>()?)
    }

    /// Time its threads have spent on processors.
    pub(super) fn cpu(&self) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for task in std::fs::read_dir(self.0.join("task")).context("reading tasks")? {
            // A thread may end meanwhile; the pusher's pools keep theirs.
            if let Ok(stat) = std::fs::read_to_string(task?.path().join("schedstat")) {
                let nanos = stat.split(' ').next().context("no time on the processor")?;
                total += Duration::from_nanos(nanos.parse()?);
            }
        }
        Ok(total)
    }
}

/// Prints one line of the table.
pub(super) fn say(what: &str, figure: &str) {
    anstream::println!("| {what} | {figure} |");
}

/// The median and the tail.
pub(super) fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |percent: usize| {
        let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(index).copied().unwrap_or_default()
    };
    format!(
        "p50 {:.2?}, p90 {:.2?}, p99 {:.2?}, max {:.2?}",
        at(50),
        at(90),
        at(99),
        at(100)
    )
}

/// Bytes as people read them.
pub(super) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}
